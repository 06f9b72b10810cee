"""The format `packed`: every weight in exactly its bitwidth."""

import copy
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from releq_env.arithmetic import pinned_arithmetic
from releq_env.cost.size import size
from releq_env.errors import ReLeQError, short
from releq_env.export import container
from releq_env.export.content import Content, names_of
from releq_env.export.layer import packed_layer, quantized_layers
from releq_env.export.state import contiguous, distinct, order, rest
from releq_env.layer_info import LayerInfo

_MEND = "give load_packed the network that was saved, as it was before quantize()"


def save_packed(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a quantized network to a safetensors file, its weights in their bitwidths.

    The file holds the packed weights and the scales of every quantized layer, everything else of the
    network's state as it is, and in its header, as JSON, how they are to be read. What is written gives
    the network's weights bit for bit, else it is refused. The network is not changed.

    Args:
        network: As `releq_env.quantization.quantize` returns it, trained or not.
        path: The file; it is written whole or not at all.

    Raises:
        ReLeQError: If no layer is quantized, one cannot be written in its bitwidth, or the file cannot
            be written.
    """
    _check_module(network)
    network = copy.deepcopy(network).eval()
    layers = quantized_layers(network)
    if not layers:
        raise ReLeQError(f"{type(network).__name__} has no quantized layer; give what quantize() returns")
    described: dict[str, dict[str, object]] = {}
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        packed, *parts = packed_layer(name, layer)
        described[name] = asdict(packed)
        tensors.update(zip(names_of(name), parts, strict=True))
    state = rest(network, layers.values())
    others, same = distinct(state)
    if clash := sorted(tensors.keys() & others.keys()):
        raise ReLeQError(f"the network's state has {clash[0]!r}, which is the name of packed weights; rename it")
    orders = {name: order(tensor) for name, tensor in state.items() if order(tensor) != contiguous(tensor)}
    description = {"layers": described, "same": same, "orders": orders}
    container.write(Path(path), description, tensors | others)


def load_packed(path: str | os.PathLike[str], network: nn.Module) -> nn.Module:
    """Return a copy of a network with what a packed file holds, in evaluation mode.

    Its layers are ordinary ones with dequantized weights: they compute what those of the network that
    was saved compute, in fp32 on the same machine bit for bit. No code that a file brings is run.

    Args:
        path: A file that `save_packed` has written.
        network: In full precision, of the same architecture and types; its weights do not matter. It is
            not changed.

    Raises:
        ReLeQError: If the file is not there, damaged, of another version, or of another network.
    """
    _check_module(network)
    path = Path(path)
    with pinned_arithmetic(), torch.no_grad():
        network = copy.deepcopy(network).eval()
        description, tensors = container.read(path, _most_bytes(network))
        try:
            content = Content.read(description, tensors)
            difference = content.difference(network)
            if difference is None:
                content.put_into(network)
        except (KeyError, TypeError, ValueError) as error:
            raise container.damaged(path, error) from error
    if difference is not None:
        raise ReLeQError(f"{path} is not of this {type(network).__name__}: {difference}; {_MEND}")
    return network


def packed_size(network: nn.Module, layers: Sequence[LayerInfo], bitwidths: Sequence[int]) -> int:
    """Return the bytes that a packed network needs, without the header of the file.

    They are those of the cost model `size`, and those of everything else in the network's state.

    Args:
        network: In full precision or quantized.
        layers: Those that are quantized, with their `scales` (`releq_env.quantization.with_scales`).
        bitwidths: One bitwidth a layer.

    Raises:
        ReLeQError: If there are not as many bitwidths as layers, or the network has no such layer.
    """
    if len(layers) != len(bitwidths):
        raise ReLeQError(f"{len(bitwidths)} bitwidths for {len(layers)} layers; give one a layer")
    modules = dict(network.named_modules())
    if missing := [layer.name for layer in layers if layer.name not in modules]:
        raise ReLeQError(f"{type(network).__name__} has no layer {missing[0]!r}; give the layers of this network")
    others, _ = distinct(rest(network, [modules[layer.name] for layer in layers]))
    return int(sum(map(size, layers, bitwidths))) + _bytes(others.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _most_bytes(network: nn.Module) -> int:
    """Return more bytes than a packed file of a network can have, with a long header."""
    state = rest(network, [])
    return 2**20 + 1024 * len(state) + 2 * _bytes(state.values())


def _check_module(network: object) -> None:
    if not isinstance(network, nn.Module):
        raise ReLeQError(f"{short(network)} is no network; give a torch.nn.Module")
