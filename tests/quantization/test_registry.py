"""The table of quantizers, as others read it and add to it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from releq_env.errors import ReLeQError
from releq_env.quantization import QUANTIZERS, Codes, Quantizer, WeightQuantizer, quantize


class Steps(WeightQuantizer):
    """Multiples of a tenth, of as many bits as are asked for."""

    def forward(self, weight: Tensor) -> Tensor:
        codes, scale, _ = self.encode(weight)
        return weight + (scale * codes - weight).detach()

    def encode(self, weight: Tensor) -> Codes:
        largest = 2 ** (self.bits - 1) - 1
        return Codes((10 * weight).round().clamp(-largest, largest).int(), weight.new_tensor(0.1), 0.0)


@pytest.mark.parametrize("build", [Steps, f"{__name__}:Steps"], ids=["callable", "string"])
def test_one_from_outside(build: str | type[Steps], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTIZERS, "steps", Quantizer(bitwidths=(2, 4), build=build, scales="tensor"))
    network = nn.Sequential(nn.Linear(3, 2))
    quantized = quantize(network, ["0"], (4,), "steps")
    expected = 0.1 * (10 * network[0].weight).round().clamp(-7, 7)
    torch.testing.assert_close(quantized[0].weight, expected)
    with pytest.raises(ReLeQError, match="layer '0' cannot have 3 bits; steps supports 2, 4"):
        quantize(network, ["0"], (3,), "steps")
    with pytest.raises(ReLeQError, match="no stacked form"):
        QUANTIZERS["steps"].make_stacked(torch.ones(1, 2, 3), [2])


def test_learning_rates_and_scales() -> None:
    assert {name: (entry.learning_rate, entry.scales) for name, entry in QUANTIZERS.items()} == {
        "lsq": (1e-3, "channel"),
        "wrpn": (1e-3, "tensor"),
        "dorefa": (3e-4, "tensor"),
    }


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_scales_are_as_many_as_are_stored(quantizer: str) -> None:
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    for bits in QUANTIZERS[quantizer].bitwidths:
        _, scale, _ = QUANTIZERS[quantizer].make(weight, bits).encode(weight)
        assert scale.numel() == (5 if QUANTIZERS[quantizer].scales == "channel" else 1)


def test_the_table_needs_no_torch(python: Callable[..., str]) -> None:
    code = """
import sys
from releq_env.quantization import QUANTIZERS
print("torch" in sys.modules, QUANTIZERS["lsq"].bitwidths[0])
"""
    assert python(code).split() == ["False", "1"]


def test_unknown_names() -> None:
    import releq_env.quantization as package

    assert all(hasattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Typo'"):
        package.Typo  # noqa: B018
