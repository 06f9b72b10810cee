"""The quantizers of `quantizers.py` for a stack of candidates, each with a bitwidth of its own.

A stack has shape `(K, n, ...)`: the weight of one layer in K copies of a network. Every pass runs over
the whole stack. What a candidate gets, value and gradient, is what the quantizer of its bitwidth
gives it alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from releq_env.quantization.quantizers import SMALLEST_STEP


class StackedWRPN(nn.Module):
    """`WRPN` for a stack.

    Args:
        stack: The full-precision weights, shape `(K, n, ...)`.
        bits: K bitwidths.
    """

    n: Tensor

    def __init__(self, stack: Tensor, bits: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("n", _per_candidate([2 ** (b - 1) - 1 for b in bits], stack))

    def forward(self, stack: Tensor) -> Tensor:
        return _rounded(stack.clamp(-1.0, 1.0), self.n)


class StackedDoReFa(nn.Module):
    """`DoReFa` for a stack. The arguments are those of `StackedWRPN`."""

    m: Tensor

    def __init__(self, stack: Tensor, bits: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("m", _per_candidate([2**b - 1 for b in bits], stack))

    def forward(self, stack: Tensor) -> Tensor:
        squashed = torch.tanh(stack)
        # amax() shares its gradient between equal values, as max() over a whole tensor does.
        largest = squashed.abs().flatten(1).amax(dim=1).clamp(min=SMALLEST_STEP)
        unit = squashed / (2.0 * _spread(largest, stack)) + 0.5
        return 2.0 * _rounded(unit, self.m) - 1.0


class StackedLSQ(nn.Module):
    """`LSQ`, and `BinaryLSQ` where there is 1 bit, for a stack. The arguments are those of `StackedWRPN`.

    Attributes:
        step: Trainable, shape `(K, n_channels)`. It means nothing where there is 1 bit, and stays.
    """

    n: Tensor
    gradient_scale: Tensor
    binary: Tensor

    def __init__(self, stack: Tensor, bits: Sequence[int]) -> None:
        super().__init__()
        rows = stack.detach().flatten(2)
        levels = [2 ** (b - 1) - 1 if b > 1 else 1 for b in bits]
        roots = rows.new_tensor([n**0.5 for n in levels]).unsqueeze(1)
        self.step = nn.Parameter(2.0 * rows.abs().mean(dim=2) / roots)
        scales = [(rows.shape[2] * n) ** -0.5 for n in levels]
        self.register_buffer("gradient_scale", rows.new_tensor(scales).unsqueeze(1))
        # No weight is outside the range of 1 bit: its gradient always passes.
        ranges = [n if b > 1 else torch.inf for n, b in zip(levels, bits, strict=True)]
        self.register_buffer("n", _per_candidate(ranges, stack))
        self.register_buffer("binary", torch.tensor([b == 1 for b in bits], device=stack.device))
        self._any_binary = 1 in bits

    def forward(self, stack: Tensor) -> Tensor:
        binary = self.binary if self._any_binary else None
        quantized: Tensor = _LearnedSteps.apply(stack, self.step, self.n, self.gradient_scale, binary)
        return quantized


STACKED: dict[str, Callable[[Tensor, Sequence[int]], nn.Module]] = {
    "lsq": StackedLSQ,
    "wrpn": StackedWRPN,
    "dorefa": StackedDoReFa,
}
"""By name of the quantizer: `(stack, bits) -> module` that maps a stack to the dequantized one."""


class _LearnedSteps(torch.autograd.Function):
    """As `_LearnedStep` of `quantizers.py`, and as its `_Sign` for the candidates that are binary."""

    @staticmethod
    def forward(
        ctx: Any, stack: Tensor, step: Tensor, n: Tensor, gradient_scale: Tensor, binary: Tensor | None
    ) -> Tensor:
        step = step.clamp(min=SMALLEST_STEP)
        scaled = stack * _spread(1.0 / step, stack)
        codes = torch.round(scaled).clamp_(-n, n)
        ctx.save_for_backward(scaled, codes, n, gradient_scale, binary)
        if binary is None:
            return codes * _spread(step, stack)
        rows = stack.flatten(2)
        magnitude = torch.linalg.vector_norm(rows, 1, dim=2) / rows.shape[2]
        # Adding zero turns -0.0, whose sign is negative, into 0.0.
        signs = torch.copysign(_spread(magnitude, stack), stack + 0.0)
        return torch.where(_spread(binary, stack), signs, codes * _spread(step, stack))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (grad,) = grads
        scaled, codes, n, gradient_scale, binary = ctx.saved_tensors
        inside = torch.empty_like(scaled)
        torch.le(scaled.abs(), n, out=inside)
        slope = torch.addcmul(codes, scaled, inside, value=-1.0)
        grad_step = torch.linalg.vecdot(grad.flatten(2), slope.flatten(2)) * gradient_scale
        if binary is not None:
            grad_step = grad_step.masked_fill(binary.unsqueeze(1), 0.0)  # not times 0: it may be infinite
        return inside.mul_(grad), grad_step, None, None, None


def _rounded(values: Tensor, levels: Tensor) -> Tensor:
    """Round to multiples of `1 / levels`, the gradient passed straight through."""
    return values + (torch.round(values * levels) / levels - values).detach()


def _per_candidate(values: Sequence[float], stack: Tensor) -> Tensor:
    return _spread(stack.new_tensor(values), stack)


def _spread(values: Tensor, stack: Tensor) -> Tensor:
    """Give values a candidate, or a candidate's channel, the dimensions that a stack has beyond."""
    return values.reshape(*values.shape, *(1,) * (stack.ndim - values.ndim))
