"""Everything, by rising cost."""

import itertools

import pytest

from releq_env import Problem
from releq_env.searchers.exhaustive import Exhaustive
from tests.agents import problems
from tests.searchers.test_searchers import found_by


@pytest.mark.parametrize("name", ["four_layers", "uneven", "bounded", "fewer_bits_dearer"])
@pytest.mark.parametrize("cost", [None, "energy", "size"])
def test_costs_rise(name: str, cost: str | None) -> None:
    problem = getattr(problems, name)()
    problem = problem.replace(cost=cost, max_cost=None) if cost else problem
    costs = [problem.state_of_quantization(each.bitwidths) for each in found_by("exhaustive", problem, batch=7)]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(costs))
    kept = [each for each in itertools.product(*problem.choices) if problem.keeps_max_cost(each)]
    assert len(costs) == len(kept)


def test_the_first_that_is_accurate_is_the_best() -> None:
    problem = problems.four_layers()
    found = found_by("exhaustive", problem)
    first = next(each for each in found if problem.is_success(each))
    assert problem.objective(first) == max(map(problem.objective, found))


def test_a_space_too_large_to_list() -> None:
    problem = Problem.from_function(50, list(range(1, 9)), lambda bitwidths: 0.9)
    asked = Exhaustive(problem).ask(200)
    assert asked[0] == (1,) * 50
    assert sorted(map(sum, asked[1:51])) == [51] * 50
    assert {sum(each) for each in asked[51:]} == {52}


def test_equal_costs_come_in_the_order_of_the_seed() -> None:
    problem = problems.four_layers()
    assert Exhaustive(problem, 1).ask(20) == Exhaustive(problem, 1).ask(20)
    assert Exhaustive(problem, 1).ask(20) != Exhaustive(problem, 2).ask(20)
