"""What all weight quantizers share.

A quantizer belongs to one weight tensor and one bitwidth. It is an `nn.Module` whose forward maps
the full-precision weight to the dequantized one, with a straight-through gradient, so that it plugs
into `torch.nn.utils.parametrize`. The first dimension of a weight is its output channel.

A stacked quantizer does the same to a stack of candidates, shape `(K, n, ...)`: the weight of one
layer in K copies of a network, each with a bitwidth of its own. Every pass runs over the whole stack.
What a candidate gets, value and gradient, is what the quantizer of its bitwidth gives it alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

SMALLEST_STEP = 1e-8  # keeps an all-zero channel from dividing by zero


class Codes(NamedTuple):
    """A quantized weight: `scale * codes + offset` is the dequantized tensor.

    Attributes:
        codes: int32, shape of the weight, at most 2**bits distinct values, evenly spaced.
        scale: float32, broadcastable to the weight (one value a tensor or an output channel).
        offset: A number.
    """

    codes: Tensor
    scale: Tensor
    offset: float


class WeightQuantizer(nn.Module):
    """Base of all quantizers.

    Args:
        weight: The full-precision weight, shape `(n, ...)`.
        bits: Bitwidth of the codes.

    Attributes:
        own_rate: Initial learning rate of what it trains itself; `None` is that of the weights.
        slower: Whether weights of more than 2 bits learn more slowly: for a quantizer whose codes of many bits are
            close to the pre-trained weights, which a large rate would only move away.
    """

    own_rate: float | None = None
    slower: bool = False

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Return the dequantized weight, same shape and type, with a straight-through gradient."""
        raise NotImplementedError

    def encode(self, weight: Tensor) -> Codes:
        """Return the integer codes that stand for `weight`."""
        raise NotImplementedError


def rounded(values: Tensor, levels: int | Tensor) -> Tensor:
    """Round to multiples of `1 / levels`, the gradient passed straight through."""
    return values + (torch.round(values * levels) / levels - values).detach()


def per_channel(values: Tensor, weight: Tensor) -> Tensor:
    """Give one value a channel the dimensions of a weight."""
    return values.reshape(-1, *(1,) * (weight.ndim - 1))


def per_candidate(values: Sequence[float], stack: Tensor) -> Tensor:
    """Give one number a candidate the type and the dimensions of a stack."""
    return spread(stack.new_tensor(values), stack)


def spread(values: Tensor, stack: Tensor) -> Tensor:
    """Give values a candidate, or a candidate's channel, the dimensions that a stack has beyond."""
    return values.reshape(*values.shape, *(1,) * (stack.ndim - values.ndim))
