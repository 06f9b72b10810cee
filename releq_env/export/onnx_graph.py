"""Changes of an ONNX graph: integers in place of float weights, normalisation folded into their scales."""

from collections.abc import Iterator, Mapping

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from releq_env.errors import ReLeQError, short
from releq_env.export.integers import Integers

OPSETS = {2: 25, 4: 21, 8: 18}
"""From which opset on ONNX has integers of a width (8 bits: what torch exports to, at least)."""

_TYPES = {
    (2, True): ml_dtypes.int2,
    (2, False): ml_dtypes.uint2,
    (4, True): ml_dtypes.int4,
    (4, False): ml_dtypes.uint4,
    (8, True): np.int8,
    (8, False): np.uint8,
}


def as_inputs(model: ModelProto, names: Mapping[str, object]) -> None:
    """Make inputs of some initializers, so that nothing that optimizes the graph computes with their values."""
    graph = model.graph
    kept = [tensor for tensor in graph.initializer if tensor.name not in names]
    for tensor in graph.initializer:
        if tensor.name in names:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del graph.initializer[:]
    graph.initializer.extend(kept)


def put_integers(model: ModelProto, weights: Mapping[str, Integers]) -> None:
    """Replace inputs of a graph by integer initializers, dequantized where the graph begins.

    Args:
        model: As `as_inputs` leaves it.
        weights: By the name of the input.
    """
    graph = model.graph
    left = [given for given in graph.input if given.name not in weights]
    del graph.input[:]
    graph.input.extend(left)
    nodes = list(graph.node)
    del graph.node[:]
    for name, integers in weights.items():
        graph.node.extend(_dequantized(graph, name, integers))
    graph.node.extend(nodes)


def fold_batch_norm(model: ModelProto, weights: dict[str, Integers]) -> None:
    """Fold the batch normalisation behind a convolution into the scales of its weights and its bias, in place.

    The integers stay as they are. Left alone is what has another reader between the two, and a normalisation
    with a factor that is not above zero: dequantizing takes positive scales.

    Args:
        model: As `as_inputs` leaves it.
        weights: By name; those of folded convolutions are replaced.
    """
    graph = model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in _reads(node):
            readers.setdefault(name, []).append(node)
    results = {result.name for result in graph.output}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        before = [node for node in graph.node if norm.input[0] in node.output and node.op_type == "Conv"]
        if len(before) != 1 or len(norm.output) != 1:
            continue
        (conv,) = before
        name = conv.input[1]
        bias_name = conv.input[2] if len(conv.input) > 2 else ""
        alone = len(readers[conv.output[0]]) == 1 and conv.output[0] not in results and len(readers.get(name, [])) == 1
        if not alone or name not in weights or not {*norm.input[1:], *filter(None, [bias_name])} <= set(initializers):
            continue
        gamma, beta, mean, variance = (_array(initializers[each]) for each in norm.input[1:])
        epsilon = next((each.f for each in norm.attribute if each.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(variance + epsilon)
        if not (factor > 0).all():
            continue
        bias = beta + ((_array(initializers[bias_name]) if bias_name else 0.0) - mean) * factor
        integers = weights[name]
        weights[name] = integers._replace(
            scale=(integers.scale * factor).astype(np.float32), offset=(integers.offset * factor).astype(np.float32)
        )
        folded = f"{name}.folded_bias"
        graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), folded))
        del conv.input[2:]
        conv.input.append(folded)
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)


def strip(model: ModelProto) -> None:
    """Remove what says where the graph comes from (paths of source files), and what nothing reads."""
    graph = model.graph
    read = {name for node in graph.node for name in _reads(node)} | {result.name for result in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.ClearField("doc_string")


def _reads(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, those that its branches and loops read among them."""
    yield from node.input
    for attribute in node.attribute:
        for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            for each in inner.node:
                yield from _reads(each)
            yield from (result.name for result in inner.output)


def ir_version(opset: int) -> int:
    """Return the oldest version of the file format that may hold an opset."""
    found: int = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    return found


def check(model: ModelProto) -> None:
    """Raise `ReLeQError` if a model is none."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ReLeQError(f"what was made of the network is no ONNX ({short(error)}); use --format packed") from error


def _dequantized(graph: GraphProto, name: str, integers: Integers) -> list[NodeProto]:
    """Add the initializers of a weight to a graph, and return the nodes that compute it."""
    values = integers.values.astype(_TYPES[integers.width, integers.signed])
    scale, offset = integers.scale, integers.offset
    by_channel = len(scale) > 1
    shape = (-1, *(1,) * (values.ndim - 1)) if by_channel else ()
    graph.initializer.append(numpy_helper.from_array(values, f"{name}.integers"))
    graph.initializer.append(numpy_helper.from_array(scale if by_channel else scale.reshape(()), f"{name}.scale"))
    inputs = [f"{name}.integers", f"{name}.scale"]
    if not offset.any():
        return [
            helper.make_node(
                "DequantizeLinear", inputs, [name], name=f"dequantize {name}", axis=0 if by_channel else None
            )
        ]
    shifts = offset.reshape(shape) if by_channel else offset.reshape(())
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(shifts), f"{name}.offset"))
    return [
        helper.make_node(
            "DequantizeLinear", inputs, [f"{name}.scaled"], name=f"dequantize {name}", axis=0 if by_channel else None
        ),
        helper.make_node("Add", [f"{name}.scaled", f"{name}.offset"], [name], name=f"shift {name}"),
    ]


def _array(tensor: TensorProto) -> NDArray[np.float64]:
    return numpy_helper.to_array(tensor).astype(np.float64)
