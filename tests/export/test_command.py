"""python -m releq_env.export: what it writes, prints and refuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from releq_env.errors import ReLeQError
from releq_env.export import About, load_packed, packed_size, save_model, save_packed
from releq_env.export.__main__ import main
from releq_env.export.formats import FORMATS, Format
from releq_env.quantization import quantizable_layers, quantize, with_scales
from releq_env.tasks import TASKS
from tests.export.networks import INPUTS, LAYERS, quantized_small, same_outputs, small

BITS = (2, 1, 3, 8)
NAMES = ("conv1", "conv2", "fc1", "fc2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a network of a task."""
    network = quantize(TASKS["digits"].untrained(), NAMES, BITS).eval()
    save_model(network, tmp_path / "model", About(task="digits"))
    return tmp_path / "model"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Of a network of somebody's own."""
    save_model(quantized_small(), tmp_path / "own", About(input_shape=(3, 9, 9)))
    return tmp_path / "own"


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as raised:
        main(list(map(str, arguments)))
    said = str(raised.value)
    assert said.startswith("error: ")
    assert "\n" not in said
    return said


def test_a_folder_has_the_assignment(folder: Path) -> None:
    assert json.loads((folder / "assignment.json").read_text()) == dict(zip(NAMES, BITS, strict=True))
    assert sorted(path.name for path in folder.iterdir()) == ["assignment.json", "network.safetensors"]


def test_packed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(folder), "--output", str(folder / "copy")])
    assert (folder / "copy").read_bytes() == (folder / "network.safetensors").read_bytes()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("outputs agree with torch on 64 inputs: largest difference 0.0e+00")
    network = TASKS["digits"].untrained()
    layers = with_scales(quantizable_layers(network, (1, 8, 8)), "lsq")
    sizes = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in said[1:-1]}
    assert sizes == {
        "float32": sum(value.nbytes for value in network.state_dict().values()),
        "theory": packed_size(network, layers, BITS),
        "packed": (folder / "copy").stat().st_size,
    }


def test_a_packed_file_alone(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "assignment.json").unlink()
    main([str(own / "network.safetensors"), "--model", "tests.export.networks:small", "--output", str(own / "again")])
    assert "outputs agree" in capsys.readouterr().out
    assert same_outputs(quantized_small(), load_packed(own / "again", small()), INPUTS)


@pytest.mark.parametrize("name", ["onnx", "torchao"])
def test_other_formats(name: str, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for module in {"onnx": ("onnx", "onnxruntime", "onnxscript"), "torchao": ("torchao",)}[name]:
        pytest.importorskip(module)
    np.save(own / "inputs.npy", INPUTS.numpy())
    main([str(own), "--format", name, "--model", "tests.export.networks:small", "--check", str(own / "inputs.npy")])
    said = capsys.readouterr().out
    assert "outputs agree with torch on 4 inputs" in said
    path = own / FORMATS[name].file
    assert f"{name:8} {path.stat().st_size:>12,} bytes" in said
    assert f"written: {path}" in said


def test_validation_images_of_a_task(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(folder), "--check", "task"])
    assert "agree with torch on 500 inputs" in capsys.readouterr().out


def test_nothing_is_checked_if_so_said(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(own), "--model", "tests.export.networks:small", "--check", "none"])
    assert "outputs" not in capsys.readouterr().out


