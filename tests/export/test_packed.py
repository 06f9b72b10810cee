import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from releq_env.errors import ReLeQError
from releq_env.export import About, load_packed, read_about, save_packed
from releq_env.export.layer import packed_layer
from releq_env.quantization import QUANTIZERS, Codes, Quantizer, WeightQuantizer, quantize
from tests.export.files import parts
from tests.export.networks import INPUTS, LAYERS, quantized_small, same_outputs, small, trained

EVERY = [(name, bits) for name, entry in QUANTIZERS.items() for bits in entry.bitwidths]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "network.safetensors"


@pytest.mark.parametrize(("quantizer", "bits"), EVERY)
def test_outputs_are_the_same_bit_for_bit(quantizer: str, bits: int, path: Path) -> None:
    network = quantized_small(quantizer, [bits] * 5)
    save_packed(network, path)
    loaded = load_packed(path, small(seed=9))
    assert same_outputs(network, loaded, INPUTS)
    for name in LAYERS:
        assert torch.equal(loaded.get_submodule(name).weight, network.get_submodule(name).weight)


@pytest.mark.parametrize(("quantizer", "bits"), EVERY)
def test_untrained(quantizer: str, bits: int, path: Path) -> None:
    network = quantize(small(), LAYERS, [bits] * 5, quantizer)
    save_packed(network, path)
    assert same_outputs(network, load_packed(path, small(seed=9)), INPUTS)


@pytest.mark.parametrize(("quantizer", "bits"), EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=25)
@given(
    array=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 12)),
        elements=st.floats(-3, 3, width=32, allow_subnormal=False),
    )
)
def test_any_weights(quantizer: str, bits: int, dtype: torch.dtype, array: NDArray[np.float32]) -> None:
    layer = nn.Linear(array.shape[1], array.shape[0])
    layer.weight = nn.Parameter(torch.from_numpy(array.copy()))
    network = quantize(nn.Sequential(layer).to(dtype), ["0"], [bits], quantizer)
    described, packed, scale = packed_layer("0", network[0])
    assert packed.numel() == -(-array.size * bits // 8)
    weights = described.weights(packed, scale)
    assert weights.dtype == dtype
    assert torch.equal(weights, network[0].weight)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(quantizer: str, dtype: torch.dtype, path: Path) -> None:
    network = quantized_small(quantizer).to(dtype)
    save_packed(network, path)
    loaded = load_packed(path, small(seed=9).to(dtype))
    assert same_outputs(network, loaded, INPUTS.to(dtype))
    with pytest.raises(ReLeQError, match=r"weights of its '0' are \w+ of shape \(6, 1, 3, 3\), here they are float32"):
        load_packed(path, small())


class Dimensions(nn.Module):
    """Convolutions of one and of three dimensions; the latter is normalised by weight norm."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(2, 5, 3)
        self.three = parametrizations.weight_norm(nn.Conv3d(1, 4, 2))
        self.plain = parametrizations.weight_norm(nn.Linear(3, 2))
        self.last = parametrizations.weight_norm(nn.Linear(64, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.plain(self.last(torch.relu(self.three(self.one(inputs).reshape(-1, 1, 5, 5, 2))).flatten(1)))


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_dimensions_and_weight_norm(quantizer: str, path: Path) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(3, 2, 12)
    network = trained(quantize(Dimensions(), ["one", "three", "last"], [3, 5, 2], quantizer), inputs)
    save_packed(network, path)
    given = Dimensions()
    loaded = load_packed(path, given)
    assert same_outputs(network, loaded, inputs)
    assert not parametrize.is_parametrized(loaded.last)
    assert parametrize.is_parametrized(loaded.plain, "weight")
    assert parametrize.is_parametrized(given.last, "weight")
    assert given(inputs).isfinite().all()  # torch's own removal takes the weight from the class that both share
    assert same_outputs(network, load_packed(path, given), inputs)


def test_what_is_frozen_stays_frozen(path: Path) -> None:
    network = small().requires_grad_(False)
    save_packed(quantized_small(), path)
    assert not any(parameter.requires_grad for parameter in load_packed(path, network).parameters())
    assert all(parameter.requires_grad for parameter in load_packed(path, small()).parameters())
    save_packed(quantize(Dimensions(), ["one", "three", "last"], [3, 5, 2]).eval(), path)
    for learns in (True, False):  # one has weight norm
        given = Dimensions().requires_grad_(learns)
        assert {each.requires_grad for each in load_packed(path, given).parameters()} == {learns}


class Sharing(nn.Module):
    """A layer under two names, one that shares its weight with an embedding, one that shares with another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 6)
        self.head = nn.Linear(6, 6)
        self.head.weight = self.embedding.weight
        self.first = nn.Linear(6, 6)
        self.again = self.first
        self.twin = nn.Linear(6, 6)
        self.twin.weight = self.first.weight
        self.norm = nn.LayerNorm(6)
        self.norm_again = nn.LayerNorm(6)
        self.norm_again.weight = self.norm.weight

    def forward(self, numbers: Tensor) -> Tensor:
        values = self.norm_again(self.norm(self.twin(self.again(self.first(self.embedding(numbers))))))
        return self.head(values)


