"""One layer's weights as a file holds them."""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from releq_env.errors import ReLeQError
from releq_env.export.bit_packing import pack, unpack
from releq_env.export.state import check_order, order, ordered
from releq_env.quantization import QUANTIZERS, WeightQuantizer
from releq_env.quantization.base import per_channel

_EXACT = 2**24  # whole numbers up to here are float32, too


@dataclass(frozen=True)
class PackedLayer:
    """What is to be known of a layer besides its packed numbers and its scale.

    A weight is `(low + spacing * number) / divisor * scale + offset`, computed in this order and in the
    type of the scale: then it is, bit for bit, what the quantizer computes (a minus zero becomes zero).

    Attributes:
        quantizer: Its name in `releq_env.quantization.QUANTIZERS`, or its class; for the reader only.
        bits: Of a number, 1 to 8.
        shape: Of the weight.
        low: The code that the number 0 stands for.
        spacing: From one code to the next.
        levels: How many codes there are: the numbers are smaller.
        divisor: 1, or that of a quantizer that divides its codes by a whole number.
        offset: Of `Codes`.
        order: Of the weight's dimensions in memory, see `releq_env.export.state.order`.
    """

    quantizer: str
    bits: int
    shape: tuple[int, ...]
    low: int
    spacing: int
    levels: int
    divisor: int
    offset: float
    order: tuple[int, ...]

    @classmethod
    def read(cls, described: Any) -> "PackedLayer":
        """Return it from what JSON makes of it.

        Raises:
            ValueError: If that is something else.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(described, dict) or set(described) != names:
            raise ValueError(f"a layer is not described by exactly {', '.join(sorted(names))}")
        shape, offset = described["shape"], described["offset"]
        numbers = {name: described[name] for name in ("bits", "low", "spacing", "levels", "divisor")}
        numbers |= {f"size {axis} of a shape": size for axis, size in enumerate(shape if type(shape) is list else [0])}
        for name, number in numbers.items():
            if type(number) is not int or not (1 if name != "low" else -_EXACT) <= number <= _EXACT:
                raise ValueError(f"{name} of a layer is {str(number)[:50]}")
        if type(offset) is not float or not math.isfinite(offset):
            raise ValueError("the offset of a layer is no finite number")
        check_order(described["order"], len(shape))
        if described["bits"] > 8 or described["levels"] > 2 ** described["bits"]:
            raise ValueError(f"{described['levels']} codes of {described['bits']} bits")
        named = {"quantizer": str(described["quantizer"]), "shape": tuple(shape), "order": tuple(described["order"])}
        return cls(**described | named)

    def weights(self, packed: Tensor, scale: Tensor) -> Tensor:
        """Return the dequantized weights.

        Args:
            packed: uint8, shape `(bytes,)`.
            scale: One value, or one an output channel, in the type of the weights.

        Raises:
            ValueError: If the two do not belong to such a layer.
        """
        if packed.dtype != torch.uint8 or packed.ndim != 1:
            raise ValueError(f"packed weights are {packed.dtype} of shape {tuple(packed.shape)}")
        if not scale.is_floating_point() or tuple(scale.shape) not in ((1,), self.shape[:1]):
            raise ValueError(f"a scale is {scale.dtype} of shape {tuple(scale.shape)}")
        if not scale.isfinite().all():
            raise ValueError("a scale is not finite")
        numbers = unpack(packed.numpy(), self.bits, math.prod(self.shape))
        if numbers.max() >= self.levels:
            raise ValueError(f"a code is out of range; there are {self.levels}")
        codes = self.low + self.spacing * torch.from_numpy(numbers).to(torch.int32)
        codes = codes.to(scale.dtype).reshape(self.shape)
        return ordered(codes / self.divisor * per_channel(scale, codes) + self.offset, self.order)


def quantized_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers whose weights `releq_env.quantization.quantize` has quantized, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if parametrize.is_parametrized(module, "weight")
        and any(isinstance(step, WeightQuantizer) for step in _steps(module))
    }


@torch.no_grad()
def packed_layer(name: str, layer: nn.Module) -> tuple[PackedLayer, Tensor, Tensor]:
    """Return how a quantized layer is described, its packed numbers, shape `(bytes,)`, and its scale.

    Args:
        name: Of the layer.
        layer: In evaluation mode.

    Raises:
        ReLeQError: If its weights cannot be written in its bitwidth.
    """
    quantizer = _quantizer(name, layer)
    expected = layer.weight
    assert isinstance(expected, Tensor)
    if not expected.isfinite().all():
        raise ReLeQError(f"the weights of layer {name!r} are not finite; train it again with a lower learning rate")
    bits, named = quantizer.bits, _name(quantizer)
    codes, scale, offset = quantizer.encode(_before(layer))
    low = int(codes.min())
    spacing = int(np.gcd.reduce(codes.unique().cpu().numpy() - low)) or 1
    numbers = (codes - low) // spacing
    levels = int(numbers.max()) + 1
    if not 1 <= bits <= 8 or levels > 2**bits or scale.numel() not in (1, len(expected)):
        raise ReLeQError(
            f"layer {name!r} has {levels} codes of {bits} bits and {scale.numel()} scales from {named}; packed are "
            "at most 2**bits codes of 1 to 8 bits and one scale a tensor or an output channel"
        )
    packed = torch.from_numpy(pack(numbers.flatten().cpu().numpy().astype(np.uint8), bits))
    scale = scale.to("cpu", expected.dtype).reshape(-1)
    # A quantizer multiplies its codes by the scale, or it divides them by their range.
    for divisor in (1, 2 ** (bits - 1) - 1, 2**bits - 1):
        whole = scale if divisor == 1 else (scale * divisor).round()
        described = PackedLayer(
            *(named, bits, tuple(expected.shape), low, spacing, levels, divisor, float(offset)),
            order=order(expected),
        )
        if divisor and torch.equal(described.weights(packed, whole), expected.cpu()):
            return described, packed, whole
    raise ReLeQError(
        f"layer {name!r} computes other weights than scale * codes + offset of its quantizer {named}; let encode() "
        "and forward() of a quantizer agree bit for bit"
    )


def _steps(layer: nn.Module) -> parametrize.ParametrizationList:
    steps = layer.get_submodule("parametrizations.weight")
    assert isinstance(steps, parametrize.ParametrizationList)
    return steps


def _quantizer(name: str, layer: nn.Module) -> WeightQuantizer:
    last = _steps(layer)[-1]
    if not isinstance(last, WeightQuantizer):
        raise ReLeQError(
            f"the weight of layer {name!r} goes through {type(last).__name__} after its quantizer, as where batch "
            "normalisation is folded; save the network as it is before that"
        )
    return last


def _before(layer: nn.Module) -> Tensor:
    """Return what a layer's quantizer, its last step, is given: the weight, or what weight norm makes of it."""
    steps = _steps(layer)
    if len(steps) == 1:
        return steps.original
    *earlier, _ = steps
    originals = [steps.original] if steps.is_tensor else [getattr(steps, f"original{i}") for i in range(steps.ntensors)]
    weight = earlier[0](*originals)
    for step in earlier[1:]:
        weight = step(weight)
    return weight


def _name(quantizer: WeightQuantizer) -> str:
    for name, entry in QUANTIZERS.items():
        if quantizer.bits in entry.bitwidths and type(entry.make(torch.zeros(1, 1), quantizer.bits)) is type(quantizer):
            return name
    return type(quantizer).__name__
