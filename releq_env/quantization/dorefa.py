"""DoReFa-Net (Zhou et al. 2016, arXiv 1606.06160, equation 9)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from releq_env.quantization.base import SMALLEST_STEP, Codes, WeightQuantizer, per_candidate, rounded, spread


class DoReFa(WeightQuantizer):
    """`2 * round(m * r) / m - 1` with `m = 2**bits - 1` and `r = tanh(w) / (2 max|tanh(w)|) + 1/2`, 2 to 8 bits.

    The result spans [-1, 1] whatever the scale of the weights.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(weight, bits)
        self.m = 2**bits - 1

    def _unit(self, weight: Tensor) -> Tensor:
        squashed = torch.tanh(weight)
        return squashed / (2.0 * squashed.abs().max().clamp(min=SMALLEST_STEP)) + 0.5

    def forward(self, weight: Tensor) -> Tensor:
        return 2.0 * rounded(self._unit(weight), self.m) - 1.0

    def encode(self, weight: Tensor) -> Codes:
        codes = torch.round(self._unit(weight) * self.m).to(torch.int32)
        return Codes(codes, weight.new_tensor(2.0 / self.m), -1.0)


class StackedDoReFa(nn.Module):
    """`DoReFa` for a stack.

    Args:
        stack: The full-precision weights, shape `(K, n, ...)`.
        bits: K bitwidths.
    """

    m: Tensor

    def __init__(self, stack: Tensor, bits: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("m", per_candidate([2**b - 1 for b in bits], stack))

    def forward(self, stack: Tensor) -> Tensor:
        squashed = torch.tanh(stack)
        # amax() shares its gradient between equal values, as max() over a whole tensor does.
        largest = squashed.abs().flatten(1).amax(dim=1).clamp(min=SMALLEST_STEP)
        unit = squashed / (2.0 * spread(largest, stack)) + 0.5
        return 2.0 * rounded(unit, self.m) - 1.0
