"""Files that are not what they should be: refused in one line, and nothing of them is run."""

import json
import pickle
import random
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from releq_env.errors import ReLeQError
from releq_env.export import load_packed, save_packed
from releq_env.quantization import quantize
from tests.export.files import parts, put_together, write_streams
from tests.export.networks import INPUTS, quantized_small, same_outputs, small

FUZZED = 100
Edit = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "network.safetensors"
    save_packed(quantized_small(), path)
    return path


def refused(path: Path, network: nn.Module | None = None) -> str:
    """Return what is said of a file that is refused."""
    with pytest.raises(ReLeQError) as raised:
        load_packed(path, small() if network is None else network)
    said = str(raised.value)
    assert "\n" not in said
    assert len(said) < 600
    assert str(path) in said
    assert ";" in said  # what is wrong; how to mend it
    return said


def forge(path: Path, edit: Edit) -> None:
    """Change a file and let its checksum say that it is right: somebody wants it to be read."""
    entry, description, tensors = parts(path)
    whole = entry | description
    edit(whole, tensors)
    head = {name: whole.pop(name) for name in ("version", "sha256") if name in whole}
    put_together(path, head, whole, tensors)


def test_a_forged_file_is_read_if_nothing_is_wrong(path: Path) -> None:
    forge(path, lambda entry, tensors: None)
    assert same_outputs(quantized_small(), load_packed(path, small()), INPUTS)


@pytest.mark.parametrize("seed", range(FUZZED))
def test_fuzzed(seed: int, path: Path) -> None:
    rng = random.Random(seed)
    content = bytearray(path.read_bytes())
    where = rng.randrange(len(content)) if rng.random() < 0.5 else rng.randrange(600)  # half of them in the header
    match seed % 5:
        case 0:
            content[where] ^= 1 << rng.randrange(8)
        case 1:
            del content[where:]
        case 2:
            content[where : where + rng.randrange(1, 50)] = rng.randbytes(rng.randrange(50))
        case 3:
            content[:8] = struct.pack("<Q", rng.choice([0, 1, 2**63, 2**64 - 1, rng.randrange(2**14)]))
        case 4:
            content = bytearray(rng.randbytes(rng.randrange(3000)))
    if bytes(content) == path.read_bytes():
        return
    path.write_bytes(content)
    said = refused(path)
    assert "is damaged, or no packed network" in said or "version" in said


