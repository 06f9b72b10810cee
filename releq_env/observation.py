"""What the agent sees: the paper's state of the layer at hand, and optionally the whole assignment.

| feature | meaning | bounds |
|---|---|---|
| index | layer index / (layers - 1) | [0, 1] |
| n | output channels or features / the largest of any layer | [0, 1] |
| c | input channels or features / the largest of any layer | [0, 1] |
| k | kernel size (0: fully connected) / the largest of any layer | [0, 1] |
| std | standard deviation of the layer's weights / the largest of any layer | [0, 1] |
| bitwidth | the layer's current bitwidth / the largest bitwidth | [0, 1] |
| q | State of Quantization | [0, 1] |
| a | State of Relative Accuracy, 1.0 until measured in this episode | [0, 1 / full-precision accuracy] |

Scaling each feature by its largest value (the paper does not say how it scales them) keeps a
feature of 500 channels from drowning a standard deviation of 0.05 in an agent's first layer.
"""

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from releq_env.errors import check_choice
from releq_env.layer_info import LayerInfo

OBSERVATIONS = ("paper", "history")
FEATURES = ("index", "n", "c", "k", "std", "bitwidth", "q", "a")


class Observer:
    """Builds observations.

    Args:
        kind: `"paper"`: the eight features above; `"history"`: after them the bitwidth of every layer
            over the largest, each in [0, 1]. Without memory the paper's state is not Markov.
        layers: The network's quantizable layers.
        largest: The largest bitwidth.
        full_precision_accuracy: In (0, 1], gives the bound of a.

    Attributes:
        space: `Box`, float32, shape `(8,)` or `(8 + layers,)`.

    Raises:
        ReLeQError: If the kind is unknown.
    """

    def __init__(self, kind: str, layers: Sequence[LayerInfo], largest: int, full_precision_accuracy: float) -> None:
        check_choice("observation", kind, OBSERVATIONS)
        self.largest = largest
        self.history = kind == "history"
        static = np.array(
            [[index, layer.n, layer.c, layer.k, layer.std] for index, layer in enumerate(layers)], dtype=np.float64
        )
        scale = static.max(axis=0)
        self.static = (static / np.where(scale > 0, scale, 1.0)).astype(np.float32)
        self.static.flags.writeable = False
        high = np.ones(len(FEATURES) + self.history * len(layers), dtype=np.float32)
        # Just above the bound: a float32 quotient may round up.
        high[FEATURES.index("a")] = np.nextafter(np.float32(1.0 / full_precision_accuracy), np.float32(np.inf))
        self.space = spaces.Box(np.zeros_like(high), high, dtype=np.float32)
        self._rows: list[list[float]] = self.static.tolist()

    def __call__(self, layer: int, bitwidths: Sequence[int], q: float, a: float) -> NDArray[np.float32]:
        """Return the observation of one layer, a fresh array."""
        # One list made into an array is quicker than an array filled part by part.
        features = [*self._rows[layer], bitwidths[layer] / self.largest, q, a]
        if self.history:
            features += [bits / self.largest for bits in bitwidths]
        return np.array(features, dtype=np.float32)

    def batch(
        self, layers: NDArray[np.int64], bitwidths: NDArray[np.int64], q: NDArray[np.float64], a: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return the observations of several environments, a row each, bit for bit those of one at a time.

        Args:
            layers: The layer at hand of each, shape `(envs,)`.
            bitwidths: Their assignments, shape `(envs, layers)`.
            q: Shape `(envs,)`.
            a: Shape `(envs,)`.
        """
        observations = np.empty((len(layers), *(self.space.shape or ())), dtype=np.float32)
        scaled = bitwidths / self.largest
        observations[:, :5] = self.static[layers]
        observations[:, 5] = scaled[np.arange(len(layers)), layers]
        observations[:, 6] = q
        observations[:, 7] = a
        if self.history:
            observations[:, 8:] = scaled
        return observations
