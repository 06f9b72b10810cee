"""The format `torchao`: integer weights in torchao's own tensors, in its own form of safetensors.

torchao's `IntxUnpackedToInt8Tensor` has integers of 1 to 8 bits, each in a byte of its own: the file is as
large whatever the bitwidths.
"""

import copy
import logging
import math
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError
from releq_env.export.agreement import Runner, outputs
from releq_env.export.bit_packing import unpack
from releq_env.export.layer import PackedLayer
from releq_env.export.model import Model
from releq_env.files import replace_file

_log = logging.getLogger("torch.utils._pytree")
_level = _log.level
_log.setLevel(logging.ERROR)  # it has a word to say of each enumeration that torchao registers
from torchao.prototype.safetensors.safetensors_support import (  # noqa: E402  # with its logger quiet
    flatten_tensor_state_dict,
    unflatten_tensor_state_dict,
)
from torchao.quantization import IntxUnpackedToInt8Tensor  # noqa: E402  # likewise

_log.setLevel(_level)

_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def write(model: Model, path: Path) -> list[str]:
    """Write a network with torchao's tensors in its quantized layers.

    Returns:
        A line for every layer of which torchao takes no integers: it is written dequantized.

    Raises:
        ReLeQError: If torchao takes none of them, a name in the network's state is none that it reads again, or
            the file cannot be written.
    """
    network = copy.deepcopy(model.network)
    left = []
    for name, layer in model.content.layers.items():
        module, (packed, scale) = network.get_submodule(name), model.content.packed[name]
        if why := _unsupported(module, scale):
            left.append(f"{name} is written dequantized: {why}")
        else:
            module.weight = nn.Parameter(integers(layer, packed, scale), requires_grad=False)
    if len(left) == len(model.content.layers):
        raise ReLeQError(f"torchao takes none of the quantized layers ({left[0]}); use --format packed or onnx")
    state = network.state_dict()
    if bare := [name for name in state if "." not in name]:
        raise ReLeQError(
            f"{bare[0]!r} is a parameter of the network itself, and torchao reads only those of modules in it; "
            "use --format packed or onnx"
        )
    plain = {name: value.clone() if type(value) is Tensor else value for name, value in state.items()}
    tensors, metadata = flatten_tensor_state_dict(plain)
    try:
        replace_file(path, save({name: value.contiguous() for name, value in tensors.items()}, metadata))
    except OSError as error:
        raise ReLeQError(f"{path} cannot be written ({error.strerror or error}); give another path") from error
    return left


def load(path: Path, network: nn.Module) -> nn.Module:
    """Return a copy of a network with what a file of torchao's holds; no code of the file is run.

    Raises:
        ReLeQError: If it is none, or one of another network.
    """
    network = copy.deepcopy(network).eval()
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        state, left = unflatten_tensor_state_dict(load_file(path), metadata)
        if left:
            raise ValueError(f"{min(left)!r} belongs to nothing")
        network.load_state_dict(state, assign=True)
    except Exception as error:  # torchao and safetensors raise many kinds
        raise ReLeQError(f"{path} is no file of this network ({str(error)[:200]}); export it again") from error
    return network


def run(model: Model, path: Path) -> Runner:
    """Return what computes with a file of torchao's in torch."""
    network = load(path, model.network)

    def compute(batch: Tensor) -> list[NDArray[Any]]:
        with pinned_arithmetic(), torch.no_grad():
            return [each.float().numpy() for each in outputs(network(batch))]

    return compute


def integers(layer: PackedLayer, packed: Tensor, scale: Tensor) -> IntxUnpackedToInt8Tensor:
    """Return a layer's weights as torchao's integers of exactly its bits.

    torchao computes `(integer - zero point) * scale`. Where codes are centred on zero and fit, they are the
    integers; else these are counted from the least that the type has, and the zero point is a float32.
    """
    low, bits = -(2 ** (layer.bits - 1)), layer.bits
    numbers = torch.from_numpy(unpack(packed.numpy(), bits, math.prod(layer.shape)).astype("int16"))
    numbers = numbers.reshape(layer.shape)
    unit = scale / layer.divisor
    blocks = (len(scale), *(1,) * (len(layer.shape) - 1))
    if not layer.offset and low <= layer.low and layer.low + layer.spacing * (layer.levels - 1) < -low:
        values, zero = layer.low + layer.spacing * numbers, torch.zeros(blocks, dtype=torch.int8)
    else:
        unit = unit * layer.spacing
        values, shift = numbers + low, layer.low / layer.spacing + layer.offset / unit
        zero = (low - shift).reshape(blocks).to(scale.dtype)
    block = (layer.shape[0] // len(scale), *layer.shape[1:])
    kind = getattr(torch, f"int{bits}")
    return IntxUnpackedToInt8Tensor(values.to(torch.int8), unit.reshape(blocks), zero, kind, block, scale.dtype, None)


def _unsupported(module: nn.Module, scale: Tensor) -> str | None:
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return f"torchao's integers have no {type(module).__name__}"
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return "nn.MultiheadAttention computes with its weight without calling it, which torchao's integers do not take"
    if isinstance(module, nn.Conv2d) and (module.padding_mode != "zeros" or isinstance(module.padding, str)):
        return "torchao's convolution takes padding with zeros, in numbers"
    return None if scale.dtype in _TYPES else f"torchao's integers have no weights of type {scale.dtype}"
