"""Quantize a copy of a network, layer by layer."""

import contextlib
import copy
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from releq_env.errors import ReLeQError, check_choice
from releq_env.quantization.registry import QUANTIZERS, Quantizer


def quantize(network: nn.Module, layers: Sequence[str], bitwidths: Sequence[int], quantizer: str = "lsq") -> nn.Module:
    """Return a copy of a network whose layers compute with quantized weights.

    The copy keeps trainable full-precision weights beneath (`parametrizations.weight.original`) and
    quantizes them at every forward pass, through `torch.nn.utils.parametrize`; weights that are
    parametrized already (weight norm) are quantized as the last step, and where several modules have
    one weight, those that are not layers of their own here compute with its quantized form, too. The network
    that was given is not changed. Biases, normalisation and activations stay in full precision.

    Args:
        network: The pre-trained network.
        layers: Names of the layers, as in `LayerInfo.name`.
        bitwidths: One bitwidth a layer.
        quantizer: A name in `QUANTIZERS`.

    Raises:
        ReLeQError: If there is no such quantizer, it does not support a layer's bitwidth, or there are
            not as many bitwidths as layers, or a name is no module of the network or there twice.
    """
    check_choice("quantizer", quantizer, QUANTIZERS)
    if len(layers) != len(bitwidths):
        raise ReLeQError(f"{len(bitwidths)} bitwidths for {len(layers)} layers; give one a layer")
    entry = QUANTIZERS[quantizer]
    known = dict(network.named_modules(remove_duplicate=False))
    seen: set[int] = set()
    for name in layers:
        if name not in known or id(known[name]) in seen:
            why = "is named twice" if name in known else f"is no module of {type(network).__name__}"
            raise ReLeQError(f"layer {name!r} {why}; give the names that quantizable_layers() has")
        seen.add(id(known[name]))
    bitwidths = [_whole(name, bits, entry, quantizer) for name, bits in zip(layers, bitwidths, strict=True)]
    quantized = copy.deepcopy(network)
    named = [quantized.get_submodule(name) for name in layers]
    for layer, bits in zip(named, bitwidths, strict=True):
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        quantizer_of_weight = entry.make(weight.detach(), bits)
        for module in [layer, *_others_with_this_weight(quantized, layer, named)]:
            parametrize.register_parametrization(module, "weight", quantizer_of_weight)
    return quantized


def _whole(name: str, bits: Any, entry: Quantizer, quantizer: str) -> int:
    """Return a bitwidth as Python's own integer: NumPy's small ones overflow, and are no JSON."""
    with contextlib.suppress(TypeError):
        if operator.index(bits) in entry.bitwidths:
            return operator.index(bits)
    supported = ", ".join(map(str, entry.bitwidths))
    raise ReLeQError(f"layer {name!r} cannot have {bits!r} bits; {quantizer} supports {supported}")


def _others_with_this_weight(network: nn.Module, layer: nn.Module, named: Sequence[nn.Module]) -> list[nn.Module]:
    weight = layer._parameters.get("weight")
    if weight is None:
        return []
    return [m for m in network.modules() if m._parameters.get("weight") is weight and m not in named]
