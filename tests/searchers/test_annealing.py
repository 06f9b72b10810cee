"""Simulated annealing steps down while it is hot, and up when it is cold."""

import itertools
from typing import Any

from releq_env import Problem
from releq_env.searchers import search_loop
from releq_env.searchers.annealing import Annealing
from tests.agents import problems


def asked(problem: Problem, budget: int, **settings: Any) -> list[tuple[int, ...]]:
    told = search_loop(problem, Annealing(problem, **settings), budget=budget)
    return [evaluation.bitwidths for evaluation in itertools.chain(*told)]


def changes(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def off_the_best(problem: Problem, found: list[tuple[int, ...]]) -> int:
    """Count what was no neighbour of the best so far."""
    evaluations = problem.evaluator.evaluate_many(found)
    off = 0
    for count in range(4, len(found)):
        best = max(evaluations[:count], key=problem.merit).bitwidths
        off += changes(best, found[count]) > 1
    return off


def test_cold_it_only_climbs() -> None:
    problem = problems.four_layers()
    assert off_the_best(problem, asked(problem, 18, temperature=1e-9, coldest=1e-9)) == 0


def test_hot_it_wanders() -> None:
    problem = problems.four_layers()
    found = asked(problem, 40, temperature=1e9, cooling=0.999)
    assert found[:4] == problem.uniform()
    assert off_the_best(problem, found) > 20


def test_begins_anew_when_cold() -> None:
    """With one step from the hottest to the coldest, every other assignment is a random one."""
    found = asked(problems.four_layers(), 60, cooling=0.01, coldest=0.1)
    assert sum(changes(a, b) > 1 for a, b in itertools.pairwise(found[4:])) > 30
