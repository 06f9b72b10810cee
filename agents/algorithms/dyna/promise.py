"""What an assignment promises by the ensemble."""

import numpy as np

from agents.algorithms.dyna.model import AccuracyModel
from releq_env.problem import Problem
from releq_env.searchers.gaussian_process import Floats
from releq_env.searchers.improvement import Cells, Indices, promise

_ABOVE, _BELOW = 8, 16  # cells of accuracy for which the objective is computed, above the constraint and below


class Promise:
    """What assignments promise to gain over the best so far, at a cost that is computed, not modelled.

    Args:
        problem: Gives costs and objective.
        model: Gives the probabilities of accuracies.
    """

    def __init__(self, problem: Problem, model: AccuracyModel) -> None:
        self._model = model
        self._cells = Cells(problem, model.scale, _ABOVE, _BELOW)

    def __call__(self, rows: Indices, best: float) -> Floats:
        """Return expected improvement over `best` and expected objective, shape `(rows, 2)`."""
        chances = self._model.chances(rows, self._cells.edges)
        return np.stack(promise(chances, self._cells.objectives(rows), best), axis=1)
