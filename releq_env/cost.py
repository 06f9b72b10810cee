"""What an assignment costs, relative to the largest bitwidth: the State of Quantization.

Every cost is a weighted mean of the bitwidths over the largest bitwidth, so it lies in (0, 1]; the
costs differ in how much a layer counts.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releq_env.errors import check_choice
from releq_env.layer_info import LayerInfo

MEMORY_TO_MAC_ENERGY = 120.0
"""Energy of one memory access over the energy of one multiply-accumulate (R, as we read the paper)."""

COSTS: dict[str, Callable[[LayerInfo], float]] = {
    "mean_bits": lambda layer: 1.0,
    "weighted_bits": lambda layer: layer.weights,
    "energy": lambda layer: layer.weights * MEMORY_TO_MAC_ENERGY + layer.macs,
    # Activations keep one width everywhere, so it cancels in the ratio.
    "bitops": lambda layer: layer.macs,
}
"""How much a layer's bitwidth counts, by name of the cost."""


class Cost:
    """A cost function of assignments.

    Args:
        name: A name in `COSTS`.
        layers: The network's quantizable layers.
        largest: The largest bitwidth, at which the cost is 1.

    Raises:
        ReLeQError: If the name is unknown.
    """

    def __init__(self, name: str, layers: Sequence[LayerInfo], largest: int) -> None:
        check_choice("cost", name, COSTS)
        shares = np.array([COSTS[name](layer) for layer in layers], dtype=np.float64)
        self.name = name
        self.largest = largest
        self.shares = shares / shares.sum()

    def __call__(self, bitwidths: Sequence[int]) -> float:
        """Return the State of Quantization q of an assignment, in (0, 1]."""
        return float(np.dot(self.shares, bitwidths)) / self.largest


class CostTerms:
    """All cost terms of an assignment, or of a batch of them, in one pass.

    Bit for bit what the functions of this module return one by one: `np.vecdot` sums a row as `np.dot`
    does, in a batch and alone.

    Args:
        cost: What the State of Quantization measures.
        layers: The network's quantizable layers.

    Attributes:
        names: Of the terms, in the order of the last axis.
    """

    names = ("state_of_quantization", "average_bits", "weighted_bits", "energy", "bitops")

    def __init__(self, cost: Cost, layers: Sequence[LayerInfo]) -> None:
        weights = [float(layer.weights) for layer in layers]
        relative = [Cost(name, layers, cost.largest) for name in ("energy", "bitops")]
        self._factors = np.array([cost.shares, [1.0] * len(layers), weights, *(other.shares for other in relative)])
        self._divisors = np.array([cost.largest, len(layers), sum(weights), cost.largest, cost.largest])

    def __call__(self, bitwidths: ArrayLike) -> NDArray[np.float64]:
        """Return the terms, shape `(..., terms)`, of assignments of shape `(..., layers)`."""
        rows = np.asarray(bitwidths, dtype=np.float64)[..., None, :]
        return np.vecdot(rows, self._factors) / self._divisors


def average_bits(bitwidths: Sequence[int]) -> float:
    """Return the plain mean of the bitwidths over the layers, in bits."""
    return float(np.mean(bitwidths))


def weighted_bits(bitwidths: Sequence[int], layers: Sequence[LayerInfo]) -> float:
    """Return the mean bits of a weight: the mean over the layers, weighted by their weights."""
    return float(np.average(bitwidths, weights=[layer.weights for layer in layers]))
