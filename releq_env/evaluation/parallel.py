"""Several retrainings at once: one single-threaded worker process a core."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from releq_env.evaluation.retraining import RetrainingEvaluator

_retraining: RetrainingEvaluator | None = None  # of a worker process


class WorkerPool:
    """Worker processes (spawn) that retrain assignments. They start at the first use.

    Args:
        retraining: What every worker computes.
        workers: How many.
    """

    def __init__(self, retraining: RetrainingEvaluator, workers: int) -> None:
        self._retraining = retraining
        self._workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def measure(
        self, assignments: Sequence[tuple[int, ...]], retrain_seed: int
    ) -> Iterator[tuple[tuple[int, ...], tuple[float, float]]]:
        """Yield every assignment with its accuracy and seconds, in the order in which they finish.

        Assignments that a dying worker takes down with it are measured in this process.
        """
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=(self._retraining,),
            )
        left = list(assignments)
        try:
            futures = {self._executor.submit(_measure, assignment, retrain_seed): assignment for assignment in left}
            for future in as_completed(futures):
                result = future.result()
                left.remove(futures[future])
                yield futures[future], result
        except BrokenProcessPool:
            self.close()
            for assignment in left:
                yield assignment, self._retraining.measure(assignment, retrain_seed)

    def close(self) -> None:
        """End the workers. They start again at the next use."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None


def _start(retraining: RetrainingEvaluator) -> None:
    global _retraining  # noqa: PLW0603  # the only state that an executor's initializer can leave behind
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _retraining = retraining
    _retraining.load()


def _end_with_parent() -> None:
    """Leave no worker behind when the parent is killed: an executor's workers would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _measure(assignment: tuple[int, ...], retrain_seed: int) -> tuple[float, float]:
    assert _retraining is not None
    return _retraining.measure(assignment, retrain_seed)
