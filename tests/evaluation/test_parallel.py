import os
import signal
from collections.abc import Iterator

import pytest

from releq_env.evaluation import CachedEvaluator, make_evaluator
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


def test_workers_killed_under_way_cost_no_evaluation(parallel: CachedEvaluator) -> None:
    more = [(3, 3, 3, 3), (4, 4, 4, 4), (5, 5, 5, 5)]

    class Killer:
        def requested(self, assignments: object) -> None:
            for process in parallel._started_pool()._executor._processes.values():  # started by the tests above
                os.kill(process.pid, signal.SIGKILL)

        def evaluated(self, evaluation: object, retrained: bool) -> None: ...

    parallel.evaluate_many([(6, 6, 6, 6), (7, 7, 7, 7)])
    parallel.listener = Killer()
    results = parallel.evaluate_many(more)
    parallel.listener = None
    assert [r.accuracy for r in results] == [r.accuracy for r in build().evaluate_many(more)]
