"""Measured assignments under one objective: which is best, and how far from it every other one is."""

import math
import operator
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from releq_env.errors import ReLeQError, short
from releq_env.reward import Objective, exceeds
from releq_env.tables.statistics import competition_ranks, expected_best, hypervolume, local_optima, nondominated
from releq_env.workers.waiting import Assignment


class Answer(NamedTuple):
    """An assignment and all that is known of it.

    Attributes:
        bitwidths: One a layer.
        accuracy: In [0, 1].
        relative_accuracy: Over the full-precision accuracy.
        state_of_quantization: Its cost over that of every layer's dearest choice, in (0, 1].
        objective: The reward, `max_cost` included.
    """

    bitwidths: Assignment
    accuracy: float
    relative_accuracy: float
    state_of_quantization: float
    objective: float


class Landscape:
    """What was measured, under one objective. All that it says is of measured assignments only.

    Args:
        bitwidths: Distinct assignments in lexicographic order, shape `(rows, layers)`.
        accuracy: Of each, shape `(rows,)`.
        costs: The State of Quantization of each, shape `(rows,)`.
        full_precision_accuracy: In (0, 1].
        objective: `(a, q) -> float`, `max_cost` included.
        min_relative_accuracy: The accuracy constraint.
        max_cost: Upper bound on the State of Quantization, or `None`.

    Attributes:
        bitwidths: As given.
        accuracy: As given.
        relative: State of Relative Accuracy, shape `(rows,)`.
        costs: As given.
        objectives: Shape `(rows,)`.
    """

    def __init__(
        self,
        bitwidths: NDArray[np.uint8],
        accuracy: NDArray[np.float64],
        costs: NDArray[np.float64],
        full_precision_accuracy: float,
        objective: Objective,
        min_relative_accuracy: float,
        max_cost: float | None = None,
    ) -> None:
        if not len(bitwidths):
            raise ReLeQError("nothing that was measured is among these choices; give others, or another seed")
        self.bitwidths, self.accuracy, self.costs = bitwidths, accuracy, costs
        self.relative = accuracy / full_precision_accuracy
        pairs = zip(self.relative.tolist(), costs.tolist(), strict=True)
        self.objectives = np.array([float(objective(a, q)) for a, q in pairs])
        self._keeps = ~exceeds(costs, math.inf if max_cost is None else max_cost)
        self._min_relative_accuracy = min_relative_accuracy
        self._known = np.where(np.isnan(self.objectives), -np.inf, self.objectives)

    def __len__(self) -> int:
        """Return how many assignments there are."""
        return len(self.bitwidths)

    def optimum(self) -> Answer:
        """Return the best: of those that keep `max_cost` the highest objective, then accuracy, then order."""
        return self._answer(self._order[0])

    def regret(self, bitwidths: Sequence[int]) -> float:
        """Return how far the objective of an assignment is below the optimum's; infinite where it is NaN."""
        return float(self._regrets[self._row(bitwidths)])

    def rank(self, bitwidths: Sequence[int]) -> int:
        """Return 1 + how many assignments are better; those that are as good share a rank."""
        return int(self._ranks[self._row(bitwidths)])

    def answer(self, bitwidths: Sequence[int]) -> Answer:
        """Return what is known of an assignment."""
        return self._answer(self._row(bitwidths))

    def pareto_front(self) -> list[Answer]:
        """Return what no assignment beats in cost and accuracy, by rising cost; equals are all in it."""
        return [self._answer(row) for row in nondominated(self.costs, self.accuracy)]

    def curve(self) -> list[tuple[float, Answer]]:
        """Return for every budget at which something new can be afforded the most accurate answer within it.

        Budgets are States of Quantization, ascending. Of equally accurate answers it is the cheapest.
        """
        front = nondominated(self.costs, self.accuracy)
        first = np.unique(self.costs[front], return_index=True)[1]
        budgets = np.unique(self.costs)
        chosen = front[first][np.searchsorted(self.costs[front][first], budgets, side="right") - 1]
        answers = {row: self._answer(row) for row in set(chosen.tolist())}
        return [(budget, answers[row]) for budget, row in zip(budgets.tolist(), chosen.tolist(), strict=True)]

    def hypervolume(
        self, assignments: Sequence[Sequence[int]] | None = None, reference: tuple[float, float] = (1.0, 0.0)
    ) -> float:
        """Return the area in cost and accuracy that assignments dominate.

        Args:
            assignments: Which. Default: all.
            reference: The State of Quantization and the accuracy that bound the area.
        """
        rows = np.arange(len(self)) if assignments is None else np.array(list(map(self._row, assignments)), dtype=int)
        return hypervolume(self.costs[rows], self.accuracy[rows], reference)

    def passing(self) -> float:
        """Return the share of assignments that keep the accuracy constraint, and `max_cost` if there is one."""
        return float((self._keeps & (self.relative >= self._min_relative_accuracy)).mean())

    def local_optima(self) -> list[Answer]:
        """Return the assignments that no other one with one layer changed is better than, best first."""
        rows = local_optima(self.bitwidths, self._ranks)
        return [self._answer(row) for row in rows[np.argsort(self._ranks[rows], kind="stable")]]

    def random_search_regret(self, draws: int) -> NDArray[np.float64]:
        """Return the expected regret of random search after 1 to `draws` assignments, exactly.

        It draws from those that keep `max_cost`, if any do, none twice; it ends when it has drawn them all.
        """
        regrets = self._drawable
        return expected_best(regrets, min(draws, len(regrets)))

    def random_search_evaluations(self) -> float:
        """Return how many assignments random search draws on average until it has the optimum's objective."""
        optimal = int((self._drawable == self._drawable[0]).sum())
        return (len(self._drawable) + 1) / (optimal + 1)

    @cached_property
    def _drawable(self) -> NDArray[np.float64]:
        """Regrets of what random search draws from, ascending."""
        kept = self._keeps if self._keeps.any() else np.ones_like(self._keeps)
        return np.sort(self._regrets[kept])

    @cached_property
    def _ranked(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return competition_ranks((self._keeps.astype(np.float64), self._known, self.accuracy))

    @property
    def _order(self) -> NDArray[np.int64]:
        return self._ranked[0]

    @property
    def _ranks(self) -> NDArray[np.int64]:
        return self._ranked[1]

    @cached_property
    def _regrets(self) -> NDArray[np.float64]:
        best = self._known[self._order[0]]
        with np.errstate(invalid="ignore"):
            regrets: NDArray[np.float64] = np.where(self._known == best, 0.0, best - self._known)
        return regrets

    @cached_property
    def _rows(self) -> dict[Assignment, int]:
        return {assignment: row for row, assignment in enumerate(map(tuple, self.bitwidths.tolist()))}

    def _row(self, bitwidths: Any) -> int:
        try:
            return self._rows[tuple(map(operator.index, bitwidths))]
        except (KeyError, TypeError):
            raise ReLeQError(
                f"the assignment {short(bitwidths)} is not among the {len(self)} that were measured and may be chosen"
            ) from None

    def _answer(self, row: int | np.integer[Any]) -> Answer:
        bitwidths = tuple(self.bitwidths[row].tolist())
        known = (self.accuracy, self.relative, self.costs, self.objectives)
        return Answer(bitwidths, *(float(values[row]) for values in known))
