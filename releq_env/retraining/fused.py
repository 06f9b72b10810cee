"""A faster layer with the same results, for the copy of a network that is retrained."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from releq_env.retraining.neighbours import Pair

_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


def fuse(network: nn.Module, pairs: Iterable[Pair]) -> None:
    """Make one layer of a 2x2 max pooling and a ReLU, in place. In either order: they commute.

    Args:
        network: To be changed.
        pairs: Its neighbours; those that are something else are left alone.
    """
    for names in pairs:
        first, second = map(network.get_submodule, names)
        if any(_is_halving_pool(a) and type(b) is nn.ReLU for a, b in ((first, second), (second, first))):
            network.set_submodule(names[0], HalvingMaxPoolReLU())
            network.set_submodule(names[1], nn.Identity())


class HalvingMaxPoolReLU(nn.Module):
    """`nn.MaxPool2d(2)` and `nn.ReLU()` for channels-last tensors, float32 and bfloat16.

    The maximum over pairs of rows runs along whole rows, and so at the processor's vector width even
    where there are few channels. Where several values are equal the gradient goes to the first one of a
    row pair, not the first one in the window. A NaN with its sign bit set, as x86 makes it of `inf - inf`,
    counts as negative.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return the maxima, shape `(N, C, H // 2, W // 2)`, negative ones zero."""
        if images.ndim != 4 or images.dtype not in _BITS:
            return F.relu(F.max_pool2d(images, 2))
        height, width = images.shape[2] // 2 * 2, images.shape[3] // 2 * 2
        pooled: Tensor = _HalvingMaxPoolReLU.apply(images[:, :, :height, :width].permute(0, 2, 3, 1))
        return pooled.permute(0, 3, 1, 2)


class _HalvingMaxPoolReLU(torch.autograd.Function):
    """Pixels `(N, H, W, C)` -> `(N, H / 2, W / 2, C)`.

    It works on the bits of the numbers as integers, which no vector unit has to convert first. Of numbers
    that are not negative they have the same order, and negative ones end as zero either way.
    """

    @staticmethod
    def forward(ctx: Any, pixels: Tensor) -> Tensor:
        bits = pixels.view(_BITS[pixels.dtype])
        upper, lower = bits[:, 0::2], bits[:, 1::2]
        rows = torch.maximum(upper, lower)
        left, right = rows[:, :, 0::2], rows[:, :, 1::2]
        pooled = torch.maximum(left, right).clamp_(min=0)
        if pixels.requires_grad:
            # As numbers, not truth values: products of the two are not vectorised.
            from_upper, from_left, positive = (torch.empty_like(bits) for bits in (rows, pooled, pooled))
            torch.ge(upper, lower, out=from_upper)
            torch.ge(left, right, out=from_left)
            torch.gt(pooled, 0, out=positive)
            ctx.save_for_backward(from_upper, from_left, positive)  # not the result: what follows may change it
        return pooled.view(pixels.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        from_upper, from_left, positive = ctx.saved_tensors
        count, half, width, channels = from_upper.shape
        # Products with 0 and 1, and differences from one of the two, keep a number's bits.
        grad = positive * grads[0].view(positive.dtype)
        rows = torch.empty_like(from_upper)
        torch.mul(grad, from_left, out=rows[:, :, 0::2])
        torch.sub(grad, rows[:, :, 0::2], out=rows[:, :, 1::2])
        pixels = rows.new_empty(count, 2 * half, width, channels)
        torch.mul(rows, from_upper, out=pixels[:, 0::2])
        torch.sub(rows, pixels[:, 0::2], out=pixels[:, 1::2])
        return pixels.view(grads[0].dtype)


def _is_halving_pool(module: nn.Module) -> bool:
    return (
        type(module) is nn.MaxPool2d
        and module.kernel_size in (2, (2, 2))
        and module.stride in (2, (2, 2))
        and module.padding in (0, (0, 0))
        and module.dilation in (1, (1, 1))
        and not module.ceil_mode
        and not module.return_indices
    )
