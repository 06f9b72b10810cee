"""Bayesian optimisation: what is not known, the accuracy, is modelled; what is known, the cost, is computed."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import ndtr

from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.gaussian_process import Floats, GaussianProcess
from releq_env.searchers.improvement import LIMIT, Cells, Indices, LossScale, clipped, promise
from releq_env.searchers.moves import neighbours, starts
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment

_LISTED = 2**16  # of a space of up to so many assignments all are candidates; of a larger one
_DRAWN = 500  # so many random ones
_ROUNDS, _CENTRES = 3, 10  # and the neighbours of so many of the best, then of the most promising, so many times over
_RANDOM_STARTS = 2  # beside the uniform ones
_GROWTH = 1.25  # of the number of values at which the model's settings are learned again
_ABOVE, _BELOW = 16, 32  # cells of accuracy for which the objective is computed, above the constraint and below


class GPSearch:
    """Asks for the assignment that is expected to exceed the best objective so far by most.

    A Gaussian process models the loss of accuracy as `asinh((1 - a) / s)`, `s` the loss that the constraint allows:
    a logarithm where much is lost, so that a collapse does not drown what matters; linear near the constraint and
    beyond, where losses are of the noise's size and may be negative. Its features are logarithms of bitwidths. The
    objective of a candidate is computed from its known cost at a row of accuracies, and the expected improvement
    (Jones, Schonlau and Welch, 1998) is a sum over them: under the objective `constrained` it is the gain times the
    probability that the constraint holds. The noise is part of that, since what is measured next has it, too.

    It begins at the uniform assignments and a few random ones. Nothing is asked for twice, and nothing above
    `max_cost`. Of a batch, each is chosen as if those before it had lost a standard deviation more than expected (a
    constant liar: Ginsbourger, Le Riche and Carraro, 2010).

    Args:
        problem: What is searched.
        seed: Seeds it.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self._problem = problem
        size = math.prod(map(len, problem.choices))
        self._all = size <= _LISTED
        drawn = RandomSearch(problem, seed).ask(size if self._all else _DRAWN)
        self._starts = list(dict.fromkeys([*starts(problem), *drawn[:_RANDOM_STARTS]]))
        self._drawn = self._rows(drawn)  # and not asked for yet
        self._asked: set[Assignment] = set()
        self._told: dict[Assignment, Evaluation] = {}
        self._best = -LIMIT
        self._model = GaussianProcess(problem.num_layers)
        self._learned = 0  # from so many values
        self._features = _features(problem)
        self._scale = LossScale(problem.min_relative_accuracy)
        self._cells = Cells(problem, self._scale, _ABOVE, _BELOW)

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` starts, or those that promise most."""
        asked = self._starts[:n]
        del self._starts[:n]
        asked = asked or self._promising(n)
        for assignment in asked:
            self._drawn = self._drawn[(self._drawn != self._problem.indices(assignment)).any(axis=1)]
        self._asked.update(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take up what was measured."""
        for evaluation in evaluations:
            self._told[evaluation.bitwidths] = evaluation
            self._best = max(self._best, clipped(self._problem.objective(evaluation)))

    def recommend(self) -> Assignment | None:
        """Return, of what was measured, the assignment with the best expected objective; `None` before any.

        The best measured one is likely to have been lucky, too. The model sets it against its neighbours.
        """
        if not self._told:
            return None
        self._model.condition(*self._values())
        rows = self._rows(self._told)
        _, expected = promise(self._chances(*self._model.predict(self._at(rows))), self._cells.objectives(rows), 0.0)
        return self._assignment(rows[expected.argmax()])

    def _promising(self, n: int) -> list[Assignment]:
        x, y = self._values()
        if len(y) >= _GROWTH * self._learned:
            self._model.learn(x, y)
            self._learned = len(y)
        self._model.condition(x, y)
        rows = self._drawn if self._all else self._around()
        chosen: list[Assignment] = []
        while len(chosen) < n and len(rows):
            best = self._order(rows)[-1]
            row = rows[best : best + 1]
            mean, variance = self._model.predict(self._at(row))
            x, y = np.vstack([x, self._at(row)]), np.append(y, mean + np.sqrt(variance + self._model.noise))
            self._model.condition(x, y)
            chosen.append(self._assignment(row[0]))
            rows = np.delete(rows, best, axis=0)
        return chosen

    def _around(self) -> Indices:
        """Return the candidates of a large space: random ones, and uphill from the best."""
        centres = sorted(self._told, key=lambda assignment: self._problem.merit(self._told[assignment]))[-_CENTRES:]
        found = dict.fromkeys(map(self._assignment, self._drawn))
        for _ in range(_ROUNDS):
            for centre in centres:
                found.update(dict.fromkeys(neighbours(self._problem, centre)))
            new = [assignment for assignment in found if assignment not in self._asked]
            rows = self._rows(new)
            if not new:
                break
            centres = [new[index] for index in self._order(rows)[-_CENTRES:]]
        return rows

    def _order(self, rows: Indices) -> Indices:
        """Return candidates by rising promise; those that can gain nothing are left out, unless none can."""
        objectives = self._cells.objectives(rows)
        able = np.flatnonzero(objectives.max(axis=1) > self._best)
        able = able if len(able) else np.arange(len(rows))
        objectives = objectives[able]
        mean, variance = self._model.predict(self._at(rows[able]))
        chances = self._chances(mean, variance + self._model.noise)
        gain, expected = promise(chances, objectives, self._best)
        return able[np.lexsort((expected, gain))]

    def _chances(self, mean: Floats, variance: Floats) -> Floats:
        """Return the probability of each cell of accuracy, shape `(candidates, cells)`."""
        inner = ndtr((self._cells.edges[1:-1] - mean[:, None]) / np.sqrt(variance)[:, None])
        return np.diff(inner, axis=1, prepend=0.0, append=1.0)

    def _values(self) -> tuple[Floats, Floats]:
        accuracies = np.array([evaluation.relative_accuracy for evaluation in self._told.values()])
        return self._at(self._rows(self._told)), self._scale.modelled(accuracies)

    def _at(self, rows: Indices) -> Floats:
        return self._features[np.arange(self._problem.num_layers), rows]

    def _rows(self, assignments: Iterable[Assignment]) -> Indices:
        rows = [self._problem.indices(assignment) for assignment in assignments]
        return np.array(rows).reshape(-1, self._problem.num_layers)

    def _assignment(self, row: Indices) -> Assignment:
        return self._problem.assignment(row.tolist())


def _features(problem: Problem) -> Floats:
    """Return the logarithm of each layer's each choice, in [0, 2] over all of them, shape `(layers, choices)`."""
    bits = np.ones(problem.costs.shape)
    for row, of_layer in zip(bits, problem.choices, strict=True):
        row[: len(of_layer)] = of_layer
        row[len(of_layer) :] = of_layer[-1]
    logarithms = np.log2(bits)
    logarithms -= logarithms.min()
    return 2.0 * logarithms / (logarithms.max() or 1.0)
