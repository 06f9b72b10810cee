"""Every searcher keeps the contract; those that learn do better than chance."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from statistics import mean
from typing import Any

import numpy as np
import pytest

from releq_env import Problem, ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.searchers import SEARCHERS, make_searcher, search_loop
from tests.agents import problems


def found_by(name: str, problem: Problem, seed: int = 0, **limits: Any) -> list[Evaluation]:
    return list(itertools.chain(*search_loop(problem, make_searcher(name, problem, seed), **limits)))


@pytest.fixture(params=["four_layers", "uneven", "bounded", "fewer_bits_dearer"])
def problem(request: pytest.FixtureRequest) -> Problem:
    return getattr(problems, request.param)()


@pytest.fixture(params=list(SEARCHERS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("batch", [1, 5])
def test_finds_the_optimum_and_ends(name: str, problem: Problem, batch: int) -> None:
    found = found_by(name, problem, batch=batch, budget=300)
    assert problem.merit(max(found, key=problem.merit)) == problems.optimum(problem)


def test_asks_only_for_what_keeps_max_cost(name: str, problem: Problem) -> None:
    assert all(problem.keeps_max_cost(each.bitwidths) for each in found_by(name, problem))


def test_a_small_space_is_searched_completely_and_nothing_twice(name: str, problem: Problem) -> None:
    found = [each.bitwidths for each in found_by(name, problem, batch=3)]
    kept = [each for each in itertools.product(*problem.choices) if problem.keeps_max_cost(each)]
    assert sorted(found) == sorted(kept)


def test_one_seed_one_search(name: str) -> None:
    runs = [[each.bitwidths for each in found_by(name, problems.four_layers(), seed, budget=60)] for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_the_budget_is_kept(name: str) -> None:
    problem = problems.four_layers()
    found_by(name, problem, batch=8, budget=11)
    assert problem.evaluator.distinct_evaluations == 11


def test_asks_for_at_most_n(name: str, problem: Problem) -> None:
    asked = make_searcher(name, problem).ask(4)
    assert 1 <= len(asked) <= 4


def test_many_layers_under_a_tight_bound(name: str) -> None:
    problem = Problem.from_function(30, list(range(1, 9)), lambda bitwidths: 0.9, max_cost=0.2)
    found = found_by(name, problem, budget=40, batch=8)
    assert len(found) == 40
    assert all(problem.keeps_max_cost(each.bitwidths) for each in found)


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
for name in SEARCHERS:
    problem = Problem.from_function(3, [1, 2, 4], lambda bits: 0.9)
    for _ in search_loop(problem, make_searcher(name, problem), budget=20): pass
print([name for name in ("torch", "stable_baselines3") if name in sys.modules])
"""
    assert python(code).strip() == "[]"
