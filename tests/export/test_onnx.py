"""ONNX files: how large they are, what onnxruntime makes of them, and what of a network goes into them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from releq_env.errors import ReLeQError
from releq_env.export import About, load_packed, save_packed
from releq_env.export.agreement import compare
from releq_env.export.formats import FORMATS
from releq_env.export.integers import Integers
from releq_env.export.layer import packed_layer
from releq_env.export.model import Model
from releq_env.export.packed import read_packed
from releq_env.quantization import QUANTIZERS, quantize
from tests.export.networks import INPUTS, LAYERS, quantized_small, small, trained

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
graphs = pytest.importorskip("releq_env.export.onnx_graph")

EVERY = [(name, bits) for name, entry in QUANTIZERS.items() for bits in entry.bitwidths]
SHAPES = {nn.Conv2d: (3, 9, 9), nn.Linear: (6,)}


def exported(network: nn.Module, untrained: nn.Module, about: About, folder: Path) -> tuple[Path, Model, list[str]]:
    save_packed(network, folder / "packed", about)
    plain, content = read_packed(folder / "packed", untrained)
    model = Model(plain, content, about, folder / "packed")
    path = folder / "network.onnx"
    return path, model, FORMATS["onnx"].writer()(model, path)


def agrees(path: Path, model: Model, inputs: Tensor) -> None:
    agreement = compare(model.network, FORMATS["onnx"].runner()(model, path), inputs)
    assert agreement.agree, str(agreement)
    assert agreement.inputs == len(inputs)


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_every_bitwidth_in_one_network(tmp_path: Path) -> None:
    network = quantized_small("lsq", [1, 2, 3, 4, 7])
    path, model, said = exported(network, small(9), About(input_shape=(3, 9, 9)), tmp_path)
    assert said == ["integers of 2, 4, 8 bits, opset 25, any number of inputs at once"]
    agrees(path, model, torch.randn(300, 3, 9, 9))
    agrees(path, model, INPUTS[:1])
    graph = onnx.load(path).graph
    types = {each.name: onnx.TensorProto.DataType.Name(each.data_type) for each in graph.initializer}
    kinds = [types[f"{name}.weight.integers"] for name in LAYERS]
    assert kinds == ["INT2", "UINT2", "INT4", "INT4", "INT8"]
    sizes = {each.name: len(each.raw_data) for each in graph.initializer}
    weights = [model.network.get_submodule(name).weight.numel() for name in LAYERS]
    assert [sizes[f"{name}.weight.integers"] for name in LAYERS] == [
        -(-count * width // 8) for count, width in zip(weights, (2, 2, 4, 4, 8), strict=True)
    ]
    assert "BatchNormalization" not in operators(path)  # both are behind quantized convolutions
    assert str(Path(__file__).parent).encode() not in path.read_bytes()
    assert b".py" not in path.read_bytes()  # no stack traces
    first = path.read_bytes()
    exported(network, small(9), About(input_shape=(3, 9, 9)), tmp_path)
    assert path.read_bytes() == first


def test_half_integer_zero_points_take_an_addition(tmp_path: Path) -> None:
    network = quantized_small("dorefa", [2, 3, 4, 5, 8])
    path, model, _ = exported(network, small(9), About(input_shape=(3, 9, 9)), tmp_path)
    agrees(path, model, INPUTS)
    assert operators(path).count("Add") == len(LAYERS)


class Sharing(nn.Module):
    """An embedding whose weight a linear layer has, too; a layer that is called twice; a batch that is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 8)
        self.head = nn.Linear(8, 6)
        self.head.weight = self.embedding.weight
        self.twice = nn.Linear(8, 8)

    def forward(self, numbers: Tensor) -> dict[str, Tensor]:
        values = self.twice(torch.relu(self.twice(self.embedding(numbers))))
        return {"logits": self.head(values).mean(dim=1), "values": values}


