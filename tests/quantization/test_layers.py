from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from releq_env.errors import ReLeQError
from releq_env.quantization import quantizable_layers, with_scales


def test_convolution_and_linear_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 10))
    conv, linear = quantizable_layers(network, (3, 32, 32))
    assert (conv.name, conv.n, conv.c, conv.k) == ("0", 8, 3, 5)
    assert (conv.weights, conv.macs) == (8 * 3 * 25, 8 * 14 * 14 * 3 * 25)
    assert (linear.name, linear.n, linear.c, linear.k) == ("3", 10, 1568, 0)
    assert linear.weights == linear.macs == 15680


def test_standard_deviation_of_the_weights() -> None:
    network = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 1.0, 3.0, 3.0]]))
    assert quantizable_layers(network, (4,))[0].std == pytest.approx(1.0)


def test_groups_count_only_what_a_channel_sees() -> None:
    (layer,) = quantizable_layers(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, padding=1)), (8, 10, 10))
    assert (layer.c, layer.weights, layer.macs) == (1, 72, 8 * 100 * 9)


def test_other_dimensions() -> None:
    (one,) = quantizable_layers(nn.Sequential(nn.Conv1d(2, 4, 3)), (2, 10))
    (three,) = quantizable_layers(nn.Sequential(nn.Conv3d(1, 2, 2)), (1, 4, 4, 4))
    assert (one.k, one.macs) == (3, 4 * 8 * 6)
    assert (three.k, three.macs) == (2, 2 * 27 * 8)


class Backwards(nn.Module):
    """Defines the last layer first, calls one twice and another never."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 2)
        self.unused = nn.Linear(6, 6)
        self.twice = nn.Linear(6, 6)
        self.drop = nn.Dropout()
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.norm(self.twice(self.twice(x)))))


def test_order_is_that_of_the_forward_pass() -> None:
    layers = quantizable_layers(Backwards(), (6,))
    assert [layer.name for layer in layers] == ["twice", "last"]


def test_a_shared_layer_is_listed_once_with_all_its_work() -> None:
    twice = quantizable_layers(Backwards(), (6,))[0]
    assert (twice.weights, twice.macs) == (36, 72)


def test_the_network_is_left_as_it_was() -> None:
    network = Backwards()
    network.drop.eval()  # a mixed state, as in fine-tuning with frozen normalisation
    training = {name: module.training for name, module in network.named_modules()}
    state = {name: value.clone() for name, value in network.state_dict().items()}
    quantizable_layers(network, (6,))
    assert {name: module.training for name, module in network.named_modules()} == training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_failing_network_is_left_as_it_was() -> None:
    network = Backwards()
    with pytest.raises(RuntimeError):
        quantizable_layers(network, (7,))
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_nothing_to_quantize() -> None:
    with pytest.raises(ReLeQError, match=r"Sequential has no quantizable layer.*Conv2d.*Linear") as raised:
        quantizable_layers(nn.Sequential(nn.Flatten(), nn.ReLU()), (1, 2, 2))
    assert "\n" not in str(raised.value)


def test_scales_are_those_of_the_quantizer() -> None:
    layers = quantizable_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 10)), (3, 8, 8))
    assert [layer.scales for layer in with_scales(layers, "lsq")] == [8, 10]
    for quantizer in ("wrpn", "dorefa"):
        assert [layer.scales for layer in with_scales(layers, quantizer)] == [1, 1]


def test_weight_norm_counts_the_weights_that_are_computed() -> None:
    network = nn.Sequential(parametrizations.weight_norm(nn.Conv1d(2, 4, 3)))
    (layer,) = quantizable_layers(network, (2, 10))
    assert (layer.n, layer.weights, layer.macs) == (4, 24, 4 * 8 * 6)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.ConvTranspose2d(2, 3, 3), "is a ConvTranspose2d, which cannot be quantized"),
        (lambda: weight_norm(nn.Conv2d(2, 3, 3)), "computed by a hook.*parametrizations"),
    ],
    ids=["transposed", "old weight norm"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_be_quantized_is_refused_by_name(make: Callable[[], nn.Module], reason: str) -> None:
    network = nn.Sequential(OrderedDict(first=make()))
    with pytest.raises(ReLeQError, match=f"layer 'first'.*{reason}") as raised:
        quantizable_layers(network, (2, 5, 5))
    assert "\n" not in str(raised.value)
    assert not network.first._forward_hooks