@pytest.mark.parametrize("seed", range(FUZZED))
def test_fuzzed_under_a_right_checksum(seed: int, path: Path) -> None:
    rng = random.Random(seed)
    odd = [None, True, -1, 0, 1, 3, 9, 255, 2**31, 2**62, 1e300, 0.5, "", "conv", [], [2**40, 2**40], {}, {"a": 1}]

    def edit(entry: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        if seed % 2:
            place: Any = entry
            while True:
                key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
                if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.9:
                    place = place[key]
                    continue
                break
            if isinstance(place, dict) and rng.random() < 0.2:
                del place[key]
            else:
                place[key] = rng.choice(odd)
        else:
            name = rng.choice(list(tensors))
            tensor = tensors.pop(name)
            changed: list[torch.Tensor] = [
                tensor.reshape(-1)[:-1].clone(),
                tensor.reshape(-1).repeat(2),
                tensor.reshape(1, *tensor.shape),
                tensor.to(torch.float16 if tensor.dtype != torch.float16 else torch.float32),
                tensor.to(torch.int64) if tensor.dtype != torch.int64 else tensor.to(torch.int8),
            ]
            if rng.random() < 0.9:
                tensors[rng.choice([name, name, name, "another"])] = rng.choice(changed)

    before = path.read_bytes()
    forge(path, edit)
    try:
        loaded = load_packed(path, small())
    except ReLeQError:
        refused(path)
    else:  # what was changed says nothing of the weights, or says other weights in a right way
        assert [value.shape for value in loaded.state_dict().values()] == [
            value.shape for value in small().state_dict().values()
        ]
        assert path.read_bytes() != before


def layer(**changes: object) -> Edit:
    return lambda entry, tensors: entry["layers"]["3"].update(changes)


def tensor(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Edit:
    return lambda entry, tensors: tensors.update({name: make(tensors[name])})


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (layer(shape=[2**20, 2**20, 3, 3]), "'3' are float32 of shape (1048576, 1048576, 3, 3), here they are"),
        (layer(shape=[5, 6, 9], order=[0, 1, 2]), "here they are float32 of shape (5, 6, 3, 3)"),
        (layer(shape=[2**62]), "size 0 of a shape of a layer is 46116"),
        (layer(shape="5633"), "size 0 of a shape of a layer is 0"),
        (layer(shape=[5, 6, 3, 3.0]), "size 3 of a shape of a layer is 3.0"),
        (layer(bits=4), "270 numbers of 4 bits are not 102 bytes"),
        (layer(bits=9), "codes of 9 bits"),
        (layer(bits=True), "bits of a layer is True"),
        (layer(levels=9), "9 codes of 3 bits"),
        (layer(levels=2), "a code is out of range; there are 2"),
        (layer(divisor=0), "divisor of a layer is 0"),
        (layer(low=-(2**40)), "low of a layer is -1099511627776"),
        (layer(offset="0"), "the offset of a layer is no finite number"),
        (layer(offset=1e999), "its metadata hold Infinity"),
        (layer(order=[0, 1, 2, 2]), "[0, 1, 2, 2] is no order of 4 dimensions"),
        (layer(order=[0, 1, 2, "3"]), "[0, 1, 2, '3'] is no order of 4 dimensions"),
        (layer(order=[0, True, 2, 3]), "[0, True, 2, 3] is no order of 4 dimensions"),
        (layer(more=1), "a layer is not described by exactly bits"),
        (tensor("3.weight:packed", lambda packed: packed.to(torch.int64)), "packed weights are torch.int64"),
        (tensor("3.weight:packed", lambda packed: packed[:-1].clone()), "270 numbers of 3 bits are not 101 bytes"),
        (tensor("3.weight:packed", lambda packed: torch.full_like(packed, 255)), "something behind 270 numbers"),
        (tensor("3.weight:scale", lambda scale: scale[:2].clone()), "a scale is torch.float32 of shape (2,)"),
        (tensor("3.weight:scale", lambda scale: scale * torch.nan), "a scale is not finite"),
        (tensor("3.weight:scale", lambda scale: scale.int()), "weights of its '3' are int32"),
        (tensor("3.bias", lambda bias: bias.double()), "its '3.bias' is float64 of shape (5,), here it is float32"),
        (tensor("3.bias", lambda bias: bias.repeat(9)), "its '3.bias' is float32 of shape (45,), here it is"),
        (lambda entry, tensors: tensors.pop("3.bias"), "it has no '3.bias'"),
        (lambda entry, tensors: tensors.pop("3.weight:scale"), "it has no '3.weight:scale'"),
        (lambda entry, tensors: tensors.update(more=torch.zeros(1)), "it has 'more', which is not here"),
        (lambda entry, tensors: entry["layers"].pop("3"), "it has no '3.weight'"),
        (lambda entry, tensors: entry["same"].update({"3.bias": "nothing"}), "it has no 'nothing'"),
        (lambda entry, tensors: entry["orders"].update({"3.bias": [0, 1]}), "[0, 1] is no order of 1 dimensions"),
        (lambda entry, tensors: entry.update(layers=[]), "its description is not that of a network"),
        (lambda entry, tensors: entry.pop("layers"), "it has no 'layers'"),
        (lambda entry, tensors: entry.pop("sha256"), "it has no 'sha256'"),
        (lambda entry, tensors: entry.update(version=1), "has version 1 of the format, and this releq_env reads 2"),
        (lambda entry, tensors: entry.update(version="2"), "has version 2 of the format"),
        (lambda entry, tensors: entry.pop("about"), "it has no 'about'"),
        (lambda entry, tensors: entry["about"].update(more=1), "something else than task, input_shape, input_dtype"),
        (lambda entry, tensors: entry["about"].update(input_shape=[2**60]), "is no shape; give whole numbers"),
        (lambda entry, tensors: entry.update(tensors=[]), "there is something behind the last tensor of"),
        (lambda entry, tensors: entry.update(tensors=[["a", "float32", [-1]]]), "'a' of shape [-1] does not lie in"),
        (lambda entry, tensors: entry.update(tensors=[["a", "float32", [2**70]]]), "does not lie in its float32"),
        (lambda entry, tensors: entry.update(tensors=[["a", "float16", [1]]]), "it has no 'float16'"),
        (lambda entry, tensors: entry.update(tensors=[["a", ["float32"], [1]]]), "unhashable"),
        (lambda entry, tensors: entry.update(tensors=[["a", "float32", "1"]]), "the description of the tensor 'a' is"),
        (lambda entry, tensors: entry.update(tensors={"a": 1}), "damaged, or no packed network"),
    ],
)
def test_hostile(edit: Edit, reason: str, path: Path) -> None:
    forge(path, edit)
    assert reason in refused(path)


