"""Files of torchao's: integers of exactly the layer's bits, and what torchao makes of them and of an assignment."""

from pathlib import Path

import pytest
import torch
from torch import nn

from releq_env.errors import ReLeQError
from releq_env.export import About, save_packed
from releq_env.export.agreement import compare
from releq_env.export.formats import FORMATS
from releq_env.export.model import Model
from releq_env.export.packed import read_packed
from releq_env.quantization import QUANTIZERS, quantize
from tests.export.networks import INPUTS, LAYERS, quantized_small, small

quantization = pytest.importorskip("torchao.quantization")
EVERY = [(name, bits) for name, entry in QUANTIZERS.items() for bits in entry.bitwidths]


def exported(network: nn.Module, untrained: nn.Module, folder: Path) -> tuple[Path, Model, list[str]]:
    save_packed(network, folder / "packed")
    plain, content = read_packed(folder / "packed", untrained)
    model = Model(plain, content, About(), folder / "packed")
    path = folder / "network.torchao.safetensors"
    return path, model, FORMATS["torchao"].writer()(model, path)


@pytest.mark.parametrize(("quantizer", "bits"), EVERY)
def test_outputs_agree(quantizer: str, bits: int, tmp_path: Path) -> None:
    path, model, said = exported(quantized_small(quantizer, [bits] * 5), small(9), tmp_path)
    assert said == []
    agreement = compare(model.network, FORMATS["torchao"].runner()(model, path), INPUTS)
    assert agreement.agree, str(agreement)


def test_integers_have_the_bits_of_their_layer(tmp_path: Path) -> None:
    from releq_env.export.torchao import load

    path, _, _ = exported(quantized_small("lsq", [2, 3, 4, 5, 6]), small(9), tmp_path)
    loaded = load(path, small(7))
    for name, bits in zip(LAYERS, (2, 3, 4, 5, 6), strict=True):
        weight = loaded.get_submodule(name).weight
        assert weight.target_dtype == getattr(torch, f"int{bits}")
        assert -(2 ** (bits - 1)) <= weight.qdata.min() <= weight.qdata.max() < 2 ** (bits - 1)


class Other(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(2, 3, 3)
        self.two = nn.Linear(3 * 4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(inputs).flatten(1))


def test_what_torchao_does_not_take_is_named(tmp_path: Path) -> None:
    path, model, said = exported(quantize(Other(), ["one", "two"], [3, 2]).eval(), Other(), tmp_path)
    assert said == ["one is written dequantized: torchao's integers have no Conv1d"]
    assert compare(model.network, FORMATS["torchao"].runner()(model, path), torch.randn(5, 2, 6)).agree
    with pytest.raises(ReLeQError, match=r"torchao takes none of the quantized layers .*Conv1d.*; use --format packed"):
        exported(quantize(Other(), ["one"], [3]), Other(), tmp_path)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.out(self.attention(inputs, inputs, inputs)[0].mean(1))


def test_the_projection_of_attention_is_written_dequantized(tmp_path: Path) -> None:
    network = quantize(Attention(), ["attention.out_proj", "out"], [4, 4]).eval()
    path, model, (said,) = exported(network, Attention(), tmp_path)
    assert said.startswith("attention.out_proj is written dequantized: nn.MultiheadAttention computes with its weight")
    assert compare(model.network, FORMATS["torchao"].runner()(model, path), torch.randn(5, 4, 8)).agree


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(3))
        self.layer = nn.Linear(3, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs + self.token)


def test_what_torchao_could_not_read_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="'token' is a parameter of the network itself"):
        exported(quantize(Bare(), ["layer"], [3]), Bare(), tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x02" + b"\0" * 7 + b"{}", bytes(range(256))])
def test_other_files_get_one_line(content: bytes, tmp_path: Path) -> None:
    path, model, _ = exported(quantized_small(), small(9), tmp_path)
    path.write_bytes(content)
    with pytest.raises(ReLeQError, match="is no file of this network") as raised:
        FORMATS["torchao"].runner()(model, path)
    assert "\n" not in str(raised.value)


def test_an_assignment_is_handed_to_torchao_as_the_page_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    code = text[text.index("# torchao 0") :].split("```")[0]
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6 * 36, 4))
    exec(code, {"network": network, "assignment": {"0": 3, "2": 2}})
    assert [network[index].weight.target_dtype for index in (0, 2)] == [torch.int3, torch.int2]
    assert network(torch.randn(1, 3, 8, 8)).shape == (1, 4)
