"""Learned step sizes (Esser et al. 2020, arXiv 1902.08153), on a grid without zero where there are few bits."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from releq_env.quantization.base import SMALLEST_STEP, Codes, WeightQuantizer, per_channel, spread
from releq_env.quantization.least_error import least_error_steps

OWN_RATE = 0.01
"""Initial learning rate of the logarithm of a step, in Adam."""

WITHOUT_ZERO = 3
"""Up to so many bits zero is no level."""


class Grid(NamedTuple):
    """The levels of a bitwidth, in steps: `-top, ..., top`, one apart.

    Attributes:
        top: The largest.
        shift: 0, or 0.5 where they are halves: then zero is none, and there are `2**bits`, else one less.
        edge: Up to which magnitude a weight gets its gradient: `top`, as published; of halves to the end of the last
            cell, since at 1 bit half of all weights are beyond `top`.
    """

    top: float
    shift: float
    edge: float

    @classmethod
    def whole(cls, bits: int) -> "Grid":
        """Return the whole numbers of a bitwidth, 2 to 8: zero, and as many below it as above."""
        top = 2.0 ** (bits - 1) - 1.0
        return cls(top, 0.0, top)

    @classmethod
    def halves(cls, bits: int) -> "Grid":
        """Return the halves of a bitwidth, 1 to 8: all levels that it can have."""
        end = 2.0 ** (bits - 1)
        return cls(end - 0.5, 0.5, end)


def grid(bits: int) -> Grid:
    """Return the levels of a bitwidth, 1 to 8.

    Of few levels none is given away: without zero 2 bits have four, not three (CSQ: Centered Symmetric Quantization for
    Extremely Low Bit Neural Networks, Asim et al. 2021; for 2 bits also ParetoQ, Liu et al. 2025, arXiv 2502.02631).
    From 4 bits on, where one more buys little, there is a zero: codes are then integers that other programs compute
    with as they are.
    """
    return Grid.halves(bits) if bits <= WITHOUT_ZERO else Grid.whole(bits)


class LSQ(WeightQuantizer):
    """The levels of `grid` times a learned step, 1 to 8 bits.

    Differs from the paper: the levels are symmetric, and up to 3 bits halves; there is one step an output channel;
    trained is not the step but the logarithm of its ratio to its start, at a rate of its own: a step moves by a share
    of its size, and cannot cross zero, which would kill its channel. A step starts near the least squared error, not
    at `2 mean|w| / sqrt(top)` (see `least_error_steps`); its gradient is scaled by
    `1 / sqrt(weights per channel * top)`. 1 bit is `sign(w) * mean|w|` to begin with, with sign(0) = +1.

    Attributes:
        start: The steps before training, shape `(n_channels,)`.
        log_step: Trainable, shape `(n_channels,)`: `step = start * exp(log_step)`.
    """

    start: Tensor
    own_rate = OWN_RATE
    slower = True
    levels = staticmethod(grid)
    starting_steps = staticmethod(least_error_steps)

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(weight, bits)
        self.grid = self.levels(bits)
        rows = weight.detach().flatten(1)
        self.register_buffer("start", self.starting_steps(rows, self.grid.top, self.grid.shift))
        self.log_step = nn.Parameter(torch.zeros_like(self.start))
        self.gradient_scale = (rows.shape[1] * self.grid.top) ** -0.5

    @property
    def step(self) -> Tensor:
        """The step sizes, shape `(n_channels,)`."""
        return self.start * torch.exp(self.log_step)

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Tensor = _LearnedStep.apply(weight, self.step, self.grid, self.gradient_scale)
        return quantized

    def encode(self, weight: Tensor) -> Codes:
        step = per_channel(_positive(self.step.detach()), weight)
        # Times the reciprocal, as in the forward pass: half-way values then round alike.
        levels = _rounded(weight * (1.0 / step), self.grid)
        spacing = 2 if self.grid.shift else 1  # halves are counted twice: 1, 3, 5, ...
        return Codes((spacing * levels).to(torch.int32), step / spacing, 0.0)


class StackedLSQ(nn.Module):
    """`LSQ` for a stack.

    Args:
        stack: The full-precision weights, shape `(K, n, ...)`.
        bits: K bitwidths.

    Attributes:
        start: As in `LSQ`, shape `(K, n_channels)`.
        log_step: Trainable, shape `(K, n_channels)`.
    """

    own_rate = OWN_RATE
    slower = True
    start: Tensor
    top: Tensor
    shift: Tensor
    edge: Tensor
    gradient_scale: Tensor

    def __init__(self, stack: Tensor, bits: Sequence[int]) -> None:
        super().__init__()
        rows = stack.detach().flatten(2)
        grids = [grid(each) for each in bits]
        top, shift, edge = (rows.new_tensor(values).unsqueeze(1) for values in zip(*grids, strict=True))
        self.register_buffer("start", least_error_steps(rows, top, shift))
        self.log_step = nn.Parameter(torch.zeros_like(self.start))
        self.register_buffer("gradient_scale", (rows.shape[2] * top) ** -0.5)
        for name, values in (("top", top), ("shift", shift), ("edge", edge)):
            self.register_buffer(name, spread(values.squeeze(1), stack))

    @property
    def step(self) -> Tensor:
        """The step sizes, shape `(K, n_channels)`."""
        return self.start * torch.exp(self.log_step)

    def forward(self, stack: Tensor) -> Tensor:
        quantized: Tensor = _LearnedSteps.apply(stack, self.step, self.top, self.shift, self.edge, self.gradient_scale)
        return quantized


def _positive(step: Tensor) -> Tensor:
    """Return steps that can be divided by, in their type: float16 has nothing as small as `SMALLEST_STEP`."""
    return step.clamp(min=max(SMALLEST_STEP, torch.finfo(step.dtype).tiny))


def _rounded(scaled: Tensor, grid: Grid) -> Tensor:
    """Return the levels that are nearest, in steps."""
    if not grid.shift:
        return torch.round(scaled).clamp_(-grid.top, grid.top)
    return (scaled - grid.shift).round_().add_(grid.shift).clamp_(-grid.top, grid.top)


class _LearnedStep(torch.autograd.Function):
    """Round to the levels of a step a channel; gradients of LSQ, equations 2, 3 and 5.

    Plain vectorised passes: `torch.fake_quantize_per_channel_affine` takes several times as long.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, grid: Grid, gradient_scale: float) -> Tensor:
        step = _positive(step)
        scaled = weight * per_channel(1.0 / step, weight)
        levels = _rounded(scaled, grid)
        ctx.save_for_backward(scaled, levels)
        ctx.edge, ctx.gradient_scale = grid.edge, gradient_scale
        return levels * per_channel(step, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (grad,) = grads
        scaled, levels = ctx.saved_tensors
        # As a number, not a truth value: products of the two are not vectorised.
        inside = torch.empty_like(scaled)
        torch.le(scaled.abs(), ctx.edge, out=inside)
        # d(quantized)/d(step) is level(v) - v inside, and +-top outside, where v = weight / step.
        slope = torch.addcmul(levels, scaled, inside, value=-1.0)
        grad_step = torch.linalg.vecdot(grad.flatten(1), slope.flatten(1)) * ctx.gradient_scale
        return inside.mul_(grad), grad_step, None, None


class _LearnedSteps(torch.autograd.Function):
    """As `_LearnedStep`, with a grid a candidate."""

    @staticmethod
    def forward(
        ctx: Any, stack: Tensor, step: Tensor, top: Tensor, shift: Tensor, edge: Tensor, gradient_scale: Tensor
    ) -> Tensor:
        step = _positive(step)
        scaled = stack * spread(1.0 / step, stack)
        levels = (scaled - shift).round_().add_(shift).clamp_(-top, top)
        ctx.save_for_backward(scaled, levels, edge, gradient_scale)
        return levels * spread(step, stack)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        (grad,) = grads
        scaled, levels, edge, gradient_scale = ctx.saved_tensors
        inside = torch.empty_like(scaled)
        torch.le(scaled.abs(), edge, out=inside)
        slope = torch.addcmul(levels, scaled, inside, value=-1.0)
        grad_step = torch.linalg.vecdot(grad.flatten(2), slope.flatten(2)) * gradient_scale
        return inside.mul_(grad), grad_step, None, None, None, None
