"""Everything, the cheapest first."""

import heapq
from collections.abc import Sequence

import numpy as np

from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.workers.waiting import Assignment


class Exhaustive:
    """Asks for all assignments that keep `max_cost`, by rising cost; those of the same cost in random order.

    The next one is found when it is asked for, so that a space need not fit into memory. Where the objective is that
    the cheapest wins among those that are accurate enough, the first such is the best.

    Args:
        problem: What is searched.
        seed: Seeds the order of those of the same cost.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        # The choices of each layer by rising cost: a step along a layer costs something, or nothing.
        self._orders = [
            sorted(range(len(of_layer)), key=costs.__getitem__)
            for of_layer, costs in zip(problem.choices, problem.costs.tolist(), strict=True)
        ]
        self._heap: list[tuple[float, float, tuple[int, ...], int]] = []
        self._push((0,) * problem.num_layers, 0)

    def ask(self, n: int) -> list[Assignment]:
        """Return the `n` cheapest that were not asked for before."""
        asked: list[Assignment] = []
        while self._heap and len(asked) < n:
            _, _, steps, last = heapq.heappop(self._heap)
            choices = [order[step] for order, step in zip(self._orders, steps, strict=True)]
            assignment = self._problem.assignment(choices)
            if not self._problem.keeps_max_cost(assignment):  # nor does any that comes after it
                self._heap.clear()
                break
            asked.append(assignment)
            # Layers before the last one that was stepped along are left as they are: one way leads to each assignment.
            for layer in range(last, len(steps)):
                if steps[layer] + 1 < len(self._orders[layer]):
                    self._push((*steps[:layer], steps[layer] + 1, *steps[layer + 1 :]), layer)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Nothing is learned from what was found."""

    def _push(self, steps: tuple[int, ...], last: int) -> None:
        costs = (
            self._problem.costs[layer, order[step]]
            for layer, (order, step) in enumerate(zip(self._orders, steps, strict=True))
        )
        heapq.heappush(self._heap, (float(sum(costs)), self._generator.random(), steps, last))