def test_what_is_refused(folder: Path, own: Path, tmp_path: Path) -> None:
    model = ("--model", "tests.export.networks:small")
    assert "is not there; give a folder with the network.safetensors" in refused(tmp_path / "nothing")
    assert "unknown format 'onx'; choose one of: packed, onnx, torchao" in refused(folder, "--format", "onx")
    assert "of a network of somebody's own; give --model module:function" in refused(own)
    assert "cannot be made (No module named 'nowhere')" in refused(own, "--model", "nowhere:small")
    assert "no torch.nn.Module; return one" in refused(own, "--model", "tests.export.networks:LAYERS")
    assert "is not of this Flatten" in refused(own, "--model", "torch.nn:Flatten")
    assert "--check task needs a network of a task" in refused(own, *model, "--check", "task")
    assert "cannot be read" in refused(own, *model, "--check", tmp_path / "inputs.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    assert "Object arrays cannot be loaded" in refused(own, *model, "--check", tmp_path / "objects.npy")
    np.save(tmp_path / "other.npy", np.zeros((4, 3)))
    assert "has inputs of shape (4, 3); give (count, 3, 9, 9)" in refused(
        own, *model, "--check", tmp_path / "other.npy"
    )
    assert "the network does not run on inputs of shape (2, 9, 9) and type torch.float32" in refused(
        own, *model, "--input-shape", 2, 9, 9
    )
    assert "cannot be written" in refused(own, *model, "--output", tmp_path / "nowhere" / "file")
    (own / "assignment.json").write_text(json.dumps(dict.fromkeys(LAYERS, 8)))
    assert "is not the assignment of the network.safetensors beside it" in refused(own, *model)
    (own / "assignment.json").write_text("[" * 100_000)
    assert "assignment.json cannot be read" in refused(own, *model)
    save_packed(quantized_small(), own / "network.safetensors", About(task="moon"))
    assert "is of the task 'moon', and known are digits" in refused(own)
    save_packed(quantized_small(), own / "network.safetensors", About(task="digits"))
    assert "is not of this DigitsNet" in refused(own)
    (own / "network.safetensors").write_bytes(b"damaged")
    assert "is damaged, or no packed network" in refused(own)


def test_a_file_that_computes_something_else_is_refused(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(model: object, path: Path) -> object:
        network = small(3)
        return lambda batch: [network(batch).detach().numpy()]

    chosen = FORMATS["packed"]
    monkeypatch.setitem(FORMATS, "wrong", Format("wrong", chosen.write, run))  # type: ignore[arg-type]
    said = refused(own, "--format", "wrong", "--model", "tests.export.networks:small")
    assert "DIFFER with torch on 64 inputs: largest difference" in said
    assert "it was not written" in said
    assert not list(own.glob("*wrong*"))


def test_an_output_that_is_no_file_is_refused_before_anything_is_made(own: Path, tmp_path: Path) -> None:
    for output in (".", str(tmp_path), str(tmp_path / "nowhere" / "x.onnx")):
        said = refused(own, "--format", "packed", "--model", "tests.export.networks:small", "--output", output)
        assert f"--output {output} cannot be written: it is no file in a folder that is there" in said


def test_formats_of_others(own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def write(model: object, path: Path) -> list[str]:
        path.write_text("mine")
        return ["as I do it"]

    monkeypatch.setitem(FORMATS, "mine", Format("mine.txt", write, "nowhere:run"))
    main([str(own), "--format", "mine", "--model", "tests.export.networks:small", "--check", "none"])
    assert capsys.readouterr().out.startswith("as I do it\n")
    assert (own / "mine.txt").read_text() == "mine"
    said = refused(own, "--format", "mine", "--model", "tests.export.networks:small")
    assert "this needs nowhere, which is not installed; pip install 'releq_env[export]'" in said


@pytest.mark.processes
def test_as_a_program(folder: Path) -> None:
    command = [sys.executable, "-m", "releq_env.export", str(folder), "--check", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "times smaller" in done.stdout
    failed = subprocess.run([*command, "--format", "x"], capture_output=True, text=True, check=False, timeout=300)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("error: unknown format 'x'")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReLeQError, match="cannot be written .*; give another folder"):
        save_model(quantized_small(), tmp_path / "file" / "model")


def test_one_weight_of_several_layers_is_written_once(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        network = nn.Sequential(nn.Embedding(50, 40), nn.Linear(40, 50))
        network[1].weight = network[0].weight
        return network

    torch.manual_seed(0)
    network = quantize(tied(), ["0"], [3]).eval()  # and with it what has the same weight
    save_model(network, tmp_path, About(input_shape=(4,), input_dtype="int64"))
    codes, scales, bias = -(-50 * 40 * 3 // 8), 4 * 50, 4 * 50
    assert codes + scales + bias < (tmp_path / "network.safetensors").stat().st_size < codes + scales + bias + 1000
    loaded = load_packed(tmp_path / "network.safetensors", tied())
    assert loaded[0].weight is loaded[1].weight
    assert same_outputs(network, loaded, torch.arange(4).reshape(1, 4))