def test_shared_weights_whole_numbers_and_several_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = quantize(Sharing(), ["embedding", "twice"], [2, 4]).eval()
    path, model, _ = exported(network, Sharing(), About(input_shape=(5,), input_dtype="int64"), tmp_path)
    agrees(path, model, torch.randint(0, 6, (20, 5)))
    assert operators(path).count("DequantizeLinear") == 2


class Fixed(nn.Module):
    """It takes one input at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs.reshape(1, 4))


def test_a_network_that_takes_one_input_at_once(tmp_path: Path) -> None:
    path, _, said = exported(quantize(Fixed(), ["layer"], [8]), Fixed(), About(input_shape=(4,)), tmp_path)
    assert said == ["integers of 8 bits, opset 18, one input at once, which the network fixes"]
    assert onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs if inputs.sum() > 0 else -inputs)


def test_what_torch_does_not_export_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="torch cannot export this Branching as ONNX .* use --format packed") as raised:
        exported(quantize(Branching(), ["layer"], [2]), Branching(), About(input_shape=(4,)), tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "network.onnx").exists()


def test_what_is_not_known_or_not_float32_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="the shape of an input is not known; give --input-shape"):
        exported(quantized_small(), small(), About(), tmp_path)
    half = quantized_small().to(torch.bfloat16)
    with pytest.raises(ReLeQError, match="type torch.bfloat16 cannot be exported as ONNX; save the network as float32"):
        exported(half, small().to(torch.bfloat16), About(input_shape=(3, 9, 9)), tmp_path)


# Graphs, without torch's exporter


def model_of(node: Any, more: list[Any], result: tuple[int, ...], inputs: dict[str, Any]) -> Any:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in inputs.items()]
    graph = helper.make_graph(
        [node, *more],
        "graph",
        [helper.make_tensor_value_info("x", kind, [None] * len(result))],
        [helper.make_tensor_value_info("y", kind, result)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=graphs.ir_version(25))


def run(model: Any, **given: Any) -> Any:
    graphs.check(model)
    return runtime.InferenceSession(model.SerializeToString()).run(None, given)[0]


@pytest.mark.parametrize(("quantizer", "bits"), EVERY)
def test_onnxruntime_dequantizes_to_the_weights(quantizer: str, bits: int) -> None:
    torch.manual_seed(0)
    network = trained(quantize(nn.Sequential(nn.Linear(13, 5)), ["0"], [bits], quantizer), torch.randn(4, 13))
    weights = {"w": Integers.of(*packed_layer("0", network[0]))}
    eye = np.eye(13, dtype=np.float32)
    node = onnx.helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    model = model_of(node, [], (13, 5), {"w": np.zeros((5, 13), np.float32)})
    graphs.as_inputs(model, weights)
    graphs.put_integers(model, weights)
    expected = network[0].weight.detach().numpy()
    assert pytest.approx(expected, rel=1e-6, abs=1e-7) == run(model, x=eye).T


def fold(gamma: float, second_reader: bool, quantizer: str = "lsq", bias: bool = True) -> tuple[Any, Any, Any]:
    """Return a model of a convolution and a normalisation, folded, the outputs it should have, and its own."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(2, 4, 3, bias=bias), nn.BatchNorm2d(4)
    network = trained(quantize(nn.Sequential(conv, norm), ["0"], [4], quantizer), torch.randn(9, 2, 6, 6))
    norm = network[1]
    with torch.no_grad():
        norm.weight[1] = gamma
    weights = {"w": Integers.of(*packed_layer("0", network[0]))}
    constants = {"w": np.zeros((4, 2, 3, 3), np.float32)} | ({"b": network[0].bias.detach().numpy()} if bias else {})
    for name, value in (("g", norm.weight), ("h", norm.bias), ("m", norm.running_mean), ("v", norm.running_var)):
        constants[name] = value.detach().numpy()
    helper = onnx.helper
    first = helper.make_node("Conv", ["x", "w", "b"] if bias else ["x", "w"], ["c"])
    more = [helper.make_node("BatchNormalization", ["c", "g", "h", "m", "v"], ["n"], epsilon=norm.eps)]
    more += [helper.make_node("Add", ["n", "c"] if second_reader else ["n", "n"], ["y"])]
    model = model_of(first, more, (None, 4, 4, 4), constants)
    graphs.as_inputs(model, weights)
    graphs.fold_batch_norm(model, weights)
    graphs.put_integers(model, weights)
    graphs.strip(model)
    x = torch.randn(3, 2, 6, 6)
    with torch.no_grad():
        inner = network[0](x)
        expected = norm(inner) + (inner if second_reader else norm(inner))
    return model, expected.numpy(), run(model, x=x.numpy())


