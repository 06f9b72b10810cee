"""Every searcher keeps the contract; those that learn do better than chance."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any

import numpy as np
import pytest

from releq_env import Problem, ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.searchers import SEARCHERS, Searcher, make_searcher, search_loop
from releq_env.testing import SearcherContract
from releq_env.testing.problems import PROBLEMS
from tests.agents import problems


def found_by(name: str, problem: Problem, seed: int = 0, **limits: Any) -> list[Evaluation]:
    return list(itertools.chain(*search_loop(problem, make_searcher(name, problem, seed), **limits)))


class TestEverySearcher(SearcherContract):
    """Those of the registry; what they have in common stands in the contract."""

    @pytest.fixture(autouse=True, params=list(SEARCHERS))
    def named(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param
        self.is_random = self.name != "fisher_lp"
        self.is_complete = self.name != "fisher_lp"  # ends when every budget's assignment was evaluated

    @pytest.fixture(params=[*PROBLEMS, "fewer_bits_dearer"])
    def problem(self, request: pytest.FixtureRequest) -> Problem:
        return PROBLEMS[request.param]() if request.param in PROBLEMS else problems.fewer_bits_dearer()

    def make(self, problem: Problem, seed: int) -> Searcher:
        return make_searcher(self.name, problem, seed, **problems.sensitivities(self.name, problem))


def test_random_is_uniform_under_a_bound_too_large_to_list() -> None:
    """Every feasible assignment is as likely: the draws have the mean cost of rejection sampling."""
    problem = Problem.from_function(9, [1, 2, 5, 8], lambda bitwidths: 0.9, max_cost=0.4)
    drawn = make_searcher("random", problem).ask(2000)
    tried = np.random.default_rng(1).choice([1, 2, 5, 8], size=(40_000, 9))
    kept = tried[tried.mean(axis=1) / 8 <= 0.4]
    shares = [[(np.array(each) == bits).mean() for bits in (1, 2, 5, 8)] for each in (drawn, kept)]
    assert shares[0] == pytest.approx(shares[1], abs=0.015)


def test_local_begins_at_the_best_uniform_assignment() -> None:
    problem = problems.four_layers()
    asked = [each.bitwidths for each in found_by("local", problem, budget=12)]
    assert asked[:4] == problem.uniform()
    best = max(problem.evaluator.evaluate_many(problem.uniform()), key=problem.merit).bitwidths
    assert sum(a != b for a, b in zip(asked[4], best, strict=True)) == 1


@pytest.mark.parametrize(("name", "share"), [("local", 0.4), ("annealing", 0.4), ("evolution", 0.7)])
def test_quicker_than_chance(name: str, share: float) -> None:
    def needed(name: str, seed: int) -> int:
        problem = problems.four_layers()
        told = itertools.chain.from_iterable(search_loop(problem, make_searcher(name, problem, seed)))
        return next(count for count, each in enumerate(told) if each.bitwidths == problems.NEEDED)

    quick, chance = (mean(needed(each, seed) for seed in range(20)) for each in (name, "random"))
    assert quick < share * chance


def test_one_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cheapest:
        """Asks for everything, by rising cost."""

        def __init__(self, problem: Problem, seed: int, reverse: bool = False) -> None:
            everything = itertools.product(*problem.choices)
            self._left: Iterator[Any] = iter(sorted(everything, key=problem.state_of_quantization, reverse=reverse))

        def ask(self, n: int) -> list[tuple[int, ...]]:
            return list(itertools.islice(self._left, n))

        def tell(self, evaluations: Sequence[Evaluation]) -> None: ...

    monkeypatch.setitem(SEARCHERS, "cheapest", Cheapest)
    problem = problems.four_layers()
    found = list(itertools.chain(*search_loop(problem, make_searcher("cheapest", problem, 0, reverse=True), budget=9)))
    assert found[0].bitwidths == (4, 4, 4, 4)
    assert len(found) == 9


def test_wrong_answers_end_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problems.four_layers()
    with pytest.raises(ReLeQError, match="choose one of: random, local"):
        make_searcher("gradient", problem)
    searcher = make_searcher("random", problem)
    monkeypatch.setattr(searcher, "ask", lambda n: [(1, 1, 9, 1)])
    with pytest.raises(ReLeQError, match=r"\(1, 1, 9, 1\) does not fit"):
        next(search_loop(problem, searcher))


def test_a_search_needs_no_torch(python: Callable[..., str]) -> None:
    code = """
import sys
from releq_env.problem import Problem
from releq_env.searchers import SEARCHERS, make_searcher, search_loop
from tests.agents.problems import sensitivities
for name in SEARCHERS:
    problem = Problem.from_function(3, [1, 2, 4], lambda bits: 0.9)
    searcher = make_searcher(name, problem, **sensitivities(name, problem))
    for _ in search_loop(problem, searcher, budget=20): pass
print([name for name in ("torch", "stable_baselines3") if name in sys.modules])
"""
    assert python(code).strip() == "[]"
