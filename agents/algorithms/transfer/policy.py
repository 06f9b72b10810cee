"""The policy: a score for every candidate, of what is seen of it."""

from typing import NamedTuple

import numpy as np

from agents.algorithms.transfer.prior import Singles
from agents.algorithms.transfer.sight import FEATURES

HIDDEN = 32


class Policy(NamedTuple):
    """A network with two hidden layers, the same for every candidate; the softmax of its scores is the policy.

    NumPy, as all of a search: the number of threads of torch, which retraining uses in the same process, is left
    alone. It is trained with torch (`benchmarks/transfer/training.py`).

    Attributes:
        inner: Weights, shape `(features, hidden)`.
        inner_bias: Shape `(hidden,)`.
        middle: Shape `(hidden, hidden)`.
        middle_bias: Shape `(hidden,)`.
        outer: Shape `(hidden,)`.
    """

    inner: Singles
    inner_bias: Singles
    middle: Singles
    middle_bias: Singles
    outer: Singles

    def score(self, features: Singles) -> Singles:
        """Return the scores, shape `(...)`, of features of shape `(..., features)`."""
        hidden = np.tanh(features @ self.inner + self.inner_bias)
        hidden = np.tanh(hidden @ self.middle + self.middle_bias)
        scores: Singles = hidden @ self.outer
        return scores


def untrained(seed: int = 0) -> Policy:
    """Return a policy before it is trained."""
    generator = np.random.default_rng(seed)
    count = len(FEATURES)
    shapes = [(count, HIDDEN), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (HIDDEN,)]
    scales = [count**-0.5, 0.0, HIDDEN**-0.5, 0.0, HIDDEN**-0.5]
    drawn = (scale * generator.normal(size=shape) for shape, scale in zip(shapes, scales, strict=True))
    return Policy(*(each.astype(np.float32) for each in drawn))
