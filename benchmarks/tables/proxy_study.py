"""What a table says of sensitivities, in numbers: how well they rank, and what adding them up misses."""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables.additive import (
    Parts,
    fitted,
    indices_of,
    most_accurate,
    parts,
    spearman,
    spearman_at_equal_cost,
    summed,
)
from releq_env.cost import COSTS, cost_matrix
from releq_env.errors import ReLeQError
from releq_env.searchers.knapsack import knapsack_front
from releq_env.sensitivity import PROXIES
from releq_env.tables import AccuracyTable

Floats = NDArray[np.float64]

SUMMED = ("mean_bits", "size")
"""The costs for which budgets are answered."""
FITTED = "best sum"
"""The sum over the layers that is nearest to the table itself, by least squares."""
_POINTS = 100.0


class Gaps(NamedTuple):
    """How far the answers of a knapsack are from the optimum of each budget.

    Attributes:
        budgets: States of Quantization, ascending, shape `(budgets,)`.
        optimum: Accuracy of the best within each, in [0, 1].
        answer: Of the knapsack's answer; NaN where that was not measured.
        unseen: Optimum less answer by other seeds than that of which the optimum is, and to which what is fitted is
            fitted; in percentage points. NaN where there are none.
        usable: Whether something within the budget keeps the accuracy constraint.
        cheapest: The smallest budget whose answer keeps the constraint, NaN if none does.
    """

    budgets: Floats
    optimum: Floats
    answer: Floats
    unseen: Floats
    usable: NDArray[np.bool_]
    cheapest: float

    @property
    def gaps(self) -> Floats:
        """Optimum less answer in percentage points, shape `(budgets,)`."""
        return _POINTS * (self.optimum - self.answer)


