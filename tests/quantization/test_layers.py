from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from releq_env.errors import ReLeQError
from releq_env.quantization import quantizable_layers, quantize, with_scales
from releq_env.quantization.layers import SharedWeight, Skipped, bare, survey


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


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_cannot_be_quantized_is_refused_by_name() -> None:
    network = nn.Sequential(OrderedDict(first=weight_norm(nn.Conv2d(2, 3, 3))))
    with pytest.raises(ReLeQError, match="layer 'first'.*computed by a hook.*parametrizations") as raised:
        quantizable_layers(network, (2, 5, 5))
    assert "\n" not in str(raised.value)
    assert not network.first._forward_hooks


def test_transposed_convolutions_have_their_scales_along_the_first_dimension() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2))
    (layer,) = with_scales(quantizable_layers(network, (4, 5, 5)), "lsq")
    assert (layer.n, layer.c, layer.k, layer.weights) == (6, 2, 3, 4 * 3 * 9)
    assert layer.macs == 4 * 25 * 3 * 9  # every input element meets the outputs of its group
    assert layer.scales == 4


def test_an_embedding_costs_no_multiplications() -> None:
    network = nn.Sequential(OrderedDict(words=nn.Embedding(9, 4), out=nn.Linear(4, 2)))
    words, out = survey(network, torch.tensor([[1, 2, 3]])).layers
    assert (words.weights, words.macs, words.n, words.c) == (36, 0, 9, 4)
    assert out.macs == 3 * 8


def test_attention_has_its_output_projection() -> None:
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = nn.Sequential(OrderedDict(block=block, out=nn.Linear(8, 3)))
    found = survey(network, torch.randn(1, 5, 8))
    macs = {layer.name: layer.macs for layer in found.layers}
    assert macs == {
        "block.self_attn.out_proj": 5 * 64, "block.linear1": 5 * 128, "block.linear2": 5 * 128, "out": 5 * 24,
    }  # fmt: skip
    assert set(found.left_out) == {"block.self_attn.in_proj_weight"}
    assert torch.backends.mha.get_fastpath_enabled()


def test_modules_with_one_weight_are_one_layer_or_two() -> None:
    network = nn.Sequential(OrderedDict(a=nn.Linear(4, 4), b=nn.Linear(4, 4)))
    network.b.weight = network.a.weight
    (both,) = survey(network, torch.zeros(1, 4)).layers
    assert (both.name, both.weights, both.macs) == ("a", 16, 32)
    assert [layer.name for layer in quantizable_layers(network, (4,))] == ["a", "b"]
    quantized = quantize(network, ["a"], [2])
    assert torch.equal(quantized.a.weight, quantized.b.weight)
    assert len({id(parameter) for parameter in quantized.parameters()}) == 2 + 1 + 1  # biases, weight, steps
    apart = quantize(network, ["a", "b"], [2, 8])
    assert not torch.equal(apart.a.weight, apart.b.weight)


def test_the_kind_of_a_reason_is_not_a_matter_of_words() -> None:
    other = type("same weight", (nn.Module,), {})()  # as somebody's class may be called
    other.matrix = nn.Parameter(torch.zeros(2, 2))
    network = nn.Sequential(OrderedDict(a=nn.Linear(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 4)))
    network.b.weight = network.a.weight
    network.a.other = other
    left_out = survey(network, torch.zeros(1, 4), skip=["c"]).left_out
    assert {name: type(reason) for name, reason in left_out.items()} == {
        "b": SharedWeight, "c": Skipped, "a.other.matrix": str,
    }  # fmt: skip
    assert "same weight" in left_out["a.other.matrix"]
    with pytest.raises(ReLeQError, match="skip names 'b', which has the same weight as 'a'; skip both, or none"):
        survey(network, torch.zeros(1, 4), skip=["b"])


class Tied(nn.Module):
    """Its plain parameter is the weight of a layer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(4, 4), nn.Linear(4, 2)
        self.same = self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x) @ self.same)


def test_a_weight_that_is_used_elsewhere_is_left_out() -> None:
    found = survey(Tied(), torch.zeros(1, 4))
    assert [layer.name for layer in found.layers] == ["out"]
    assert found.left_out["layer"] == "its weight is a parameter of a Tied, too"


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: nn.Embedding(9, 4, sparse=True), "changes its weight by itself"),
        (lambda: nn.Embedding(9, 4, max_norm=1.0), "changes its weight by itself"),
    ],
    ids=["sparse", "max_norm"],
)
def test_embeddings_that_change_their_weight(layer: Callable[[], nn.Module], reason: str) -> None:
    network = nn.Sequential(OrderedDict(words=layer(), out=nn.Linear(4, 2)))
    assert reason in survey(network, torch.tensor([[1]])).left_out["words"]


@pytest.mark.parametrize("skip", [["nowhere"], [""]])
def test_what_is_to_be_skipped_has_to_be_there(skip: list[str]) -> None:
    with pytest.raises(ReLeQError, match="which the network has not; give names of its modules"):
        survey(nn.Sequential(nn.Linear(4, 2)), torch.zeros(1, 4), skip)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_networks_of_other_types_are_described(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    expected = quantizable_layers(network, (4,))
    found = quantizable_layers(network.to(dtype), (4,))
    assert [(layer.name, layer.macs) for layer in found] == [(layer.name, layer.macs) for layer in expected]


def test_a_network_that_begins_with_an_embedding_is_described() -> None:
    network = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 2))
    assert [layer.name for layer in quantizable_layers(network, (3,))] == ["0", "2"]


def test_all_that_is_around_a_network_is_taken_off() -> None:
    network = nn.Sequential(nn.Linear(4, 3))
    assert bare(network) is network
    assert bare(nn.DataParallel(torch.compile(nn.DataParallel(network), backend="eager"))) is network
