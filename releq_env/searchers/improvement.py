"""What an assignment promises: its accuracy is modelled, its cost is known."""

import math

import numpy as np
from numpy.typing import NDArray

from releq_env.problem import Problem
from releq_env.searchers.gaussian_process import Floats

Indices = NDArray[np.int64]

LIMIT = 1e6
"""What an objective is clipped to; one that is not a number counts as the negative of it."""

_LISTED = 2**16  # costs whose objectives are remembered


class LossScale:
    """The scale on which loss of accuracy is modelled: `asinh((1 - a) / s)`, `s` the loss that the constraint allows.

    Args:
        least: The constraint, a relative accuracy.
    """

    def __init__(self, least: float) -> None:
        self._scale = max(1.0 - least, 0.002)

    def modelled(self, relative_accuracies: Floats) -> Floats:
        """Return the loss, as it is modelled, of relative accuracies."""
        loss: Floats = np.arcsinh((1.0 - relative_accuracies) / self._scale)
        return loss

    def relative_accuracies(self, modelled: Floats) -> Floats:
        """Return the inverse of `modelled`."""
        accuracies: Floats = 1.0 - self._scale * np.sinh(modelled)
        return accuracies


class Cells:
    """The objective in cells of accuracy, so that any objective will do.

    The expected improvement (Jones, Schonlau and Welch, 1998) is a sum over the cells. Under `constrained` it is the
    gain of the cost times the probability that the accuracy constraint holds.

    Args:
        problem: Gives costs and objective.
        scale: On which the edges are evenly spaced.
        above: How many cells are above the constraint.
        below: And below.

    Attributes:
        edges: Of the cells of modelled loss, ascending; the outer ones reach to infinity.
    """

    def __init__(self, problem: Problem, scale: LossScale, above: int, below: int) -> None:
        self._problem = problem
        least = problem.min_relative_accuracy
        highest = max(1.0 / problem.full_precision_accuracy, least + 0.001)
        best, allowed, worst = scale.modelled(np.array([highest, least, 0.0])).tolist()
        self.edges = np.concatenate([np.linspace(best, allowed, above + 1), np.linspace(allowed, worst, below + 1)[1:]])
        self._levels = scale.relative_accuracies((self.edges[1:] + self.edges[:-1]) / 2.0).tolist()
        self._known: dict[float, Floats] = {}  # objectives at the levels, by State of Quantization

    def objectives(self, rows: Indices) -> Floats:
        """Return the objective of each assignment in each cell, shape `(rows, cells)`."""
        if len(self._known) > _LISTED:  # a large space has new costs without end
            self._known.clear()
        costs, where = np.unique(self._problem.cost_terms(rows)[:, 0], return_inverse=True)
        for q in costs.tolist():
            if q not in self._known:
                self._known[q] = np.array([clipped(self._problem.value(a, q)) for a in self._levels])
        return np.array([self._known[q] for q in costs.tolist()])[where]


def promise(chances: Floats, objectives: Floats, best: float) -> tuple[Floats, Floats]:
    """Return expected improvement over `best`, and expected objective, each of shape `(rows,)`.

    Args:
        chances: Of each cell, shape `(rows, cells)`.
        objectives: In each cell, same shape.
        best: The best objective so far.
    """
    return (chances * np.maximum(objectives - best, 0.0)).sum(axis=1), (chances * objectives).sum(axis=1)


def clipped(objective: float) -> float:
    """Return an objective as a finite number, the least if it is not a number."""
    return -LIMIT if math.isnan(objective) else min(max(objective, -LIMIT), LIMIT)
