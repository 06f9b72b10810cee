"""What is believed of the accuracy of every candidate after some were measured."""

import numpy as np

from agents.algorithms.transfer.prior import Floats, Singles
from releq_env.searchers.improvement import Indices

_NOISE = 0.002  # standard deviation of a relative accuracy over retraining seeds that is reckoned with
_ROUGH = 0.1  # of what no draw explains, on the scale on which losses are modelled
_LEAST = np.float32(1e-6)  # variance
_FAR = 10.0  # a modelled loss beyond which measuring has no noise to speak of


class Belief:
    """A Gaussian process whose mean and covariance are those of draws, for several searches side by side.

    So it knows what layers and bitwidths have to do with each other: an evaluation says something of all candidates
    that fared alike in the draws. Taking up an evaluation is a rank-one step.

    Args:
        draws: Modelled losses, shape `(draws, candidates)`.
        unit: The loss of relative accuracy at which the modelled loss turns from linear to logarithmic.
        searches: How many searches there are side by side, each with evaluations of its own.

    Attributes:
        mean: Of the modelled loss of each candidate, shape `(searches, candidates)`.
        variance: Of it, the noise of measuring left out, same shape.
        noise: Variance of that noise, same shape.
    """

    noise: Singles

    def __init__(self, draws: Singles, unit: float, searches: int = 1) -> None:
        self._noise = np.float32((_NOISE / unit) ** 2)
        mean = draws.mean(axis=0, dtype=np.float32)
        self._centred = (draws - mean) / np.float32(max(len(draws) - 1, 1)) ** 0.5
        shape = (searches, draws.shape[1])
        self.mean = np.broadcast_to(mean, shape)
        self.variance = np.broadcast_to((self._centred * self._centred).sum(axis=0), shape)
        self._steps: list[Singles] = []  # rows of the Cholesky factor of what was measured, on to all candidates
        self._each = np.arange(searches)
        self._set_noise()

    def observe(self, at: Indices, losses: Floats) -> None:
        """Take up a measurement of each search.

        Args:
            at: Which candidate, shape `(searches,)`.
            losses: Modelled, same shape.
        """
        losses = np.clip(losses, -_FAR, _FAR).astype(np.float32)
        row = self._centred[:, at].T @ self._centred
        for step in self._steps:
            row -= step[self._each, at][:, None] * step
        noise = np.float32(_ROUGH**2) + self._noise / np.cosh(losses) ** 2
        deviation = np.sqrt(self.variance[self._each, at] + noise)
        step = row / deviation[:, None]
        self._steps.append(step)
        self.mean = self.mean + step * ((losses - self.mean[self._each, at]) / deviation)[:, None]
        self.variance = np.maximum(self.variance - step * step, _LEAST)
        self._set_noise()

    def _set_noise(self) -> None:
        self.noise = np.float32(_ROUGH**2) + self._noise / np.cosh(np.clip(self.mean, -_FAR, _FAR)) ** 2