def test_shared_weights(path: Path) -> None:
    torch.manual_seed(0)
    numbers = torch.arange(6)
    network = trained(quantize(Sharing(), ["first", "twin", "head"], [3, 2, 4]), numbers)
    save_packed(network, path)
    names = set(parts(path)[2])
    assert "norm.weight" in names
    assert not {"norm_again.weight", "again.bias", "again.weight:packed", "head.weight"} & names
    loaded = load_packed(path, Sharing())
    assert same_outputs(network, loaded, numbers)
    assert loaded.again is loaded.first
    assert loaded.norm_again.weight is loaded.norm.weight
    assert torch.equal(loaded.embedding.weight, network.embedding.weight)  # what its quantized twin has not changed


def test_a_network_that_shares_takes_no_file_of_one_that_does_not(path: Path) -> None:
    torch.manual_seed(0)
    apart = Sharing()
    apart.norm_again.weight = nn.Parameter(torch.full((6,), 2.0))
    save_packed(quantize(apart, ["first"], [3]), path)
    with pytest.raises(ReLeQError, match="'norm_again.weight' and 'norm.weight' differ, here they are one tensor"):
        load_packed(path, Sharing())


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize("names", [LAYERS, ("3",)], ids=["every layer", "one layer"])
def test_the_order_in_memory_is_kept(bits: int, names: tuple[str, ...], path: Path) -> None:
    network = quantize(small(), names, [bits] * len(names)).to(memory_format=torch.channels_last)
    network.eval()
    save_packed(network, path)
    for other in (small(seed=9), small(seed=9).to(memory_format=torch.channels_last)):
        loaded = load_packed(path, other)
        for inputs in (INPUTS, INPUTS.to(memory_format=torch.channels_last)):
            assert same_outputs(network, loaded, inputs)
        for index in (0, 3, 6):
            assert loaded[index].weight.stride() == network[index].weight.stride()


def test_contiguous_weights_stay_so(path: Path) -> None:
    network = quantized_small()
    save_packed(network, path)
    loaded = load_packed(path, small().to(memory_format=torch.channels_last))
    assert same_outputs(network, loaded, INPUTS)


def test_the_networks_are_left_as_they_were(path: Path) -> None:
    network, given = quantized_small().train(), small(seed=9).train()
    before = [copy.deepcopy(each.state_dict()) for each in (network, given)]
    save_packed(network, path)
    loaded = load_packed(path, given)
    for each, state in zip((network, given), before, strict=True):
        assert all(module.training for module in each.modules())
        assert list(each.state_dict()) == list(state)
        assert all(torch.equal(value, state[name]) for name, value in each.state_dict().items())
    assert not any(module.training for module in loaded.modules())
    assert list(loaded.state_dict()) == list(given.state_dict())
    assert same_outputs(network, loaded, INPUTS)


def test_inside_other_contexts(path: Path) -> None:
    network = quantized_small("dorefa")
    with torch.inference_mode():
        save_packed(network, path)
    with torch.autocast("cpu", torch.bfloat16):
        loaded = load_packed(path, small())
    assert same_outputs(network, loaded, INPUTS)
    loaded(INPUTS).sum().backward()  # ordinary parameters, which can be trained further
    assert loaded[0].weight.grad is not None


def test_a_packed_network_can_be_quantized_and_packed_again(path: Path) -> None:
    save_packed(quantized_small("lsq", [4] * 5), path)
    again = quantize(load_packed(path, small()), LAYERS, [2] * 5)
    save_packed(again, path)
    assert same_outputs(again, load_packed(path, small()), INPUTS)


def test_what_the_file_says_of_itself(path: Path) -> None:
    save_packed(quantized_small("wrpn"), path)
    entry, description, tensors = parts(path)
    assert entry["version"] == 2
    assert description["about"] == {"task": None, "input_shape": None, "input_dtype": "float32"}
    assert list(description["layers"]) == list(LAYERS)
    layer = description["layers"]["3"]
    assert (layer["quantizer"], layer["bits"], layer["shape"]) == ("wrpn", 3, [5, 6, 3, 3])
    packed, scale = tensors["3.weight:packed"], tensors["3.weight:scale"]
    assert (packed.dtype, packed.shape) == (torch.uint8, (-(-5 * 6 * 9 * 3 // 8),))
    assert (scale.dtype, scale.shape) == (torch.float32, (1,))
    assert torch.equal(tensors["1.running_mean"], quantized_small("wrpn")[1].running_mean)
    bits = np.unpackbits(packed.numpy(), bitorder="little", count=270 * 3).reshape(270, 3) @ [1, 2, 4]
    codes = torch.tensor(layer["low"] + layer["spacing"] * bits).reshape(5, 6, 3, 3)
    weights = codes.float() / layer["divisor"] * scale + layer["offset"]
    assert torch.equal(weights, quantized_small("wrpn")[3].weight)


def test_what_is_said_of_the_network_is_read_again(path: Path) -> None:
    about = About(task="digits", input_shape=(1, 8, 8), input_dtype="int64")
    save_packed(quantized_small(), path, about)
    assert read_about(path) == about
    save_packed(quantized_small(), path)
    assert read_about(path) == About()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"task": 3}, "task=3 is no name"),
        ({"input_shape": "128"}, "input_shape='128' is no shape"),
        ({"input_shape": (1, 0)}, "give whole numbers from 1"),
        ({"input_dtype": "float8"}, "input_dtype='float8' is unknown; give float32 or int64"),
    ],
)
def test_what_cannot_be_said_of_a_network(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ReLeQError, match=said):
        About(**fields)


