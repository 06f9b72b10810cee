"""Networks that need their images in one order in memory, run by an engine that has channels last."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from releq_env.arithmetic import pinned_arithmetic

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def with_channels_last(network: nn.Module) -> nn.Module:
    """Lay a network out with channels last, in place, and return it.

    One with tensors of more dimensions stays as it is: torch has no word for both layouts.
    """
    if any(tensor.ndim > 4 for tensor in (*network.parameters(), *network.buffers())):
        return network
    return network.to(memory_format=torch.channels_last)


@pinned_arithmetic()
def takes_channels_last(network: nn.Module, inputs: Tensor) -> bool:
    """Whether a network can be run on images with channels last.

    One that has `x.view(len(x), -1)` behind a convolution cannot: what that returns has no such view then.

    Args:
        network: It can be run on the inputs as they are.
        inputs: A few, shape `(N, ...)`; not only images: a network may make images of other inputs.
    """
    moved = with_channels_last(copy.deepcopy(network))
    try:
        with torch.no_grad():
            moved(inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs)
    except RuntimeError:
        return False
    return True


def keep_contiguous(network: nn.Module) -> nn.Module:
    """Let a network see what it is given, and what its convolutions return, with channels first, in place.

    The engine may lay out what it likes then; the results are the same.

    Args:
        network: Nobody else's.
    """
    network.register_forward_pre_hook(_inputs_first)
    for layer in network.modules():
        if isinstance(layer, _CONVOLUTIONS):
            layer.register_forward_hook(_output_first)
    return network


def is_kept_contiguous(network: nn.Module) -> bool:
    """Whether `keep_contiguous` was at work."""
    return _inputs_first in network._forward_pre_hooks.values()


def as_given(network: nn.Module) -> nn.Module:
    """Take off what `keep_contiguous` has put on a network, in place, and return it."""
    for module in network.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if hook in (_inputs_first, _output_first)]:
                del hooks[key]
    return network


def _inputs_first(network: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.contiguous() if isinstance(each, Tensor) else each for each in given)


def _output_first(layer: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.contiguous()
