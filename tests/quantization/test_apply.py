import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from releq_env.errors import ReLeQError
from releq_env.quantization import QUANTIZERS, quantize


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)).eval()


IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("bits", [(2, 3), (8, 2)])
def test_computes_with_quantized_weights(network: nn.Sequential, quantizer: str, bits: tuple[int, int]) -> None:
    expected = copy.deepcopy(network)
    with torch.no_grad():
        for index, b in zip((0, 4), bits, strict=True):
            weight = network[index].weight.detach()
            codes, scale, offset = QUANTIZERS[quantizer].make(weight, b).encode(weight)
            expected[index].weight.copy_(scale * codes + offset)
    quantized = quantize(network, ["0", "4"], bits, quantizer)
    torch.testing.assert_close(quantized(IMAGES), expected(IMAGES))
    assert len(quantized[0].weight.unique()) <= 4 * 2 ** bits[0]


def test_the_given_network_is_not_changed(network: nn.Sequential) -> None:
    state = copy.deepcopy(network.state_dict())
    quantized = quantize(network, ["0", "4"], (2, 2))
    optimizer = torch.optim.SGD(quantized.parameters(), lr=0.1)
    quantized(IMAGES).square().sum().backward()
    optimizer.step()
    assert list(network.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(hasattr(module, "parametrizations") for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_only_weights_are_quantized(network: nn.Sequential) -> None:
    quantized = quantize(network, ["0", "4"], (1, 1))
    for index in (0, 4):
        assert torch.equal(quantized[index].bias, network[index].bias)
        assert torch.equal(quantized[index].parametrizations.weight.original, network[index].weight)
    assert torch.equal(quantized[1].weight, network[1].weight)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_full_precision_weights_and_steps_train(network: nn.Sequential, quantizer: str) -> None:
    quantized = quantize(network, ["0", "4"], (6, 6), quantizer)  # with fewer, WRPN has only zeros
    before = [parameter.detach().clone() for parameter in quantized.parameters()]
    quantized(IMAGES).square().sum().backward()
    torch.optim.SGD(quantized.parameters(), lr=0.1).step()
    assert all(not torch.equal(old, new) for old, new in zip(before, quantized.parameters(), strict=True))


def test_unnamed_layers_stay(network: nn.Sequential) -> None:
    quantized = quantize(network, ["4"], (2,))
    assert torch.equal(quantized[0].weight, network[0].weight)


@pytest.mark.parametrize("bits", [(2,), (2, 2, 2), ()])
def test_as_many_bitwidths_as_layers(network: nn.Sequential, bits: tuple[int, ...]) -> None:
    with pytest.raises(ReLeQError, match=f"{len(bits)} bitwidths for 2 layers"):
        quantize(network, ["0", "4"], bits)


@pytest.mark.parametrize(
    ("quantizer", "bits"), [("lsq", 0), ("lsq", 9), ("lsq", -1), ("wrpn", 1), ("dorefa", 1), ("wrpn", 9)]
)
def test_unsupported_bits_are_refused(network: nn.Sequential, quantizer: str, bits: int) -> None:
    # One bit of WRPN would otherwise divide by zero and train on nothing but NaN.
    with pytest.raises(ReLeQError, match=f"layer '4' cannot have {bits} bits; {quantizer} supports") as raised:
        quantize(network, ["0", "4"], (8, bits), quantizer)
    assert "\n" not in str(raised.value)


def test_unknown_quantizer_is_named(network: nn.Sequential) -> None:
    with pytest.raises(ReLeQError, match="unknown quantizer 'int8'.*lsq, wrpn, dorefa"):
        quantize(network, ["0"], (8,), "int8")


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_weight_norm_is_quantized_as_the_last_step(quantizer: str) -> None:
    network = nn.Sequential(weight_norm(nn.Conv2d(1, 4, 3)), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    quantized = quantize(network, ["0", "2"], (6, 6), quantizer)
    weight = network[0].weight.detach()
    assert torch.equal(quantized[0].weight, QUANTIZERS[quantizer].make(weight, 6)(weight))
    before = [parameter.detach().clone() for parameter in quantized.parameters()]
    quantized(IMAGES).square().sum().backward()
    torch.optim.SGD(quantized.parameters(), lr=0.1).step()
    assert all(not torch.equal(old, new) for old, new in zip(before, quantized.parameters(), strict=True))
    assert torch.equal(network[0].weight, weight)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64])
def test_numpys_integers_are_bitwidths(network: nn.Sequential, kind: type) -> None:
    for quantizer in ("lsq", "dorefa"):
        theirs = quantize(network, ["0"], np.array([8], kind), quantizer)  # type: ignore[arg-type]
        assert torch.equal(theirs[0].weight, quantize(network, ["0"], [8], quantizer)[0].weight)
        assert type(theirs[0].parametrizations.weight[0].bits) is int


@pytest.mark.parametrize("bits", [2.0, "2", None])
def test_other_bitwidths_are_refused(network: nn.Sequential, bits: Any) -> None:
    with pytest.raises(ReLeQError, match=f"layer '0' cannot have {bits!r} bits"):
        quantize(network, ["0"], [bits])


@pytest.mark.parametrize(("layers", "why"), [(["nope"], "is no module of Sequential"), (["0", "0"], "is named twice")])
def test_names_are_checked(network: nn.Sequential, layers: list[str], why: str) -> None:
    with pytest.raises(ReLeQError, match=why):
        quantize(network, layers, [2] * len(layers))


def test_a_module_has_all_its_names() -> None:
    network = nn.Module()
    network.a = network.b = nn.Linear(3, 3)
    assert quantize(network, ["b"], [1]).a.weight.abs().unique(dim=1).shape == (3, 1)
    with pytest.raises(ReLeQError, match="layer 'b' is named twice"):
        quantize(network, ["a", "b"], [1, 2])