def test_the_same_network_gives_the_same_bytes(path: Path) -> None:
    save_packed(quantized_small(), path)
    first = path.read_bytes()
    save_packed(quantized_small(), path)
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="cannot be written .No such file or directory.; give another path"):
        save_packed(quantized_small(), tmp_path / "nowhere" / "file")
    with pytest.raises(ReLeQError, match="cannot be written"):
        save_packed(quantized_small(), tmp_path)


def test_a_failed_save_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_packed(quantized_small(), path)
    before = path.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ReLeQError, match="No space left"):
        save_packed(quantized_small("wrpn"), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_cannot_be_saved(path: Path) -> None:
    with pytest.raises(ReLeQError, match="Small has no quantized layer; give what quantize"):
        save_packed(small(), path)
    with pytest.raises(ReLeQError, match="'network' is no network"):
        save_packed("network", path)  # type: ignore[arg-type]
    diverged = quantized_small()
    with torch.no_grad():
        diverged[3].parametrizations.weight.original[0] = torch.nan
    with pytest.raises(ReLeQError, match="weights of layer '3' are not finite; train it again"):
        save_packed(diverged, path)
    folded = quantized_small()
    parametrize.register_parametrization(folded[3], "weight", nn.Softplus())
    with pytest.raises(ReLeQError, match="layer '3' goes through Softplus after its quantizer"):
        save_packed(folded, path)
    assert not path.exists()


class Extra(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def get_extra_state(self) -> object:
        return {"any": "object"}

    def set_extra_state(self, state: object) -> None:
        pass


def test_only_tensors_are_saved(path: Path) -> None:
    with pytest.raises(ReLeQError, match="'_extra_state' in the network's state is a dict; only tensors"):
        save_packed(quantize(Extra(), ["layer"], [3]), path)


def test_tensors_that_overlap(path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    whole = torch.randn(6, 4)
    network[1].weight, network[2].weight = nn.Parameter(whole[:4]), nn.Parameter(whole[2:])
    quantized = quantize(network, ["0"], [2])
    save_packed(quantized, path)
    assert same_outputs(quantized, load_packed(path, copy.deepcopy(network)), torch.randn(3, 4))


def test_a_network_without_memory_is_refused(path: Path) -> None:
    save_packed(quantized_small(), path)
    with pytest.raises(ReLeQError, match="is on the device 'meta'; use to_empty"):
        load_packed(path, small().to("meta"))


class Thirds(WeightQuantizer):
    """A quantizer of somebody else: codes -1, 0, 2 times a fixed scale, shifted."""

    def forward(self, weight: Tensor) -> Tensor:
        codes, scale, offset = self.encode(weight)
        return scale * codes + offset

    def encode(self, weight: Tensor) -> Codes:
        codes = torch.where(weight > 0.1, 2, torch.where(weight < -0.1, -1, 0)).to(torch.int32)
        return Codes(codes, weight.new_tensor(0.3), 0.05)


class Liar(Thirds):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.clone()


def test_quantizers_of_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTIZERS, "thirds", Quantizer(bitwidths=(2,), build=Thirds, scales="tensor"))
    network = quantized_small("thirds", [2] * 5)
    save_packed(network, path)
    loaded = load_packed(path, small())
    assert same_outputs(network, loaded, INPUTS)
    assert loaded[3].weight.unique().tolist() == pytest.approx([-0.25, 0.05, 0.65])
    monkeypatch.setitem(QUANTIZERS, "liar", Quantizer(bitwidths=(2,), build=Liar, scales="tensor"))
    with pytest.raises(ReLeQError, match=r"layer '0' computes other weights than scale \* codes \+ offset.*liar"):
        save_packed(quantize(small(), LAYERS, [2] * 5, "liar"), path)
    monkeypatch.setitem(QUANTIZERS, "thirds", Quantizer(bitwidths=(1,), build=Thirds, scales="tensor"))
    with pytest.raises(ReLeQError, match="layer '0' has 4 codes of 1 bits"):
        save_packed(quantize(small(), LAYERS, [1] * 5, "thirds"), path)
