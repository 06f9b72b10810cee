"""The format `packed`: every weight in exactly its bitwidth."""

import copy
import operator
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
from releq_env.export.about import About
from releq_env.export.content import Content, names_of
from releq_env.export.layer import packed_layer, quantized_layers
from releq_env.export.state import contiguous, distinct, order, rest, weight_identity
from releq_env.layer_info import LayerInfo
from releq_env.quantization.layers import bare

_MOST_BYTES = 2**33  # of a file of which nothing is known
_MEND = "give load_packed the network that was saved, as it was before quantize()"


def save_packed(network: nn.Module, path: str | os.PathLike[str], about: About | None = None) -> None:
    """Write a quantized network to a safetensors file, its weights in their bitwidths.

    The file holds the packed weights and the scales of every quantized layer, everything else of the
    network's state as it is, and in its header, as JSON, how they are to be read. What is written gives
    the network's weights bit for bit, else it is refused. The network is not changed.

    Args:
        network: As `releq_env.quantization.quantize` returns it, trained or not.
        path: The file; it is written whole or not at all.
        about: What `python -m releq_env.export` has to know of the network; default: nothing.

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
    state = rest(network, layers.values())
    others, same = distinct(state)
    owners: dict[tuple[int, ...], str] = {}
    for name, layer in layers.items():
        packed, *parts = packed_layer(name, layer)
        described[name] = asdict(packed)
        owner = owners.setdefault(weight_identity(layer), name)  # one weight, quantized once, is written once
        if owner == name:
            tensors.update(zip(names_of(name), parts, strict=True))
        else:
            same.update(zip(names_of(name), names_of(owner), strict=True))
    if clash := sorted(tensors.keys() & others.keys()):
        raise ReLeQError(f"the network's state has {clash[0]!r}, which is the name of packed weights; rename it")
    orders = {name: order(tensor) for name, tensor in state.items() if order(tensor) != contiguous(tensor)}
    about = About() if about is None else about
    description = {"about": about.described(), "layers": described, "same": same, "orders": orders}
    container.write(Path(path), description, tensors | others)


def load_packed(path: str | os.PathLike[str], network: nn.Module) -> nn.Module:
    """Return a copy of a network with what a packed file holds, in evaluation mode.

    Its layers are ordinary ones with dequantized weights: they compute what those of the network that
    was saved compute, in fp32 on the same machine bit for bit. What is frozen in it
    stays so. No code that a file brings is run.

    Args:
        path: A file that `save_packed` has written.
        network: In full precision, of the same architecture and types; its weights do not matter. It is
            not changed.

    Raises:
        ReLeQError: If the file is not there, damaged, of another version, or of another network.
    """
    return read_packed(path, network)[0]


def read_packed(path: str | os.PathLike[str], network: nn.Module) -> tuple[nn.Module, Content]:
    """Return what `load_packed` returns, and the content of the file.

    Raises:
        ReLeQError: As there.
    """
    _check_module(network)
    path = Path(path)
    with pinned_arithmetic(), torch.no_grad():
        network = copy.deepcopy(bare(network)).eval()
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
    return network, content


def read_about(path: str | os.PathLike[str]) -> About:
    """Return what a packed file says of its network; no network is needed for it.

    Raises:
        ReLeQError: If the file is not there, damaged, or of another version.
    """
    path = Path(path)
    description, _ = container.read(path, _MOST_BYTES)
    try:
        return About.read(description["about"])
    except (KeyError, TypeError, ValueError) as error:
        raise container.damaged(path, error) from error


def packed_size(network: nn.Module, layers: Sequence[LayerInfo], bitwidths: Sequence[int]) -> int:
    """Return the bytes that a packed network needs, without the header of the file.

    They are those of the cost model `size`, and those of everything else in the network's state.

    Args:
        network: In full precision or quantized.
        layers: Those that are quantized, with their `scales` (`releq_env.quantization.with_scales`). Other
            modules with the same weight count with them.
        bitwidths: One bitwidth a layer.

    Raises:
        ReLeQError: If there are not as many bitwidths as layers, or the network has no such layer.
    """
    if len(layers) != len(bitwidths):
        raise ReLeQError(f"{len(bitwidths)} bitwidths for {len(layers)} layers; give one a layer")
    modules = dict(network.named_modules())
    names = [name for layer in layers for name in layer.modules]
    if missing := [name for name in names if name not in modules]:
        raise ReLeQError(f"{type(network).__name__} has no layer {missing[0]!r}; give the layers of this network")
    chosen = {weight_identity(modules[name]) for name in names}
    alike = [module for module in modules.values() if weight_identity(module) in chosen]
    others, _ = distinct(rest(network, alike))
    return int(sum(map(size, layers, map(operator.index, bitwidths)))) + _bytes(others.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _most_bytes(network: nn.Module) -> int:
    """Return more bytes than a packed file of a network can have, with a long header."""
    state = rest(network, [])
    return 2**20 + 1024 * len(state) + 2 * _bytes(state.values())


def _check_module(network: object) -> None:
    if not isinstance(network, nn.Module):
        raise ReLeQError(f"{short(network)} is no network; give a torch.nn.Module")