def test_a_description_that_grows_without_end(path: Path) -> None:
    entry, _, _ = parts(path)
    bomb = zlib.compress(b" " * 2**30, 9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_streams(path, entry, {"description": torch.frombuffer(bytearray(bomb), dtype=torch.uint8)})
    assert "its description is cut short, or longer than 67108864 bytes" in refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB, not the 2**20 that it declares
    for text in (b"[]", b"1", b"\xff", b"[" * 100_000, b'{"layers": NaN}'):
        deflated = torch.frombuffer(bytearray(zlib.compress(text)), dtype=torch.uint8)
        write_streams(path, entry, {"description": deflated})
        refused(path)
    for content in (b"", b"no zlib", zlib.compress(b"{}")[:-3]):
        write_streams(path, entry, {"description": torch.tensor(list(content), dtype=torch.uint8)})
        refused(path)


def test_what_a_layer_is_called_is_looked_up_only(path: Path) -> None:
    class Watched(type(small())):  # type: ignore[misc]
        @property
        def trap(self) -> None:
            raise AssertionError("a name in a file has run code")

    for name in ("trap", "__class__", "", "4", "0.weight", "9"):

        def rename(entry: dict[str, Any], tensors: dict[str, torch.Tensor], name: str = name) -> None:
            entry["layers"][name] = entry["layers"].pop("3")
            for part in ("packed", "scale"):
                tensors[f"{name}.weight:{part}"] = tensors.pop(f"3.weight:{part}")

        save_packed(quantized_small(), path)
        forge(path, rename)
        assert "no layer that can be quantized" in refused(path, Watched())


class Runs:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_is_not_run(write: Callable[[object, Path], object], path: Path, tmp_path: Path) -> None:
    write(Runs(tmp_path / "was run"), path)
    assert "damaged, or no packed network" in refused(path)
    assert not (tmp_path / "was run").exists()


def test_other_files(path: Path, tmp_path: Path) -> None:
    for content in (b"", b"{}", b"\0" * 8, b"\x02" + b"\0" * 7 + b"{}", b"PK\x03\x04" * 40):
        path.write_bytes(content)
        assert "damaged, or no packed network" in refused(path)
    path.write_bytes(save(small().state_dict()))
    assert "its metadata have no releq_packed" in refused(path)
    path.write_bytes(save({}, {"releq_packed": "[" * 100_000}))
    assert "damaged, or no packed network" in refused(path)
    for text in ("[]", "1", '{"version": 2}', '{"version": NaN}', '{"version": ' + "1" * 5000 + "}"):
        path.write_bytes(save({}, {"releq_packed": text}))
        refused(path)
    assert "cannot be read" in refused(tmp_path / "nothing")
    assert "is no file" in refused(tmp_path)


def test_every_length_that_it_may_be_cut_to(path: Path) -> None:
    content = path.read_bytes()
    for length in [*range(0, 200), *range(200, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:length])
        refused(path)


def test_little_memory_is_taken_for_what_a_file_declares(path: Path) -> None:
    huge = {"a": {"dtype": "F32", "shape": [2**30, 2**10], "data_offsets": [0, 2**42]}}
    header = json.dumps(huge).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    with path.open("wb") as file:
        file.truncate(2**36)  # takes nothing on the disk
    assert "has more than the" in refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (lambda: nn.Linear(3, 2), "not of this Linear: it has quantized '0', which here is no layer"),
        (
            lambda: nn.Sequential(*list(small())[:-1]),
            "it has quantized '10', which here is no layer that can be quantized",
        ),
        (lambda: nn.Sequential(*small(), nn.Linear(3, 2)), "it has no '11.weight'"),
        (lambda: small().double(), "weights of its '0' are float32 of shape (6, 1, 3, 3), here they are float64"),
        (lambda: nn.Sequential(*list(quantize(small(), ["0"], [2]))[1:]), "which here is no layer"),
    ],
)
def test_other_networks(network: Callable[[], nn.Module], reason: str, path: Path) -> None:
    said = refused(path, network())
    assert reason in said
    assert said.endswith("give load_packed the network that was saved, as it was before quantize()")


def test_no_network(path: Path) -> None:
    with pytest.raises(ReLeQError, match="'lenet' is no network; give a torch.nn.Module"):
        load_packed(path, "lenet")  # type: ignore[arg-type]