@pytest.mark.parametrize("quantizer", ["lsq", "dorefa"])
@pytest.mark.parametrize("bias", [True, False])
def test_normalisation_goes_into_the_scales(quantizer: str, bias: bool) -> None:
    model, expected, found = fold(0.7, False, quantizer, bias)
    assert "BatchNormalization" not in [node.op_type for node in model.graph.node]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("gamma", "second_reader"), [(-0.7, False), (0.0, False), (0.7, True)])
def test_normalisation_that_cannot_is_left(gamma: float, second_reader: bool) -> None:
    model, expected, found = fold(gamma, second_reader)
    assert "BatchNormalization" in [node.op_type for node in model.graph.node]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


# What runs a file


@pytest.mark.parametrize(
    "content",
    [b"", b"no model", b"\x08\x0a" * 40, bytes(range(256)) * 4],
    ids=["empty", "text", "pairs", "bytes"],
)
def test_a_file_that_is_no_model_gets_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    with pytest.raises(ReLeQError, match="is nothing that onnxruntime runs") as raised:
        FORMATS["onnx"].runner()(Model(small(), None, About(), path), path)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_other_files_that_a_model_names_are_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.ones(4, np.float32).tobytes())
    model = model_of(onnx.helper.make_node("Add", ["x", "w"], ["y"]), [], (4,), {"w": np.zeros(4, np.float32)})
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "secret")
    model.graph.initializer[0].ClearField("raw_data")
    path = tmp_path / "network.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ReLeQError, match="is nothing that onnxruntime runs"):
        FORMATS["onnx"].runner()(Model(small(), None, About(), path), path)  # type: ignore[arg-type]


VISION: dict[str, tuple[Callable[[Any], nn.Module], int]] = {
    "resnet18": (lambda models: models.resnet18(num_classes=10), 32),
    "mobilenet_v3_small": (lambda models: models.mobilenet_v3_small(num_classes=10), 64),
    "vit_b_16": (lambda models: models.vit_b_16(image_size=32, num_classes=10), 32),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VISION)
def test_networks_of_torchvision(name: str, tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision").models
    make, size = VISION[name]
    torch.manual_seed(0)
    network = make(models).eval()
    with torch.no_grad():  # zeros, as a head may start, would hide what is before it
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)
    from releq_env.quantization import quantizable_layers

    layers = [layer.name for layer in quantizable_layers(network, (3, size, size))]
    bits = [2 + 2 * (index % 2) for index in range(len(layers))]
    path, model, _ = exported(
        quantize(network, layers, bits), make(models), About(input_shape=(3, size, size)), tmp_path
    )
    agrees(path, model, torch.randn(8, 3, size, size))
    assert path.stat().st_size < 1.02 * (tmp_path / "packed").stat().st_size + 40_000
    load_packed(tmp_path / "packed", make(models))


class Conditional(nn.Module):
    """A layer in a branch, and one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        inner = torch.cond(inputs.sum() > 0, self.inner, lambda x: x - 1.0, (inputs,))
        return self.last(inner)


def test_a_network_with_branches_keeps_what_they_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = quantize(Conditional(), ["last"], [4]).eval()
    path, model, _ = exported(network, Conditional(), About(input_shape=(4,)), tmp_path)
    assert "If" in operators(path)
    for sign in (1.0, -1.0):
        agrees(path, model, sign * torch.rand(20, 4))
