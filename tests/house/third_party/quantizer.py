"""Evenly spaced codes from the largest magnitude down to its negative."""

import torch
from torch import Tensor

from releq_env.quantization import QUANTIZERS, Codes, Quantizer, WeightQuantizer


class AbsMax(WeightQuantizer):
    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__(weight, bits)
        self.n = 2 ** (bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        codes, scale, _ = self.encode(weight.detach())
        return weight + (codes * scale - weight).detach()

    def encode(self, weight: Tensor) -> Codes:
        scale = weight.abs().max().clamp(min=1e-8) / self.n
        return Codes(torch.round(weight / scale).to(torch.int32), scale, 0.0)


QUANTIZERS["abs_max"] = Quantizer(bitwidths=tuple(range(2, 9)), build=AbsMax, scales="tensor")
