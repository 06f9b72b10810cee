"""What the package has of each kind keeps its contract; what does not is caught."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from agents.algorithms.registry import ALGORITHMS, find_agent, read_hyperparams
from releq_env import AccuracyTable, Problem
from releq_env.cost import COSTS
from releq_env.evaluation import FunctionSource
from releq_env.evaluation.live import live_source
from releq_env.evaluation.source import Source
from releq_env.layer_info import LayerInfo
from releq_env.searchers import Searcher
from releq_env.searchers.random_search import RandomSearch
from releq_env.tables import TableSource
from releq_env.testing import CostContract, EnvAgentContract, SearcherContract, SourceContract
from releq_env.testing.problems import bounded, needs_bits, plain
from releq_env.workers.waiting import Assignment

ASSIGNMENTS = [(2, 1, 3, 2), (1, 1, 1, 1), (3, 3, 2, 1)]


class TestFunctionSource(SourceContract):
    def make(self) -> Source:
        return FunctionSource(needs_bits, 0.98, 4)

    def assignments(self) -> list[Assignment]:
        return ASSIGNMENTS


class TestTableSource(SourceContract):
    def make(self) -> Source:
        table = AccuracyTable.from_records(
            ASSIGNMENTS * 2, [0.9, 0.5, 0.7, 0.91, 0.52, 0.7], seeds=[0] * 3 + [1] * 3, full_precision_accuracy=0.98
        )
        return TableSource(table)

    def assignments(self) -> list[Assignment]:
        return ASSIGNMENTS


@pytest.mark.slow
class TestLiveSource(SourceContract):
    def make(self) -> Source:
        return live_source("digits", retrain_images=32, workers=1)

    def assignments(self) -> list[Assignment]:
        return ASSIGNMENTS[:2]


class TestEveryCost(CostContract):
    @pytest.fixture(autouse=True, params=[name for name, cost in COSTS.items() if callable(cost)])
    def named(self, request: pytest.FixtureRequest) -> None:
        self.model = COSTS[request.param]

    def cost(self, layer: LayerInfo, bits: int) -> float:
        return self.model(layer, bits)


QUICK = ("ppo", "dqn", "ddpg")
AGENTS = [algo for algo in ALGORITHMS if not find_agent(algo).searches]


class TestEveryEnvAgent(EnvAgentContract):
    @pytest.fixture(
        autouse=True,
        params=[algo if algo in QUICK else pytest.param(algo, marks=pytest.mark.slow) for algo in AGENTS],
    )
    def named(self, request: pytest.FixtureRequest) -> None:
        self.algo = request.param
        agent = find_agent(self.algo)
        self.masks, self.continuous = agent.masks, agent.continuous

    def make(self, venv: Any, seed: int) -> Any:
        hyperparams = read_hyperparams(self.algo, "ReLeQ-v0")
        for of_run in ("n_timesteps", "n_envs", "env_wrapper"):
            hyperparams.pop(of_run, None)
        if "learning_starts" in hyperparams:
            hyperparams["learning_starts"] = 64
        return find_agent(self.algo).make(venv, seed, **hyperparams)


# What breaks a contract is caught.


class Broken(SearcherContract):
    """A random search with a mistake."""

    def __init__(self, ask: Callable[[RandomSearch, int], list[Assignment]]) -> None:
        self._ask = ask

    def make(self, problem: Problem, seed: int) -> Searcher:
        searcher = RandomSearch(problem, seed)
        searcher.ask = partial(self._ask, RandomSearch(problem, seed))  # type: ignore[method-assign]
        return searcher


def unseeded(searcher: RandomSearch, n: int) -> list[Assignment]:
    return [tuple(np.random.default_rng().choice([1, 2, 3], 4).tolist()) for _ in range(n)]


def too_many(searcher: RandomSearch, n: int) -> list[Assignment]:
    return searcher.ask(n + 1)


def always_the_same(searcher: RandomSearch, n: int) -> list[Assignment]:
    return [(3, 3, 3, 3)] * n


def gives_up(searcher: RandomSearch, n: int) -> list[Assignment]:
    return [] if len(searcher._asked) > 20 else searcher.ask(n)


@pytest.mark.parametrize(
    ("mistake", "test"),
    [
        (unseeded, lambda broken: broken.test_the_same_seed_and_the_same_accuracies_make_the_same_search(plain())),
        (too_many, lambda broken: broken.test_asks_for_at_most_n_and_at_least_one(plain(), 4)),
        (always_the_same, lambda broken: broken.test_keeps_max_cost(bounded(), 1)),
        (gives_up, lambda broken: broken.test_a_small_space_is_searched_completely(plain())),
    ],
)
def test_a_mistake_in_a_searcher_is_caught(mistake: Any, test: Callable[[Broken], None]) -> None:
    count = itertools.count()

    def bounded_ask(searcher: RandomSearch, n: int) -> list[Assignment]:
        return [] if next(count) > 200 else mistake(searcher, n)  # those that repeat themselves would not end

    with pytest.raises(AssertionError):
        test(Broken(bounded_ask))


class Drifting(TestFunctionSource):
    """Accuracies that depend on what was measured before."""

    __test__ = False

    def make(self) -> Source:
        seen: list[Sequence[int]] = []

        def accuracy(bitwidths: Assignment) -> float:
            seen.append(bitwidths)
            return 0.5 + 0.01 * len(seen)

        return FunctionSource(accuracy, 0.98, 4)


def test_a_mistake_in_a_source_is_caught() -> None:
    with pytest.raises(AssertionError):
        Drifting().test_an_accuracy_is_a_function_of_the_assignment()
