"""Greedy descent lowers what costs least, then begins at the next best."""

import numpy as np

from releq_env import Problem
from releq_env.layer_info import LayerInfo
from releq_env.searchers.greedy import Greedy
from tests.agents import problems
from tests.searchers.test_searchers import found_by


def test_descends_from_the_best_uniform_assignment() -> None:
    found = [each.bitwidths for each in found_by("greedy", problems.four_layers(), budget=40)]
    assert found[:4] == problems.four_layers().uniform()
    assert set(found[4:8]) == {(2, 3, 3, 3), (3, 2, 3, 3), (3, 3, 2, 3), (3, 3, 3, 2)}
    assert problems.NEEDED in found[:20]


def test_saved_cost_counts() -> None:
    """The first layer loses a little more, and saves ten times as much."""
    sizes = [
        LayerInfo(name, n=1, c=1, k=1, weights=weights, macs=1, std=1.0) for name, weights in (("a", 10), ("b", 1))
    ]
    lost = np.array([0.002, 0.001])

    def accuracy(bitwidths: tuple[int, ...]) -> float:
        return 1.0 - float(lost @ (4 - np.array(bitwidths))) - 0.02 * (min(bitwidths) < 3)

    problem = Problem.from_function(
        2, [2, 3, 4], accuracy, layers=sizes, cost="weighted_bits", min_relative_accuracy=0.9975
    )
    found = [each.bitwidths for each in found_by("greedy", problem, budget=7)]
    assert set(found[3:5]) == {(3, 4), (4, 3)}
    assert (2, 4) in found[5:]  # a step further down from (3, 4); (4, 2) from (4, 3)
    assert (4, 2) not in found


def test_lowers_the_cost_not_the_bits() -> None:
    """One bit is the dearest here: four bits come down to three, three to two, and one to four."""
    problem = problems.fewer_bits_dearer()
    found = [each.bitwidths for each in found_by("greedy", problem, budget=12)]
    assert (1, 1, 1, 1) not in found
    assert all(problem.keeps_max_cost(each) for each in found)


def test_a_round_is_a_batch() -> None:
    problem = problems.four_layers()
    searcher = Greedy(problem)
    searcher.tell(problem.evaluator.evaluate_many(searcher.ask(4)))
    assert len(searcher.ask(8)) == 4
    assert len(searcher.ask(3)) == 3


def test_nothing_to_lower() -> None:
    problem = Problem.from_function(3, [4], lambda bitwidths: 0.9)
    assert [each.bitwidths for each in found_by("greedy", problem)] == [(4, 4, 4)]
