"""The cost terms of an assignment, as sums over a table."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releq_env.choices import Choices
from releq_env.cost.bitops import bitops
from releq_env.cost.energy import energy
from releq_env.cost.matrix import cost_matrix
from releq_env.cost.mean_bits import mean_bits
from releq_env.cost.weighted_bits import weighted_bits
from releq_env.layer_info import LayerInfo


class CostTerms:
    """All cost terms of an assignment, or of a batch of them, in one pass.

    `state_of_quantization`, `energy` and `bitops` are relative to every layer's dearest choice, `average_bits`
    and `weighted_bits` are in bits. What is summed are the models' own units, whole numbers for the built-in
    ones, so that an assignment has the same terms, bit for bit, alone and in a batch.

    Args:
        costs: What the State of Quantization measures, `C[layer, choice]`.
        layers: The network's quantizable layers.
        choices: The bitwidths of each.

    Attributes:
        names: Of the terms, in the order of the last axis.
    """

    names = ("state_of_quantization", "average_bits", "weighted_bits", "energy", "bitops")

    def __init__(self, costs: NDArray[np.float64], layers: Sequence[LayerInfo], choices: Choices) -> None:
        models = {"average_bits": mean_bits, "weighted_bits": weighted_bits, "energy": energy, "bitops": bitops}
        each = {"state_of_quantization": costs} | {
            name: cost_matrix(name, model, layers, choices) for name, model in models.items()
        }
        # Added up as the terms are, one layer after the other, so that the dearest assignment has exactly 1.
        dearest = {name: np.add.accumulate(matrix.max(axis=1))[-1] for name, matrix in each.items()}
        dearest |= {
            "average_bits": sum(len(layer.modules) for layer in layers),
            "weighted_bits": sum(layer.weights for layer in layers),
        }
        self._table = np.stack([each[name] for name in self.names], axis=-1).reshape(-1, len(self.names))
        # A network of embeddings alone multiplies nothing: 0 of 0 is 0.
        self._divisors = np.array([float(dearest[name]) or 1.0 for name in self.names])
        self._first = np.arange(len(layers)) * costs.shape[1]  # row of each layer's first choice

    def __call__(self, choices: ArrayLike) -> NDArray[np.float64]:
        """Return the terms, shape `(..., terms)`, of indices into the choices, shape `(..., layers)`."""
        return self.at(self._first + choices)

    def at(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the same of places in the flattened matrix `C[layer, choice]`, shape `(..., layers)`."""
        terms: NDArray[np.float64] = np.add.reduce(self._table.take(rows, axis=0), axis=-2) / self._divisors
        return terms
