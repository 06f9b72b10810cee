"""Regularized evolution: parents are young and good, children are theirs but for one change."""

import itertools
from typing import Any

import pytest

from releq_env import ReLeQError
from releq_env.searchers import search_loop
from releq_env.searchers.evolution import Evolution
from tests.agents import problems
from tests.searchers.test_annealing import changes


def history(population: int, tournament: int) -> list[tuple[int, ...]]:
    problem = problems.like_digits()
    searcher = Evolution(problem, 0, population, tournament)
    return [each.bitwidths for each in itertools.chain(*search_loop(problem, searcher, budget=150))]


def test_children_are_one_change_from_the_young() -> None:
    found = history(population=12, tournament=3)
    near = [min(changes(child, parent) for parent in found[i - 12 : i]) for i, child in enumerate(found) if i >= 12]
    assert near.count(1) >= 0.95 * len(near)  # the others are mutated again, since they were known


def test_the_best_dies_of_age() -> None:
    problem = problems.like_digits()
    found = history(population=12, tournament=12)
    merits = [problem.merit(each) for each in problem.evaluator.evaluate_many(found)]
    for i in range(12, len(found)):
        parent = found[max(range(i - 12, i), key=merits.__getitem__)]
        assert changes(found[i], parent) == 1 or min(changes(found[i], known) for known in found[:i]) == 1


@pytest.mark.parametrize("population", [2, 8, 30])
def test_the_first_population_has_the_uniform_ones(population: int) -> None:
    found = history(population, tournament=2)
    assert found[: min(population, 8)] == problems.like_digits().uniform()[:population]
    assert len(set(found)) == 150


@pytest.mark.parametrize("given", [{"population": 0}, {"population": 2.5}, {"tournament": 0}])
def test_nobody_to_choose_from_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ReLeQError, match=f"{next(iter(given))}=.* is not accepted"):
        Evolution(problems.four_layers(), 0, **given)
