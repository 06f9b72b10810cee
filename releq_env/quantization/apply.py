"""Quantize a copy of a network, layer by layer."""

import copy
from collections.abc import Sequence

from torch import nn
from torch.nn.utils import parametrize

from releq_env.quantization.quantizers import QUANTIZERS, check_bitwidths


def quantize(network: nn.Module, layers: Sequence[str], bitwidths: Sequence[int], quantizer: str = "lsq") -> nn.Module:
    """Return a copy of a network whose layers compute with quantized weights.

    The copy keeps trainable full-precision weights beneath (`parametrizations.weight.original`) and
    quantizes them at every forward pass, through `torch.nn.utils.parametrize`. The network that was
    given is not changed. Biases, normalisation and activations stay in full precision.

    Args:
        network: The pre-trained network.
        layers: Names of the layers, as in `LayerInfo.name`.
        bitwidths: One bitwidth a layer.
        quantizer: A name in `QUANTIZERS`.

    Raises:
        ValueError: If `layers` and `bitwidths` differ in length.
    """
    check_bitwidths(sorted(set(bitwidths)) or None, quantizer)
    quantized = copy.deepcopy(network)
    spec = QUANTIZERS[quantizer]
    for name, bits in zip(layers, bitwidths, strict=True):
        layer = quantized.get_submodule(name)
        parametrize.register_parametrization(layer, "weight", spec.build(layer.get_parameter("weight"), bits))
    return quantized
