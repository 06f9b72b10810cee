"""What a network may lose by its bitwidths, before any of it was evaluated: draws from all that seems possible."""

import numpy as np
from numpy.typing import NDArray

from releq_env.problem import Problem
from releq_env.searchers.improvement import Indices

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

_AT_ONCE = 2**22  # numbers in the largest array
_MOST = 0.98  # of the accuracy that may be lost
_SPARE, _SOUND = 4, 0.05  # draws for one that is kept; a loss with the largest bitwidths that is none to speak of
_OFF = 0.0015  # standard deviation of what all assignments are off together: a short retraining gains or loses


class Losses:
    """Draws of the share of its accuracy that a network loses, as a function of its assignment.

    A layer alone falls off an edge: `depth / (1 + exp((bits - where) / width))`, far from it an exponential in the
    bits, as quantization errors are. Where the edge is follows a rule that each draw has of its own: of the layer's
    share of the weights, of being first or last, and of chance. Layers together lose a power mean, of half the draws
    the plain sum, and pairs of them lose more or less than that. Draws that lose much with the largest bitwidths
    are left out: nobody would search there.

    Args:
        problem: Gives layers and choices.
        count: How many draws.
        generator: Draws them.
    """

    def __init__(self, problem: Problem, count: int, generator: np.random.Generator) -> None:
        layers, choices = problem.costs.shape
        wanted, count = count, _SPARE * count
        share = np.log([max(layer.weights, 1) for layer in problem.layers])
        ends = np.zeros((2, layers))
        ends[0, 0] = ends[1, -1] = 1.0
        rule = generator.normal((-0.15, 0.4, 0.3), (0.3, 0.7, 0.7), (count, 3))
        spread = generator.uniform(0.3, 1.3, (count, 1))
        sensitive = rule @ np.vstack([share - share.mean(), ends]) + spread * generator.normal(size=(count, layers))
        width = np.exp(generator.uniform(np.log(0.25), np.log(1.8), (count, 1)))
        width = width * np.exp(generator.normal(0.0, 0.2, (count, layers)))
        where = generator.uniform(-1.5, 4.0, (count, 1)) + width * sensitive
        depth = np.exp(generator.uniform(np.log(0.05), 0.0, (count, 1)) + generator.normal(0.0, 0.4, (count, layers)))
        bits = np.array([[*row, *row[-1:] * (choices - len(row))] for row in problem.choices])
        edge = np.minimum((bits - where[:, :, None]) / width[:, :, None], 60.0)
        self._alone = (np.minimum(depth, _MOST)[:, :, None] / (1.0 + np.exp(edge))).astype(np.float32)
        power = np.where(generator.random(count) < 0.5, 1.0, generator.uniform(1.0, 4.0, count))
        self._power = power.astype(np.float32)[:, None]
        strength = np.maximum(generator.uniform(-0.9, 0.9, (count, 1, 1)), 0.0)  # of half the draws nothing
        pairs = strength * generator.normal(size=(count, layers, layers))
        self._pairs = np.triu(pairs, 1).astype(np.float32)
        self._off = generator.normal(0.0, _OFF, (count, 1)).astype(np.float32)
        last = np.array([[len(of_layer) - 1 for of_layer in problem.choices]])
        kept = np.argsort(np.maximum(self(last)[:, 0], _SOUND), kind="stable")[:wanted]
        for name in ("_alone", "_power", "_pairs", "_off"):
            setattr(self, name, getattr(self, name)[kept])

    def __call__(self, rows: Indices) -> Singles:
        """Return the losses of assignments, shape `(draws, rows)`, of indices into the choices."""
        draws, layers, _ = self._alone.shape
        found = np.empty((draws, len(rows)), dtype=np.float32)
        step = max(_AT_ONCE // (draws * layers), 1)
        for begin in range(0, len(rows), step):
            part = slice(begin, begin + step)
            alone = self._alone[:, np.arange(layers), rows[part]]  # shape (draws, rows, layers)
            found[:, part] = self._together(alone)
        return np.minimum(found, np.float32(_MOST)) + self._off

    def _together(self, alone: Singles) -> Singles:
        layers = np.float32(alone.shape[2])
        half = (1.0 - 1.0 / self._power) / 2.0
        mean = (alone ** self._power[:, :, None]).sum(axis=2) ** (1.0 / self._power) * layers**half
        roots = np.sqrt(alone)
        pairs = ((roots @ self._pairs) * roots).sum(axis=2)
        together: Singles = np.maximum(mean + pairs, alone.max(axis=2) / 2.0)
        return together
