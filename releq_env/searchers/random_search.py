"""Uniform random search: what any other agent has to beat."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.workers.waiting import Assignment

_LISTED = 2**16  # a space of up to so many assignments is shuffled, a larger one drawn from
_BINS = 64  # of cost a layer, and 1,024 at least, when drawing within `max_cost`
_FRUITLESS = 10_000  # so many draws in a row that bring nothing new end the search


class RandomSearch:
    """Asks for assignments that keep `max_cost`, all of them equally likely, none of them twice.

    Args:
        problem: What is searched.
        seed: Seeds it.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._counts = np.array([len(of_layer) for of_layer in problem.choices])
        self._asked: set[Assignment] = set()
        size = math.prod(map(int, self._counts))
        self._order = self._generator.permutation(size).tolist() if size <= _LISTED else None
        if self._order is None:
            self._weights, self._ways = _ways_to_stay_within(problem, self._counts)

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` assignments that were not asked for before."""
        found: list[Assignment] = []
        fruitless = 0
        while len(found) < n and fruitless < _FRUITLESS:
            if self._order == []:
                break
            chosen = self._draw() if self._order is None else np.unravel_index(self._order.pop(), self._counts)
            assignment = self._problem.assignment(chosen)
            if assignment in self._asked or not self._problem.keeps_max_cost(assignment):
                fruitless += self._order is None
                continue
            fruitless = 0
            self._asked.add(assignment)
            found.append(assignment)
        return found

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Nothing is learned from what was found."""

    def _draw(self) -> list[int]:
        """Draw one layer after the other, each choice as often as there are ways to go on from it."""
        left = len(self._ways[0]) - 1
        chosen: list[int] = []
        for layer, count in enumerate(self._counts):
            rest = left - self._weights[layer, :count]
            ways = np.where(rest >= 0, self._ways[layer + 1][np.maximum(rest, 0)], 0.0)
            index = int(self._generator.choice(count, p=ways / ways.sum()))
            left -= int(self._weights[layer, index])
            chosen.append(index)
        return chosen


def _ways_to_stay_within(
    problem: Problem, counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """Count how many assignments of the last layers stay within a rest of the cost.

    Costs are rounded down to bins, so that none within `max_cost` is missed; the few beyond it have to be
    dropped by whoever draws.

    Returns:
        The cost of each choice in bins, shape `(layers, choices)`, and for every layer the number of ways, up to
        a factor a layer, by the bins that are left, shape `(bins + 1,)`.
    """
    bound = problem.max_cost or math.inf
    share = problem.costs / problem.costs.max(axis=1).sum() / bound
    count_of_bins = max(_BINS * len(counts), 1024)
    weights = np.floor(share * count_of_bins * (1.0 - 1e-9)).astype(np.int64)
    bins = np.arange(count_of_bins + 1)
    ways = [np.ones(len(bins))]
    for row, count in zip(weights[::-1], counts[::-1], strict=True):
        rest = bins[:, None] - row[:count]
        ways.insert(0, np.where(rest >= 0, ways[0][np.maximum(rest, 0)], 0.0).sum(axis=1))
        ways[0] /= ways[0].max()  # only ratios matter, and 8 choices of 400 layers are beyond a float
    return weights, ways
