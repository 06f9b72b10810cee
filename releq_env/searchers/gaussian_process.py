"""Regression by a Gaussian process: a mean, and how far it may be off, from a few noisy values."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

Floats = NDArray[np.float64]

_NOISE = 0.05  # variance of the noise over that of the function: where learning starts, and the centre of its prior
_PSEUDO = 0.01  # sum of squares that is added to the data's: values that are all alike have no variance to learn


class GaussianProcess:
    """A constant mean and a Matérn-5/2 kernel with a length scale a feature, all of it learned.

    Length scales and noise are those of the largest marginal likelihood under weak log-normal priors (Rasmussen
    and Williams, *Gaussian Processes for Machine Learning*, 2006, chapters 2 and 5). The prior of the length scales
    grows with the square root of the number of features, as distances do: without it, many features and few
    values end in noise (Hvarfner, Hellsten and Nardi, *Vanilla Bayesian Optimization Performs Great in High
    Dimensions*, 2024). The variance of the function has its likeliest value in closed form.

    Args:
        features: How many there are.

    Attributes:
        noise: Variance of the noise of a value.
    """

    noise: float

    def __init__(self, features: int) -> None:
        self._prior = np.array([math.log(features) / 2] * features + [math.log(_NOISE)])
        self._width = np.array([1.0] * features + [1.5])
        self._theta = self._prior  # logarithms of the length scales, and of the noise over the variance

    def learn(self, x: Floats, y: Floats) -> None:
        """Learn length scales and noise from values `y`, shape `(n,)`, at features `x`, shape `(n, features)`."""
        bounds = np.stack([self._prior - 4.0 * self._width, self._prior + 4.0 * self._width], axis=1)
        # Begun at the prior, not where the last one ended: a bad optimum is not kept for ever.
        found = minimize(
            self._loss,
            self._prior,
            (x, y - y.mean()),
            "L-BFGS-B",
            jac=True,
            bounds=bounds.tolist(),
            options={"maxiter": 30},
        )
        self._theta = found.x

    def condition(self, x: Floats, y: Floats) -> None:
        """Take up values, instead of those taken up before."""
        noise = math.exp(self._theta[-1])
        self._x, self._mean = x, float(y.mean())
        self._factor = np.linalg.cholesky(self._correlation(x, x) + noise * np.eye(len(x)))
        self._white = solve_triangular(self._factor, y - self._mean, lower=True)
        self._variance = (self._white @ self._white + _PSEUDO) / len(x)
        self.noise = noise * self._variance

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Return mean and variance of the function, without the noise, at features of shape `(m, features)`."""
        k = solve_triangular(self._factor, self._correlation(self._x, x), lower=True)
        return self._mean + self._white @ k, self._variance * np.maximum(1.0 - (k * k).sum(axis=0), 1e-9)

    def _correlation(self, a: Floats, b: Floats) -> Floats:
        scale = np.exp(self._theta[:-1])
        return _matern(cdist(a / scale, b / scale, "sqeuclidean"))[0]

    def _loss(self, theta: Floats, x: Floats, y: Floats) -> tuple[float, Floats]:
        """Return what is to be minimised, the negative log posterior of the settings, and its gradient."""
        n, scaled, noise = len(x), x / np.exp(theta[:-1]), math.exp(theta[-1])
        correlation, slope = _matern(cdist(scaled, scaled, "sqeuclidean"))
        factor = np.linalg.cholesky(correlation + noise * np.eye(n))
        inverse = cho_solve((factor, True), np.eye(n))
        alpha = inverse @ y
        squares = float(y @ alpha) + _PSEUDO
        off = (theta - self._prior) / self._width
        loss = n / 2 * math.log(squares) + np.log(np.diag(factor)).sum() + off @ off / 2
        weights: Any = (inverse - n / squares * np.outer(alpha, alpha)) / 2  # of dloss/dcorrelation
        gradient = off / self._width
        gradient[-1] += noise * np.trace(weights)
        weights *= -2.0 * slope
        gradient[:-1] += [(weights * np.subtract.outer(column, column) ** 2).sum() for column in scaled.T]
        return float(loss), gradient


def _matern(squared: Floats) -> tuple[Floats, Floats]:
    """Return the Matérn-5/2 correlation at squared distances, and its derivative by them."""
    r = np.sqrt(5.0 * squared)
    decay = np.exp(-r)
    return (1.0 + r + r * r / 3.0) * decay, -5.0 / 6.0 * (1.0 + r) * decay