class Study:
    """A table beside its sensitivities.

    Args:
        table: The table.

    Attributes:
        table: As given.
        known: Its sensitivities.
        bitwidths: The assignments that all complete seeds measured, shape `(rows, layers)`.
        accuracy: The mean over these seeds, in [0, 1], shape `(rows,)`.
        one: That of the first of them.
        others: The mean of all but the first; `None` if there is one.

    Raises:
        ReLeQError: If it holds no sensitivities.
    """

    def __init__(self, table: AccuracyTable) -> None:
        known = table.sensitivities
        if known is None:
            raise ReLeQError(
                f"the table {table.name!r} holds no sensitivities; build it again with "
                "python -m benchmarks.tables.build"
            )
        self.table, self.known = table, known
        self.seeds = table.whole_seeds or table.seeds[:1]
        rows = np.flatnonzero(~np.isnan(table.values(self.seeds[0])))
        self.bitwidths = table.bitwidths[rows]
        by_seed = np.stack([table.values(seed)[rows] for seed in self.seeds])
        self.accuracy, self.one = by_seed.mean(axis=0), by_seed[0]
        self.others = by_seed[1:].mean(axis=0) if len(by_seed) > 1 else None
        self._indices = indices_of(self.bitwidths, table.choices)
        self._index = {row: index for index, row in enumerate(map(tuple, self._indices.tolist()))}

    @cached_property
    def losses(self) -> dict[str, Floats]:
        """`L[layer, choice]` by proxy; the last one is fitted to the table."""
        found = {name: self.known.matrix(name, self.table.choices) for name in PROXIES if name in self.known.proxies}
        return found | {FITTED: self._fitted(self.modelled)}

    @cached_property
    def _losses_of_one(self) -> dict[str, Floats]:
        """The same without a look at other seeds than the first."""
        return self.losses | {FITTED: self._fitted(self._scaled(self.one))}

    def _fitted(self, modelled: Floats) -> Floats:
        return fitted(self._indices, -modelled, self.table.choices)

    @cached_property
    def modelled(self) -> Floats:
        """The accuracies on a scale on which a collapse does not drown the rest.

        `-asinh(loss / loss that the constraint allows)`: a logarithm where much is lost, as the searcher `gp` has it.
        """
        return self._scaled(self.accuracy)

    def _scaled(self, accuracy: Floats) -> Floats:
        allowed = max(1.0 - self.table.min_relative_accuracy, 0.002)
        return -np.arcsinh((1.0 - accuracy / self.table.full_precision_accuracy) / allowed)

    @cached_property
    def average_bits(self) -> Floats:
        """Of each assignment."""
        return self.bitwidths.mean(axis=1)

    def predicted(self, name: str) -> Floats:
        """Return the summed losses of every assignment by a proxy."""
        return summed(self.losses[name], self._indices)

    def ranks(self, predicted: Floats, accuracy: Floats | None = None) -> tuple[float, float, float]:
        """Return Spearman's correlations: over all, in the most accurate fifth, and at equal average bits."""
        accuracy = self.accuracy if accuracy is None else accuracy
        best = most_accurate(accuracy)
        return (
            spearman(predicted, accuracy),
            spearman(predicted[best], accuracy[best]),
            spearman_at_equal_cost(predicted, accuracy, self.average_bits),
        )

    def gaps(self, name: str, cost: str) -> Gaps:
        """Return how far a proxy's knapsack is from the optimum, for every budget of a cost."""
        table = self.table
        costs = cost_matrix(cost, COSTS[cost], table.layers, table.choices)
        q = np.add.reduce(costs[np.arange(table.num_layers), self._indices], axis=1) / costs.max(axis=1).sum()
        budgets = np.unique(q)
        best = _best_within(budgets, q, self.accuracy)
        answer = self._answers(self.losses[name], costs, budgets)
        measured = answer >= 0
        least = table.min_relative_accuracy * table.full_precision_accuracy
        keeps = measured & (self.accuracy[answer] >= least)
        unseen = np.full(len(budgets), np.nan)
        if self.others is not None:
            lucky = _best_within(budgets, q, self.one)
            of_one = self._answers(self._losses_of_one[name], costs, budgets)
            unseen = np.where(of_one >= 0, self.others[lucky] - self.others[of_one], np.nan)
        return Gaps(
            budgets,
            self.accuracy[best],
            np.where(measured, self.accuracy[answer], np.nan),
            _POINTS * unseen,
            self.accuracy[best] >= least,
            float(budgets[keeps][0]) if keeps.any() else math.nan,
        )

    def _answers(self, losses: Floats, costs: Floats, budgets: Floats) -> NDArray[np.int64]:
        """Return which assignment a knapsack answers each budget with; -1 where it was not measured."""
        layers = np.arange(self.table.num_layers)
        front = knapsack_front(costs, losses, [len(each) for each in self.table.choices])
        of_front = costs[layers, front].sum(axis=1) / costs.max(axis=1).sum()
        found = np.array([self._index.get(tuple(row), -1) for row in front.tolist()])
        return found[np.maximum(np.searchsorted(of_front, budgets * (1.0 + 1e-12), side="right") - 1, 0)]

    @cached_property
    def parts(self) -> tuple[Parts, Parts]:
        """What adds up and what interacts, in accuracy and on the scale of `modelled`."""
        choices = self.table.choices
        return parts(self._indices, self.accuracy, choices), parts(self._indices, self.modelled, choices)

    @property
    def measured_by(self) -> str:
        """The seeds, in words."""
        if self.others is None:
            return f"with the seed {self.seeds[0]}"
        return f"mean of the seeds {', '.join(map(str, self.seeds))}"


def _best_within(budgets: Floats, q: Floats, accuracy: Floats) -> NDArray[np.int64]:
    """Return which assignment is the most accurate within each budget; of equals the cheapest."""
    order = np.lexsort((-accuracy, q))
    running = np.maximum.accumulate(accuracy[order])
    first = np.concatenate([[True], running[1:] > running[:-1]])
    leader = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    found: NDArray[np.int64] = leader[np.searchsorted(q[order], budgets, side="right") - 1]
    return found
