"""Learned step sizes (Esser et al. 2020, arXiv 1902.08153), and their 1-bit case."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from releq_env.quantization.base import SMALLEST_STEP, Codes, WeightQuantizer, per_candidate, per_channel, spread
from releq_env.quantization.least_error import least_error_steps

OWN_RATE = 0.01
"""Initial learning rate of the logarithm of a step, in Adam."""


def learned_step(weight: Tensor, bits: int) -> WeightQuantizer:
    """Return the quantizer `lsq` of a weight, shape `(n, ...)`, and a bitwidth, 1 to 8."""
    return LSQ(weight, bits) if bits > 1 else BinaryLSQ(weight, bits)


class LSQ(WeightQuantizer):
    """Codes `-n .. n` times a learned step, 2 to 8 bits, with `n = 2**(bits-1) - 1`.

    Differs from the paper: symmetric, one step an output channel, and trained is not the step but the logarithm
    of its ratio to its start, at a rate of its own: a step moves by a share of its size, and cannot cross
    zero, which would kill its channel. A step starts where rounding changes the weights least, not at
    `2 mean|w| / sqrt(n)` (see `least_error_steps`); its gradient is scaled by `1 / sqrt(weights per channel * n)`.

    Attributes:
        starting_steps: What gives the start, from weights of shape `(n_channels, weights per channel)` and `n`.
        start: The steps before training, shape `(n_channels,)`.
        log_step: Trainable, shape `(n_channels,)`: `step = start * exp(log_step)`.
    """

    start: Tensor
    own_rate = OWN_RATE
    slower = True
    starting_steps = staticmethod(least_error_steps)

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(weight, bits)
        self.n = 2 ** (bits - 1) - 1
        rows = weight.detach().flatten(1)
        self.register_buffer("start", self.starting_steps(rows, self.n))
        self.log_step = nn.Parameter(torch.zeros_like(self.start))
        self.gradient_scale = (rows.shape[1] * self.n) ** -0.5

    @property
    def step(self) -> Tensor:
        """The step sizes, shape `(n_channels,)`."""
        return self.start * torch.exp(self.log_step)

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Tensor = _LearnedStep.apply(weight, self.step, self.n, self.gradient_scale)
        return quantized

    def encode(self, weight: Tensor) -> Codes:
        step = per_channel(self.step.detach().clamp(min=SMALLEST_STEP), weight)
        # Times the reciprocal, as in the forward pass: half-way values then round alike.
        codes = torch.round(weight * (1.0 / step)).clamp(-self.n, self.n).to(torch.int32)
        return Codes(codes, step, 0.0)


class BinaryLSQ(WeightQuantizer):
    """The 1-bit case of `lsq`: `sign(w) * mean|w|` an output channel, with sign(0) = +1.

    The scale follows the weights and is not trained on its own (as in XNOR-Net, Rastegari et al.
    2016, arXiv 1603.05279).
    """

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Tensor = _Sign.apply(weight)
        return quantized

    def encode(self, weight: Tensor) -> Codes:
        codes = torch.where(weight >= 0, 1, -1).to(torch.int32)
        return Codes(codes, _mean_magnitude(weight), 0.0)


class StackedLSQ(nn.Module):
    """`LSQ`, and `BinaryLSQ` where there is 1 bit, for a stack.

    Args:
        stack: The full-precision weights, shape `(K, n, ...)`.
        bits: K bitwidths.

    Attributes:
        start: As in `LSQ`, shape `(K, n_channels)`.
        log_step: Trainable, shape `(K, n_channels)`. It means nothing where there is 1 bit, and stays.
    """

    own_rate = OWN_RATE
    slower = True
    start: Tensor
    n: Tensor
    gradient_scale: Tensor
    binary: Tensor

    def __init__(self, stack: Tensor, bits: Sequence[int]) -> None:
        super().__init__()
        rows = stack.detach().flatten(2)
        levels = [2 ** (b - 1) - 1 if b > 1 else 1 for b in bits]
        self.register_buffer("start", least_error_steps(rows, rows.new_tensor(levels).unsqueeze(1)))
        self.log_step = nn.Parameter(torch.zeros_like(self.start))
        scales = [(rows.shape[2] * n) ** -0.5 for n in levels]
        self.register_buffer("gradient_scale", rows.new_tensor(scales).unsqueeze(1))
        # No weight is outside the range of 1 bit: its gradient always passes.
        ranges = [n if b > 1 else torch.inf for n, b in zip(levels, bits, strict=True)]
        self.register_buffer("n", per_candidate(ranges, stack))
        self.register_buffer("binary", torch.tensor([b == 1 for b in bits], device=stack.device))
        self._any_binary = 1 in bits

    @property
    def step(self) -> Tensor:
        """The step sizes, shape `(K, n_channels)`."""
        return self.start * torch.exp(self.log_step)

    def forward(self, stack: Tensor) -> Tensor:
        binary = self.binary if self._any_binary else None
        quantized: Tensor = _LearnedSteps.apply(stack, self.step, self.n, self.gradient_scale, binary)
        return quantized


class _LearnedStep(torch.autograd.Function):
    """Round to multiples of a step a channel; gradients of LSQ, equations 2, 3 and 5.

    Plain vectorised passes: `torch.fake_quantize_per_channel_affine` takes several times as long.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, n: int, gradient_scale: float) -> Tensor:
        step = step.clamp(min=SMALLEST_STEP)
        scaled = weight * per_channel(1.0 / step, weight)
        codes = torch.round(scaled).clamp_(-n, n)
        ctx.save_for_backward(scaled, codes)
        ctx.n, ctx.gradient_scale = n, gradient_scale
        return codes * per_channel(step, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (grad,) = grads
        scaled, codes = ctx.saved_tensors
        # As a number, not a truth value: products of the two are not vectorised.
        inside = torch.empty_like(scaled)
        torch.le(scaled.abs(), ctx.n, out=inside)
        # d(quantized)/d(step) is round(v) - v inside, and +-n outside, where v = weight / step.
        slope = torch.addcmul(codes, scaled, inside, value=-1.0)
        grad_step = torch.linalg.vecdot(grad.flatten(1), slope.flatten(1)) * ctx.gradient_scale
        return inside.mul_(grad), grad_step, None, None


class _Sign(torch.autograd.Function):
    """`sign(w) * mean|w|` a channel, gradient passed straight through."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        # Adding zero turns -0.0, whose sign is negative, into 0.0.
        return torch.copysign(_mean_magnitude(weight), weight + 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _LearnedSteps(torch.autograd.Function):
    """As `_LearnedStep`, and as `_Sign` for the candidates that are binary."""

    @staticmethod
    def forward(
        ctx: Any, stack: Tensor, step: Tensor, n: Tensor, gradient_scale: Tensor, binary: Tensor | None
    ) -> Tensor:
        step = step.clamp(min=SMALLEST_STEP)
        scaled = stack * spread(1.0 / step, stack)
        codes = torch.round(scaled).clamp_(-n, n)
        ctx.save_for_backward(scaled, codes, n, gradient_scale, binary)
        if binary is None:
            return codes * spread(step, stack)
        rows = stack.flatten(2)
        magnitude = torch.linalg.vector_norm(rows, 1, dim=2) / rows.shape[2]
        # Adding zero turns -0.0, whose sign is negative, into 0.0.
        signs = torch.copysign(spread(magnitude, stack), stack + 0.0)
        return torch.where(spread(binary, stack), signs, codes * spread(step, stack))

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


def _mean_magnitude(weight: Tensor) -> Tensor:
    rows = weight.flatten(1)
    return per_channel(torch.linalg.vector_norm(rows, 1, dim=1) / rows.shape[1], weight)
