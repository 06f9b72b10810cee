"""Wide Reduced-Precision Networks (Mishra et al. 2017, arXiv 1709.01134), the paper's quantizer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from releq_env.quantization.base import Codes, WeightQuantizer, per_candidate, rounded


class WRPN(WeightQuantizer):
    """`round(clip(w, -1, 1) * n) / n` with `n = 2**(bits-1) - 1`, 2 to 8 bits.

    There is no scale: weights much smaller than `1 / (2 n)` all become zero.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(weight, bits)
        self.n = 2 ** (bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        return rounded(weight.clamp(-1.0, 1.0), self.n)

    def encode(self, weight: Tensor) -> Codes:
        codes = torch.round(weight.clamp(-1.0, 1.0) * self.n).to(torch.int32)
        return Codes(codes, weight.new_tensor(1.0 / self.n), 0.0)


class StackedWRPN(nn.Module):
    """`WRPN` for a stack.

    Args:
        stack: The full-precision weights, shape `(K, n, ...)`.
        bits: K bitwidths.
    """

    n: Tensor

    def __init__(self, stack: Tensor, bits: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("n", per_candidate([2 ** (b - 1) - 1 for b in bits], stack))

    def forward(self, stack: Tensor) -> Tensor:
        return rounded(stack.clamp(-1.0, 1.0), self.n)
