"""What stands in for evaluations: a model of the accuracy."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import ndtr

from releq_env.problem import Problem
from releq_env.searchers.gaussian_process import Floats, GaussianProcess
from releq_env.searchers.improvement import Indices, LossScale

_FOLDS = 5  # of the cross-validation
_LEAST = 4  # evaluations below which nothing is fitted
_GROWTH = 1.25  # of the number of evaluations at which the settings are learned again
_TINY = 1e-12


class AccuracyModel:
    """An ensemble of Gaussian processes of the loss of accuracy, each as trusted as it predicts what it has not seen.

    What is modelled is `asinh((1 - a) / s)`, `s` the loss that the constraint allows, as in `gp`. The members see
    the bitwidths differently (`FEATURES`). Their shares in a prediction are those of their cross-validated
    likelihoods, which is pseudo-Bayesian model averaging (Yao, Vehtari, Simpson and Gelman, 2018).

    Args:
        problem: Of which accuracies are modelled.
        members: Names in `FEATURES`.

    Attributes:
        scale: On which losses are modelled.
        skill: Share of the variance of what was left out that is predicted in cross-validation, at most 1; 0 is no
            better than the mean of the rest.
    """

    def __init__(self, problem: Problem, members: Sequence[str]) -> None:
        self.skill = -math.inf
        self.scale = LossScale(problem.min_relative_accuracy)
        self._columns = np.arange(problem.num_layers)
        bits = _bits(problem)
        self._features = [_scaled(FEATURES[name](bits)) for name in members]
        self._members = [GaussianProcess(problem.num_layers) for _ in members]
        self._shares = np.ones(len(members)) / len(members)
        self._rows: Indices = np.empty((0, problem.num_layers), dtype=np.int64)
        self._values: Floats = np.empty(0)
        self._learned = 0

    def fit(self, rows: Indices, relative_accuracies: Floats) -> None:
        """Take up all evaluations, instead of those taken up before."""
        self._rows, self._values = rows, self.scale.modelled(relative_accuracies)
        if len(rows) < _LEAST:
            return
        if len(rows) >= _GROWTH * self._learned:
            for member, features in zip(self._members, self._features, strict=True):
                member.learn(self._at(features, rows), self._values)
            self._learned = len(rows)
        self._cross_validate()
        self._condition(self._rows, self._values)

    def suppose(self, row: Indices) -> None:
        """Take up an assignment as if it had lost a standard deviation more than expected, until the next `fit`.

        The constant liar of Ginsbourger, Le Riche and Carraro, 2010: those of a batch keep apart.
        """
        mean, variance = self.predict(row[None])
        self._rows = np.vstack([self._rows, row])
        self._values = np.append(self._values, mean + np.sqrt(variance))
        self._condition(self._rows, self._values)

    def predict(self, rows: Indices) -> tuple[Floats, Floats]:
        """Return mean and variance of what would be measured, noise included, each of shape `(rows,)`."""
        means, variances = self._members_predict(rows)
        mean: Floats = self._shares @ means
        variance: Floats = self._shares @ (variances + (means - mean) ** 2)
        return mean, variance

    def chances(self, rows: Indices, edges: Floats) -> Floats:
        """Return the probability that a measured loss is in each cell between edges, shape `(rows, cells)`.

        The outer cells reach to infinity.
        """
        means, variances = self._members_predict(rows)
        z = (edges[1:-1] - means[:, :, None]) / np.sqrt(variances)[:, :, None]
        inner = np.tensordot(self._shares, ndtr(z), axes=1)
        return np.diff(inner, axis=1, prepend=0.0, append=1.0)

    def _members_predict(self, rows: Indices) -> tuple[Floats, Floats]:
        """Return means and variances, shape `(members, rows)`."""
        means, variances = np.empty((2, len(self._members), len(rows)))
        for index, (member, features) in enumerate(zip(self._members, self._features, strict=True)):
            means[index], variances[index] = member.predict(self._at(features, rows))
            variances[index] += member.noise
        return means, variances

    def _condition(self, rows: Indices, values: Floats) -> None:
        for member, features in zip(self._members, self._features, strict=True):
            member.condition(self._at(features, rows), values)

    def _cross_validate(self) -> None:
        """Set skill and shares by predicting each fold from the others; the learned settings are kept."""
        n = len(self._rows)
        fold = np.arange(n) % _FOLDS
        means, variances = np.empty((2, len(self._members), n))
        guess = np.empty(n)
        for index in range(min(_FOLDS, n)):
            out = fold == index
            self._condition(self._rows[~out], self._values[~out])
            means[:, out], variances[:, out] = self._members_predict(self._rows[out])
            guess[out] = self._values[~out].mean()
        likelihood = -0.5 * (np.log(variances) + (self._values - means) ** 2 / variances).sum(axis=1)
        self._shares = np.exp(likelihood - likelihood.max())
        self._shares /= self._shares.sum()
        off = float(((self._values - self._shares @ means) ** 2).sum())
        guessed_off = float(((self._values - guess) ** 2).sum())
        self.skill = 1.0 - off / guessed_off if guessed_off > _TINY else 0.0

    def _at(self, features: Floats, rows: Indices) -> Floats:
        return features[self._columns, rows]


FEATURES: dict[str, Callable[[Floats], Floats]] = {
    "logarithm": np.log2,
    "step": lambda bits: -np.exp2(-bits),
}
"""Name -> what a member of the ensemble sees of a bitwidth: its logarithm, or the step between two codes."""


def _bits(problem: Problem) -> Floats:
    """Return the bitwidth of each layer's each choice, its last one again to the right, shape `(layers, choices)`."""
    width = max(map(len, problem.choices))
    return np.array([[*bits, *bits[-1:] * (width - len(bits))] for bits in problem.choices], dtype=float)


def _scaled(features: Floats) -> Floats:
    """Return features in [0, 2] over all layers."""
    features = features - features.min()
    return 2.0 * features / (features.max() or 1.0)
