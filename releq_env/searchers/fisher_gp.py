"""Bayesian optimisation of what a sum of sensitivities does not explain."""

from typing import Any

import numpy as np

from releq_env.problem import Problem
from releq_env.searchers.gaussian_process import Floats, GaussianProcess
from releq_env.searchers.gp import GPSearch
from releq_env.searchers.improvement import Indices
from releq_env.sensitivity import IMAGES, additive_losses

_RIDGE = 1.0  # values' worth of belief that the trend is flat


class FisherGP(GPSearch):
    """`gp` with a prior mean: a line through the logarithm of the summed sensitivities of an assignment.

    The line is fitted to what was measured, the Gaussian process models the rest: how layers interact, and where the
    proxy is wrong. A proxy that says nothing gets a flat line, and the search is `gp`.

    Args:
        problem: What is searched. From a table the stored sensitivities are taken, a network's are measured now.
        seed: Seeds it.
        proxy: `"fisher"`, `"hessian"` or `"loss"`, see `releq_env.sensitivity.PROXIES`.
        sensitivities: Numbers to take instead, a row a layer and one a choice.
        images: How many training images they are measured on.

    Attributes:
        about: Where the sensitivities are from and what they cost, JSON-able.

    Raises:
        ReLeQError: In one line, if there are none to be had.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        proxy: str = "fisher",
        sensitivities: Any = None,
        images: int = IMAGES,
    ) -> None:
        losses, self.about = additive_losses(problem, proxy, sensitivities, images)
        super().__init__(problem, seed)
        self._prior_mean = _PriorMean(problem, losses)
        self._model = _WithTrend(problem.num_layers)

    def _at(self, rows: Indices) -> Floats:
        """Return the features of assignments, and as the last column the trend's."""
        return np.column_stack([super()._at(rows), self._prior_mean(rows)])


class _PriorMean:
    """The logarithm of summed sensitivities, of mean 0 and variance 1 over the layers' random choices.

    Args:
        problem: Gives the choices.
        losses: `L[layer, choice]`.
    """

    def __init__(self, problem: Problem, losses: Floats) -> None:
        counts = [len(of_layer) for of_layer in problem.choices]
        # What a layer loses beyond its best choice: proxies that were measured have a little below 0.
        self._losses = losses - losses.min(axis=1, keepdims=True)
        positive = self._losses[self._losses > 0.0]
        self._least = float(positive.min()) if len(positive) else 1.0
        self._centre, self._spread = 0.0, 1.0
        drawn = np.random.default_rng(0).random((1000, len(counts)))
        values = self((drawn * counts).astype(np.int64))
        self._centre, self._spread = float(values.mean()), float(values.std()) or 1.0

    def __call__(self, rows: Indices) -> Floats:
        """Return one number an assignment, shape `(n,)`, of indices into the choices, shape `(n, layers)`."""
        summed = self._losses[np.arange(rows.shape[1]), rows].sum(axis=1)
        return (np.log(summed + self._least) - self._centre) / self._spread


class _WithTrend(GaussianProcess):
    """A Gaussian process around a line through the last feature, which is fitted by least squares and never falls."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self._slope = 0.0

    def learn(self, x: Floats, y: Floats) -> None:
        self._fit(x, y)
        super().learn(x[:, :-1], y - self._slope * x[:, -1])

    def condition(self, x: Floats, y: Floats) -> None:
        self._fit(x, y)
        super().condition(x[:, :-1], y - self._slope * x[:, -1])

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        mean, variance = super().predict(x[:, :-1])
        return mean + self._slope * x[:, -1], variance

    def _fit(self, x: Floats, y: Floats) -> None:
        trend = x[:, -1] - x[:, -1].mean()
        self._slope = max(float(trend @ (y - y.mean())) / (float(trend @ trend) + _RIDGE), 0.0)
