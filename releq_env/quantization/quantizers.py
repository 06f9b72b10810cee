"""Weight quantizers with straight-through gradients.

A quantizer belongs to one weight tensor and one bitwidth. It is an `nn.Module` whose forward maps
the full-precision weight to the dequantized one, so that it plugs into
`torch.nn.utils.parametrize`. The first dimension of a weight is its output channel.
"""

import operator
from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from releq_env.errors import ReLeQError, check_choice

SMALLEST_STEP = 1e-8  # keeps an all-zero channel from dividing by zero


class Codes(NamedTuple):
    """A quantized weight: `scale * codes + offset` is the dequantized tensor.

    Attributes:
        codes: int32, shape of the weight, at most 2**bits distinct values.
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
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        """Return the dequantized weight, same shape and type, with a straight-through gradient."""
        raise NotImplementedError

    def encode(self, weight: Tensor) -> Codes:
        """Return the integer codes that stand for `weight`."""
        raise NotImplementedError


class WRPN(WeightQuantizer):
    """Wide Reduced-Precision Networks (Mishra et al. 2017, arXiv 1709.01134), 2 to 8 bits.

    `round(clip(w, -1, 1) * n) / n` with `n = 2**(bits-1) - 1`. There is no scale: weights much
    smaller than `1 / (2 n)` all become zero.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(weight, bits)
        self.n = 2 ** (bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        clipped = weight.clamp(-1.0, 1.0)
        return clipped + (torch.round(clipped * self.n) / self.n - clipped).detach()

    def encode(self, weight: Tensor) -> Codes:
        codes = torch.round(weight.clamp(-1.0, 1.0) * self.n).to(torch.int32)
        return Codes(codes, weight.new_tensor(1.0 / self.n), 0.0)


class DoReFa(WeightQuantizer):
    """DoReFa-Net (Zhou et al. 2016, arXiv 1606.06160, equation 9), 2 to 8 bits.

    `2 * round(m * r) / m - 1` with `m = 2**bits - 1` and `r = tanh(w) / (2 max|tanh(w)|) + 1/2`. The
    result spans [-1, 1] whatever the scale of the weights.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(weight, bits)
        self.m = 2**bits - 1

    def _unit(self, weight: Tensor) -> Tensor:
        squashed = torch.tanh(weight)
        return squashed / (2.0 * squashed.abs().max().clamp(min=SMALLEST_STEP)) + 0.5

    def forward(self, weight: Tensor) -> Tensor:
        unit = self._unit(weight)
        return 2.0 * (unit + (torch.round(unit * self.m) / self.m - unit).detach()) - 1.0

    def encode(self, weight: Tensor) -> Codes:
        codes = torch.round(self._unit(weight) * self.m).to(torch.int32)
        return Codes(codes, weight.new_tensor(2.0 / self.m), -1.0)


class LSQ(WeightQuantizer):
    """Learned step size (Esser et al. 2020, arXiv 1902.08153), 2 to 8 bits.

    Codes `-n .. n` with `n = 2**(bits-1) - 1`. Differs from the paper: symmetric, and one step an
    output channel. A step starts at `2 mean|w| / sqrt(n)` and its gradient is scaled by
    `1 / sqrt(weights per channel * n)`.

    Attributes:
        step: Trainable, shape `(n_channels,)`.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(weight, bits)
        self.n = 2 ** (bits - 1) - 1
        rows = weight.detach().flatten(1)
        self.step = nn.Parameter(2.0 * rows.abs().mean(dim=1) / self.n**0.5)
        self.gradient_scale = (rows.shape[1] * self.n) ** -0.5

    def forward(self, weight: Tensor) -> Tensor:
        quantized: Tensor = _LearnedStep.apply(weight, self.step, self.n, self.gradient_scale)
        return quantized

    def encode(self, weight: Tensor) -> Codes:
        step = _per_channel(self.step.detach().clamp(min=SMALLEST_STEP), weight)
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


class _LearnedStep(torch.autograd.Function):
    """Round to multiples of a step a channel; gradients of LSQ, equations 2, 3 and 5.

    Plain vectorised passes: `torch.fake_quantize_per_channel_affine` takes several times as long.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, n: int, gradient_scale: float) -> Tensor:
        step = step.clamp(min=SMALLEST_STEP)
        scaled = weight * _per_channel(1.0 / step, weight)
        codes = torch.round(scaled).clamp_(-n, n)
        ctx.save_for_backward(scaled, codes)
        ctx.n, ctx.gradient_scale = n, gradient_scale
        return codes * _per_channel(step, weight)

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


def _mean_magnitude(weight: Tensor) -> Tensor:
    rows = weight.flatten(1)
    return _per_channel(torch.linalg.vector_norm(rows, 1, dim=1) / rows.shape[1], weight)


def _per_channel(values: Tensor, weight: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (weight.ndim - 1))


class QuantizerSpec(NamedTuple):
    """One entry of `QUANTIZERS`.

    Attributes:
        bitwidths: The bitwidths it supports, ascending.
        build: `(weight, bits) -> WeightQuantizer`.
    """

    bitwidths: tuple[int, ...]
    build: Callable[[Tensor, int], WeightQuantizer]


QUANTIZERS: dict[str, QuantizerSpec] = {
    "lsq": QuantizerSpec(tuple(range(1, 9)), lambda w, b: LSQ(w, b) if b > 1 else BinaryLSQ(w, b)),
    "wrpn": QuantizerSpec(tuple(range(2, 9)), WRPN),
    "dorefa": QuantizerSpec(tuple(range(2, 9)), DoReFa),
}


def check_bitwidths(bitwidths: Any, quantizer: str) -> tuple[int, ...]:
    """Return the set of bitwidths an agent may choose from, checked.

    Args:
        bitwidths: Ascending, distinct integers, or `None` for all that the quantizer supports.
        quantizer: A name in `QUANTIZERS`.

    Raises:
        ReLeQError: If the quantizer is unknown or the bitwidths do not fit it.
    """
    check_choice("quantizer", quantizer, QUANTIZERS)
    supported = QUANTIZERS[quantizer].bitwidths
    if bitwidths is None:
        return supported
    accepted = f"give ascending, distinct integers from {supported[0]} to {supported[-1]} ({quantizer})"
    try:
        if isinstance(bitwidths, Mapping | Set):
            raise TypeError
        given = tuple(bitwidths)
    except TypeError:
        raise ReLeQError(f"bitwidths={bitwidths!r} is not a list; {accepted}") from None
    if not given:
        raise ReLeQError(f"bitwidths is empty; {accepted}")
    try:
        if any(isinstance(bits, bool) for bits in given):
            raise TypeError
        values = tuple(operator.index(bits) for bits in given)
    except TypeError:
        raise ReLeQError(f"bitwidths={given!r} are not all integers; {accepted}") from None
    outside = [bits for bits in values if bits not in supported]
    if outside:
        raise ReLeQError(f"bitwidths={values} has {outside[0]}, which {quantizer} does not support; {accepted}")
    if list(values) != sorted(set(values)):
        raise ReLeQError(f"bitwidths={values} is unsorted or has repeats; {accepted}")
    return values
