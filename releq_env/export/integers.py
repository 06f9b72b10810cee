"""A packed layer's weights as integers of a width that other formats have, 2, 4 or 8 bits."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from releq_env.export.bit_packing import unpack
from releq_env.export.layer import PackedLayer

WIDTHS = (2, 4, 8)


class Integers(NamedTuple):
    """`values * scale + offset`, a scale and an offset an output channel or a tensor, are the weights.

    Computed in float32; up to its rounding they are those of the packed file.

    Attributes:
        values: int16, in the shape of the weight.
        width: Bits of the smallest of `WIDTHS` that holds them.
        signed: Whether they lie in `[-2**(width-1), 2**(width-1))`, else in `[0, 2**width)`.
        scale: float32, shape `(channels,)` or `(1,)`.
        offset: The same; all zero where the codes are centred on zero.
    """

    values: NDArray[np.int16]
    width: int
    signed: bool
    scale: NDArray[np.float32]
    offset: NDArray[np.float32]

    @classmethod
    def of(cls, layer: PackedLayer, packed: Tensor, scale: Tensor) -> "Integers":
        """Return the integers of a layer as a packed file has it, checked by `PackedLayer.weights`."""
        numbers = unpack(packed.numpy(), layer.bits, math.prod(layer.shape)).astype(np.int16).reshape(layer.shape)
        width = next(width for width in WIDTHS if width >= layer.bits)
        unit = scale.double().numpy() / layer.divisor
        high = layer.low + layer.spacing * (layer.levels - 1)
        if -(2 ** (width - 1)) <= layer.low and high < 2 ** (width - 1):
            values, offset = layer.low + layer.spacing * numbers, np.full_like(unit, layer.offset)
            return cls(values.astype(np.int16), width, True, unit.astype(np.float32), offset.astype(np.float32))
        # As DoReFa's, of which the middle lies between two codes: counted from 0, and shifted afterwards.
        offset = layer.low * unit + layer.offset
        unit = layer.spacing * unit
        return cls(numbers, width, False, unit.astype(np.float32), offset.astype(np.float32))
