import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from releq_env.errors import ReLeQError
from releq_env.evaluation import CachedEvaluator, Evaluation, EvaluationCache, make_evaluator
from releq_env.evaluation.parallel import WorkerError
from releq_env.tasks import TASKS, load_pretrained

ASSIGNMENTS = [(1, 1, 1, 1), (2, 2, 2, 2), (1, 2, 1, 2), (8, 1, 8, 1)]


def build() -> CachedEvaluator:
    task = TASKS["digits"]
    return make_evaluator(task, load_pretrained(task), cache=None, retrain_images=64)


@pytest.fixture(scope="module")
def parallel() -> Iterator[CachedEvaluator]:
    """One pool for all tests: starting it costs seconds."""
    evaluator = build()
    evaluator.workers = 2
    yield evaluator
    evaluator.close()


def test_accuracies_are_those_of_one_process(parallel: CachedEvaluator) -> None:
    results = parallel.evaluate_many(ASSIGNMENTS)
    alone = build().evaluate_many(ASSIGNMENTS)
    assert [(r.bitwidths, r.accuracy) for r in results] == [(r.bitwidths, r.accuracy) for r in alone]
    assert (parallel.distinct_evaluations, parallel.retrained) == (4, 4)


def test_reseeded_shares_the_workers_but_not_the_seed(parallel: CachedEvaluator) -> None:
    other = parallel.reseeded(1)
    results = other.evaluate_many(ASSIGNMENTS)
    alone = build().reseeded(1).evaluate_many(ASSIGNMENTS)
    assert [r.accuracy for r in results] == [r.accuracy for r in alone]
    assert other.distinct_evaluations == 4


def pids(evaluator: CachedEvaluator) -> list[int]:
    return [worker.pid for worker in evaluator._started_pool()._workers]


class Spy:
    """Tells of every evaluation, and kills busy workers when it is told to."""

    def __init__(self, evaluator: CachedEvaluator, deadly: tuple[int, ...] | None = None, times: int = 0) -> None:
        self.done: list[tuple[int, ...]] = []
        self._pool, self._deadly, self._times = evaluator._started_pool(), deadly, times

    def requested(self, assignments: object) -> None:
        threading.Thread(target=self._kill, daemon=True).start()

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        self.done.append(evaluation.bitwidths)

    def _kill(self) -> None:
        while self._times:
            for worker in list(self._pool._workers):
                if worker.assignment == self._deadly and worker.alive:
                    os.kill(worker.pid, signal.SIGKILL)
                    self._times -= 1
                    while worker.alive:
                        time.sleep(0.001)
            time.sleep(0.001)


def test_a_worker_killed_under_way_costs_no_evaluation(parallel: CachedEvaluator) -> None:
    more = [(3, 3, 3, 3), (4, 4, 4, 4), (5, 5, 5, 5)]
    parallel.listener = Spy(parallel, deadly=more[1], times=1)
    results = parallel.evaluate_many(more)
    parallel.listener = None
    assert [r.accuracy for r in results] == [r.accuracy for r in build().evaluate_many(more)]


def test_a_second_death_names_the_assignment_and_harms_no_other(parallel: CachedEvaluator) -> None:
    more = [(3, 1, 3, 1), (4, 1, 4, 1), (5, 1, 5, 1), (6, 1, 6, 1)]
    spy = parallel.listener = Spy(parallel, deadly=more[1], times=2)
    with pytest.raises(ReLeQError, match=r"two workers died measuring \(4, 1, 4, 1\)") as raised:
        parallel.evaluate_many(more)
    parallel.listener = None
    assert "\n" not in str(raised.value)
    assert sorted(spy.done) == [more[0], more[2], more[3]]
    assert parallel.evaluate((4, 1, 4, 1)).accuracy == build().evaluate((4, 1, 4, 1)).accuracy


def test_idle_workers_that_were_killed_are_replaced(parallel: CachedEvaluator) -> None:
    parallel.evaluate_many([(6, 6, 6, 6), (7, 7, 7, 7)])
    for pid in pids(parallel):
        os.kill(pid, signal.SIGKILL)
    assert len(parallel.evaluate_many([(8, 8, 8, 8), (1, 8, 1, 8)])) == 2


def test_an_exception_in_a_worker_arrives_with_its_cause(parallel: CachedEvaluator) -> None:
    with pytest.raises(WorkerError, match=r"measuring \((1, 2|2, 1)\) failed in a worker: ValueError") as raised:
        parallel.evaluate_many([(1, 2), (2, 1)])  # too short for the network
    assert "Traceback" in str(raised.value.__cause__)
    assert parallel.evaluate((2, 2, 4, 4)).accuracy > 0.5  # and the pool still works


def test_wrong_input_in_a_worker_stays_one_line(parallel: CachedEvaluator) -> None:
    with pytest.raises(ReLeQError, match="9, which lsq does not support"):
        parallel.evaluate_many([(9, 9, 9, 9), (9, 1, 1, 1)])


def test_workers_end_with_the_evaluator() -> None:
    evaluator = build()
    evaluator.workers = 2
    evaluator.evaluate_many(ASSIGNMENTS[:2])
    workers = list(evaluator._started_pool()._workers)
    evaluator.close()
    evaluator.close()
    assert not any(worker.alive for worker in workers)
    assert evaluator.evaluate_many([(3, 3, 3, 3), (4, 4, 4, 4)])  # and come back when they are needed
    evaluator.close()


INTERRUPTED = """
import sys
from releq_env.evaluation import make_evaluator
from releq_env.tasks import TASKS, load_pretrained

if __name__ == "__main__":
    task = TASKS["digits"]
    evaluator = make_evaluator(task, load_pretrained(task), cache=sys.argv[1], retrain_images=4000)
    evaluator.workers = 2

    class Tell:
        def requested(self, assignments): ...
        def evaluated(self, evaluation, retrained):
            print(*(worker.pid for worker in evaluator_._pool._workers), flush=True)

    evaluator_ = evaluator
    evaluator.listener = Tell()
    evaluator.evaluate_many([(a, b, c, 1) for a in range(1, 9) for b in range(1, 9) for c in range(1, 9)])
"""


def test_ctrl_c_leaves_no_process_and_loses_nothing_finished(tmp_path: Path) -> None:
    script, cache = tmp_path / "script.py", tmp_path / "cache.sqlite"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody
    rest, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count("KeyboardInterrupt") == 1
    finished = len([line for line in [*lines, *rest.splitlines()] if line.strip()])
    assert len(EvaluationCache(cache)) >= finished >= 3
    for pid in lines[-1].split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
