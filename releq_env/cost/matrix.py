"""From a cost model to the cost of every layer at every bitwidth it may have."""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from releq_env.choices import Choices
from releq_env.errors import ReLeQError, short
from releq_env.layer_info import LayerInfo

CostModel = Callable[[LayerInfo, int], float]
"""`(layer, bits) -> cost` of the layer at that bitwidth, at least 0, in any unit. An assignment costs the sum."""


def cost_matrix(name: str, model: CostModel, layers: Sequence[LayerInfo], choices: Choices) -> NDArray[np.float64]:
    """Return `C[layer, choice]` in the model's unit, shape `(layers, most choices)`, read-only.

    A layer with fewer choices than others has its last one again to the right of them. Layers that share a bitwidth
    cost the sum of what each costs.

    Args:
        name: Of the model, for messages.
        model: The cost model.
        layers: The network's quantizable layers.
        choices: The bitwidths of each.

    Raises:
        ReLeQError: If the model gives something else than a number from 0.
    """
    width = max(map(len, choices))
    costs = np.empty((len(layers), width))
    for row, layer, of_layer in zip(costs, layers, choices, strict=True):
        row[:] = [
            sum(_checked(name, each, bits, model(each, bits)) for each in layer.each)
            for bits in _padded(of_layer, width)
        ]
    costs.flags.writeable = False
    return costs


def check_positive(name: str, costs: NDArray[np.float64]) -> None:
    """Raise `ReLeQError` if some assignment costs nothing: there is no State of Quantization then.

    Args:
        name: Of the model.
        costs: Its `cost_matrix`.
    """
    if not costs.min(axis=1).sum() > 0:
        raise ReLeQError(
            f"cost={name!r} lets an assignment cost nothing; some layer has to cost something at any bitwidth"
        )


def cheapest_share(costs: NDArray[np.float64]) -> float:
    """Return the State of Quantization of the cheapest assignment, in (0, 1], of a cost matrix."""
    return float(costs.min(axis=1).sum() / costs.max(axis=1).sum())


def _padded(of_layer: tuple[int, ...], width: int) -> tuple[int, ...]:
    return of_layer + (of_layer[-1],) * (width - len(of_layer))


def _checked(name: str, layer: LayerInfo, bits: int, cost: Any) -> float:
    value = float(cost) if isinstance(cost, Real) else math.nan
    if not 0.0 <= value < math.inf:
        raise ReLeQError(
            f"cost={name!r} is {short(cost)} for {layer.name} at {bits} bits; it has to be a number from 0"
        )
    return value
