"""What an assignment promises: its accuracy is modelled, its cost is known."""

import math

import numpy as np

from agents.algorithms.dyna.model import AccuracyModel, Floats, Indices
from releq_env.problem import Problem

_ABOVE, _BELOW = 8, 16  # cells of accuracy for which the objective is computed, above the constraint and below
_LIMIT = 1e6  # what an objective is clipped to; one that is not a number counts as the negative of it


class Promise:
    """What assignments promise to gain over the best so far, at a cost that is computed, not modelled.

    The objective is computed at a row of accuracies, so that any will do. Under `constrained` the gain is
    that of the cost times the probability that the accuracy constraint holds.

    Args:
        problem: Gives costs and objective.
        model: Gives the probabilities of accuracies.
    """

    def __init__(self, problem: Problem, model: AccuracyModel) -> None:
        self._problem, self._model = problem, model
        least = problem.min_relative_accuracy
        highest = max(1.0 / problem.full_precision_accuracy, least + 0.001)
        best, allowed, worst = model.modelled(np.array([highest, least, 0.0])).tolist()
        self._edges = np.concatenate(
            [np.linspace(best, allowed, _ABOVE + 1), np.linspace(allowed, worst, _BELOW + 1)[1:]]
        )
        self._levels = model.relative_accuracies((self._edges[1:] + self._edges[:-1]) / 2.0).tolist()
        self._known: dict[float, Floats] = {}  # objectives at the levels, by State of Quantization

    def __call__(self, rows: Indices, best: float) -> Floats:
        """Return expected improvement over `best` and expected objective, shape `(rows, 2)`."""
        objectives = np.array([self._objectives(q) for q in self._problem.cost_terms(rows)[:, 0].tolist()])
        chances = self._model.chances(rows, self._edges)
        gain = (chances * np.maximum(objectives - best, 0.0)).sum(axis=1)
        return np.stack([gain, (chances * objectives).sum(axis=1)], axis=1)

    def _objectives(self, q: float) -> Floats:
        if q not in self._known:
            self._known[q] = np.array([clipped(self._problem.value(a, q)) for a in self._levels])
        return self._known[q]


def clipped(objective: float) -> float:
    """Return an objective as a finite number, the least if it is not a number."""
    return -_LIMIT if math.isnan(objective) else min(max(objective, -_LIMIT), _LIMIT)
