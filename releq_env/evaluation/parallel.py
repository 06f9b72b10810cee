"""Several retrainings at once: single-threaded worker processes that share the data in memory."""

import contextlib
import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

import torch.multiprocessing  # noqa: F401  # teaches multiprocessing to pass tensors without copying them

from releq_env.errors import ReLeQError
from releq_env.evaluation.retraining import Data, RetrainingEvaluator

Assignment = tuple[int, ...]
_DEATHS = 2  # of workers under one assignment, after which it is not tried again
_PATIENCE = 5.0  # seconds that a worker is given to end by itself


class WorkerError(RuntimeError):
    """An exception in a worker process; its traceback is the message of its cause."""


class WorkerPool:
    """Worker processes (spawn) that retrain assignments. They start at the first use.

    Args:
        retraining: What every worker computes.
        workers: How many.
    """

    def __init__(self, retraining: RetrainingEvaluator, workers: int) -> None:
        self._retraining = retraining
        self.workers = workers
        self._workers: list[_Worker] = []

    def measure(
        self, assignments: Sequence[Assignment], retrain_seed: int
    ) -> Iterator[tuple[Assignment, tuple[float, float]]]:
        """Yield every assignment with its accuracy and seconds, in the order in which they finish.

        An assignment whose worker dies is tried once more, by a new worker.

        Raises:
            WorkerError: If measuring raises in a worker.
            ReLeQError: After all others are measured, if an assignment's second worker died, too.
        """
        waiting = deque(assignments)
        deaths = dict.fromkeys(assignments, 0)
        try:
            while waiting or any(worker.assignment for worker in self._workers):
                self._occupy(waiting, retrain_seed)
                for worker in self._ready():
                    assignment = worker.assignment
                    assert assignment is not None
                    result = worker.receive()
                    if result is not None:
                        yield assignment, result
                        continue
                    self._workers.remove(worker)
                    deaths[assignment] += 1
                    if deaths[assignment] < _DEATHS:
                        waiting.append(assignment)
        finally:
            self._dismiss([worker for worker in self._workers if worker.assignment])  # on errors and Ctrl-C
        lost = [assignment for assignment, count in deaths.items() if count == _DEATHS]
        if lost:
            raise ReLeQError(
                f"two workers died measuring {lost[0]} ({len(lost)} such in all): killed, out of memory, or started "
                "by a script without `if __name__ == '__main__':`? Give fewer workers or mend the script; "
                "what was finished before is kept"
            )

    def close(self) -> None:
        """End the workers. They start again at the next use."""
        self._dismiss(list(self._workers))

    def _occupy(self, waiting: "deque[Assignment]", retrain_seed: int) -> None:
        """Give idle workers something to do, starting those that are missing."""
        self._dismiss([worker for worker in self._workers if worker.assignment is None and not worker.alive])
        while waiting:
            worker = next((worker for worker in self._workers if worker.assignment is None), None)
            if worker is None:
                if len(self._workers) >= self.workers:
                    return
                worker = _Worker(self._retraining)
                self._workers.append(worker)
            worker.begin(waiting.popleft(), retrain_seed)

    def _ready(self) -> list["_Worker"]:
        """Wait until busy workers have answered or died, and return them."""
        busy = {worker.connection: worker for worker in self._workers if worker.assignment}
        return [busy[connection] for connection in wait(list(busy)) if isinstance(connection, Connection)]

    def _dismiss(self, workers: list["_Worker"]) -> None:
        for worker in workers:
            self._workers.remove(worker)
            worker.end()


class _Worker:
    """The parent's side of a worker process.

    Attributes:
        connection: To the process; readable when it has answered, and when it has died.
        assignment: What it is measuring, or `None`.
    """

    def __init__(self, retraining: RetrainingEvaluator) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.assignment: Assignment | None = None
        self._process = context.Process(
            target=_work, args=(retraining, retraining.shared_data(), theirs), daemon=True, name="releq-worker"
        )
        with _sigint_blocked():  # until the process ignores it itself
            self._process.start()
        theirs.close()  # so that the connection ends with the process

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, assignment: Assignment, retrain_seed: int) -> None:
        """Have an assignment measured."""
        self.assignment = assignment
        with contextlib.suppress(OSError):  # it has died since; receive() says so
            self.connection.send((assignment, retrain_seed))

    def receive(self) -> tuple[float, float] | None:
        """Return accuracy and seconds, or `None` if the process has died.

        Raises:
            WorkerError: If measuring raised in the process.
        """
        assignment, self.assignment = self.assignment, None
        try:
            result, error, details = self.connection.recv()
        except (EOFError, OSError):
            self.end()
            return None
        if isinstance(error, ReLeQError):
            raise error
        if error is not None:
            raise WorkerError(f"measuring {assignment} failed in a worker: {error}") from RuntimeError(details)
        measured: tuple[float, float] = result
        return measured

    def end(self) -> None:
        """End the process, politely if it is idle."""
        self.connection.close()
        if self.assignment is not None:
            self._process.terminate()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(retraining: RetrainingEvaluator, data: Data | None, connection: Connection) -> None:
    """Measure what comes along, until the connection ends, as it does when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if data is not None:
        retraining.adopt(data)
    while True:
        try:
            assignment, retrain_seed = connection.recv()
        except (EOFError, OSError):
            return
        answer: tuple[tuple[float, float] | None, Exception | None, str]
        try:
            answer = (retraining.measure(assignment, retrain_seed), None, "")
        except Exception as error:  # whatever it is, it is the parent's to judge
            answer = (None, _portable(error), traceback.format_exc())
        try:
            connection.send(answer)
        except OSError:
            return


def _portable(error: Exception) -> Exception:
    """Return an error that survives pickling."""
    return ReLeQError(str(error)) if isinstance(error, ReLeQError) else RuntimeError(f"{type(error).__name__}: {error}")
