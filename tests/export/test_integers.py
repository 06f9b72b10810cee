"""Integers of 2, 4 and 8 bits, for every quantizer and bitwidth."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import nn

from releq_env.export.integers import Integers
from releq_env.export.layer import packed_layer
from releq_env.quantization import QUANTIZERS, Codes, Quantizer, WeightQuantizer, quantize

EVERY = [(name, bits) for name, entry in QUANTIZERS.items() for bits in entry.bitwidths]
WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    elements=st.floats(-3, 3, width=32, allow_subnormal=False),
)


def quantized(array: NDArray[np.float32], bits: int, quantizer: str) -> nn.Module:
    layer = nn.Linear(array.shape[1], array.shape[0])
    layer.weight = nn.Parameter(torch.from_numpy(array.copy()))
    return quantize(nn.Sequential(layer), ["0"], [bits], quantizer)[0]


def check(layer: nn.Module, integers: Integers) -> None:
    values, width = integers.values, integers.width
    least, most = (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if integers.signed else (0, 2**width - 1)
    assert least <= values.min() <= values.max() <= most
    column = (-1, 1)
    weights = values.astype(np.float32) * integers.scale.reshape(column) + integers.offset.reshape(column)
    expected = layer.weight.detach().numpy()
    assert weights == pytest.approx(expected, rel=1e-6, abs=1e-6 * max(1e-6, float(np.abs(expected).max())))


@pytest.mark.parametrize(("quantizer", "bits"), EVERY)
@settings(max_examples=15)
@given(array=WEIGHTS)
def test_they_are_the_weights(quantizer: str, bits: int, array: NDArray[np.float32]) -> None:
    layer = quantized(array, bits, quantizer)
    integers = Integers.of(*packed_layer("0", layer))
    assert integers.width == {1: 2, 2: 2, 3: 4, 4: 4}.get(bits, 8)
    check(layer, integers)


@pytest.mark.parametrize("quantizer", ["lsq", "wrpn"])
def test_codes_around_zero_need_no_offset(quantizer: str) -> None:
    array = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    for bits in QUANTIZERS[quantizer].bitwidths:
        integers = Integers.of(*packed_layer("0", quantized(array, bits, quantizer)))
        counted_twice = quantizer == "lsq" and bits == 2  # -3, -1, 1, 3 need more than 2 bits
        assert integers.signed == (not counted_twice)
        assert integers.offset.any() == counted_twice


class Shifted(WeightQuantizer):
    """Codes -1, 0, 2 times a fixed scale, shifted: they fit into no signed integer of 2 bits."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        codes, scale, offset = self.encode(weight)
        return scale * codes + offset

    def encode(self, weight: torch.Tensor) -> Codes:
        codes = torch.where(weight > 0.1, 2, torch.where(weight < -0.1, -1, 0)).to(torch.int32)
        return Codes(codes, weight.new_tensor(0.25), 0.5)


def test_quantizers_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTIZERS, "shifted", Quantizer(bitwidths=(2,), build=Shifted, scales="tensor"))
    layer = quantized(np.array([[-1, 0, 1]], np.float32), 2, "shifted")
    integers = Integers.of(*packed_layer("0", layer))
    assert (integers.width, integers.signed, integers.values.tolist()) == (2, False, [[0, 1, 3]])
    check(layer, integers)
