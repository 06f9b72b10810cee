"""The format `onnx`: weights as integers of 2, 4 or 8 bits with DequantizeLinear."""

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxscript.optimizer
import torch
from onnx import ModelProto
from torch import nn

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError
from releq_env.export import onnx_graph
from releq_env.export.about import About
from releq_env.export.integers import Integers
from releq_env.export.model import Model
from releq_env.files import replace_file

_LARGEST = 2**31 - 1  # bytes of a protobuf message


def write(model: Model, path: Path) -> list[str]:
    """Write a network as ONNX, the weights of its quantized layers as integers.

    Every layer has the smallest integer type that holds its codes. Batch normalisation right behind a quantized
    convolution is folded into its scales and bias. The dimension of the batch is dynamic, if the network can take
    any number of inputs at once.

    Args:
        model: What is to be exported; its weights float32.
        path: The file; it is written whole or not at all.

    Returns:
        What is to be said of the file.

    Raises:
        ReLeQError: If torch cannot export the network, or the file cannot be written.
    """
    network, content, about, _ = model
    if about.input_shape is None:
        raise ReLeQError("the shape of an input is not known; give --input-shape, e.g. --input-shape 3 32 32")
    other = {scale.dtype for _, scale in content.packed.values()} - {torch.float32}
    if other:
        raise ReLeQError(f"weights of type {other.pop()} cannot be exported as ONNX; save the network as float32")
    weights = {f"{name}.weight": Integers.of(layer, *content.packed[name]) for name, layer in content.layers.items()}
    with pinned_arithmetic(), torch.no_grad():
        graph, dynamic = _exported(network, about, max(onnx_graph.OPSETS[each.width] for each in weights.values()))
    weights = _by_initializer(graph, network, weights)
    onnx_graph.as_inputs(graph, weights)
    graph = onnxscript.optimizer.optimize(graph)
    onnx_graph.fold_batch_norm(graph, weights)
    onnx_graph.put_integers(graph, weights)
    onnx_graph.strip(graph)
    graph.producer_name, graph.producer_version = "releq_env", ""
    opset = graph.opset_import[0].version
    graph.ir_version = onnx_graph.ir_version(opset)
    if graph.ByteSize() > _LARGEST:
        raise ReLeQError("the network is larger than the 2 GB that a file of ONNX can have; use --format packed")
    onnx_graph.check(graph)
    try:
        replace_file(path, graph.SerializeToString(deterministic=True))
    except OSError as error:
        raise ReLeQError(f"{path} cannot be written ({error.strerror or error}); give another path") from error
    widths = sorted({each.width for each in weights.values()})
    return [
        f"integers of {', '.join(map(str, widths))} bits, opset {opset}, "
        + ("any number of inputs at once" if dynamic else "one input at once, which the network fixes")
    ]


def _exported(network: nn.Module, about: About, opset: int) -> tuple[ModelProto, bool]:
    assert about.input_shape is not None
    kind = getattr(torch, about.input_dtype)
    settings: dict[str, Any] = {"dynamo": True, "opset_version": opset, "optimize": False, "verbose": False}
    settings |= {"input_names": ["input"]}
    # Two examples: a batch of one is taken for a constant.
    example = torch.zeros(2, *about.input_shape, dtype=kind)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # where it fails it prints whole graphs
        warnings.simplefilter("ignore")
        try:
            shapes = ({0: torch.export.Dim.DYNAMIC},)
            program = torch.onnx.export(network, (example,), dynamic_shapes=shapes, **settings)
            dynamic = True
        except Exception:  # whatever torch raises, a network that fixes the batch may still be exported
            try:
                program = torch.onnx.export(network, (example[:1],), **settings)
            except Exception as error:
                raise ReLeQError(
                    f"torch cannot export this {type(network).__name__} as ONNX ({_first_cause(error)}); "
                    "use --format packed, or change its forward() until torch.onnx.export(dynamo=True) takes it"
                ) from error
            dynamic = False
    assert program is not None
    return program.model_proto, dynamic


def _first_cause(error: BaseException) -> str:
    """Return the first line of what torch's exporter has wrapped in reports of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line[:200]}"


def _by_initializer(model: ModelProto, network: nn.Module, weights: Mapping[str, Integers]) -> dict[str, Integers]:
    """Return the weights under the names that the exporter has given them: a module may have several."""
    state = network.state_dict(keep_vars=True)
    names = {tensor.name for tensor in model.graph.initializer}
    found = {}
    for name, integers in weights.items():
        same = [other for other, tensor in state.items() if tensor is state[name] and other in names]
        if not same:
            raise ReLeQError(
                f"{name!r} is not in the graph that torch exports; leave this layer out of the quantized ones, "
                "or use --format packed"
            )
        found[same[0]] = integers
    return found
