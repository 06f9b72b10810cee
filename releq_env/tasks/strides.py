"""Strided 1x1 convolutions of few channels, computed so that oneDNN does not write past the end of memory.

On processors with AVX2 and no more, the weight gradient of such a convolution corrupts the heap with channels-last
inputs (https://github.com/uxlfoundation/oneDNN/issues/6035, torch 2.14 has it): a crash, or worse, at some later time.
"""

from functools import partial
from typing import Any

from torch import Tensor, nn

_SAFE = 8  # channels, a whole vector


def without_strides(network: nn.Module) -> nn.Module:
    """Let such layers take every n-th pixel before they convolve, in place, and return the network.

    The results are the same but for the last digits, parameters and shapes all the same.

    Args:
        network: Nobody else's.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and _concerned(layer):
            layer.register_forward_pre_hook(partial(_every, layer.stride))
            layer.stride = (1, 1)
    return network


def _concerned(layer: nn.Conv2d) -> bool:
    plain = layer.kernel_size == (1, 1) and not isinstance(layer.padding, str) and not any(layer.padding)
    return plain and any(step > 1 for step in layer.stride) and layer.in_channels // layer.groups < _SAFE


def _every(stride: tuple[int, ...], layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    images: Tensor = given[0]
    rows, columns = stride
    return (images[..., ::rows, ::columns], *given[1:])
