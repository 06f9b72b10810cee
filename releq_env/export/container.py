"""The file of a packed network: safetensors with one entry of JSON, checked before anything is made of it.

The entry, `releq_packed`, holds the version of the format, a SHA-256 of everything else in the
file, and a description of the tensors. Reading runs no code that a file brings.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from releq_env.errors import ReLeQError
from releq_env.files import replace_file

VERSION = 1
_ENTRY = "releq_packed"
_DAMAGED = (
    *(SafetensorError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError),
    *(ArithmeticError, RuntimeError, MemoryError),  # a RecursionError is a RuntimeError
)


def write(path: Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file, whole or not at all; the same content gives the same bytes.

    Args:
        path: The file.
        description: JSON-able.
        tensors: On any device.

    Raises:
        ReLeQError: If it cannot be written.
    """
    # Copies, since safetensors refuses tensors that overlap.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    entry = {"version": VERSION, "sha256": _digest(description, plain), **description}
    text = json.dumps(entry, separators=(",", ":"), allow_nan=False)
    try:
        payload = save(plain, {_ENTRY: text})
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ReLeQError(f"the network cannot be written as safetensors ({error}); use only dense tensors") from error
    try:
        replace_file(path, payload)
    except OSError as error:
        raise ReLeQError(f"{path} cannot be written ({error.strerror or error}); give another path") from error


def read(path: Path, largest: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return description and tensors, as `write` takes them.

    Args:
        path: The file.
        largest: The most bytes that it may have.

    Raises:
        ReLeQError: If it is not there, larger, damaged, of another version, or something else.
    """
    try:
        if path.exists() and not path.is_file():
            raise ReLeQError(f"{path} is no file; give a file that save_packed has written")
        with path.open("rb") as file:
            payload = file.read(largest + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ReLeQError):
            raise
        raise ReLeQError(f"{path} cannot be read ({error}); give a file that save_packed has written") from error
    if len(payload) > largest:
        raise ReLeQError(f"{path} has more than the {largest} bytes that such a network can need; give its own file")
    try:
        entry = _entry(payload)
        version = entry.pop("version")
        if version == VERSION and type(version) is int:
            tensors = load(payload)
            if entry.pop("sha256") != _digest(entry, tensors):
                raise ValueError("its content is not what its SHA-256 says")
            return entry, tensors
    except _DAMAGED as error:
        raise damaged(path, error) from error
    raise ReLeQError(
        f"{path} has version {str(version)[:20]} of the format, and this releq_env reads {VERSION}; "
        "read it with the releq_env that wrote it, or save it again"
    )


def damaged(path: Path, why: BaseException) -> ReLeQError:
    """Return the error for a file that is no packed network, in one line."""
    said = f"it has no {why}" if isinstance(why, KeyError) else str(why) or type(why).__name__
    return ReLeQError(
        f"{path} is damaged, or no packed network ({said[:200]}); get it anew, or write it again with save_packed"
    )


def _entry(payload: bytes) -> dict[str, Any]:
    length = int.from_bytes(payload[:8], "little")
    if not 0 < length <= len(payload) - 8:
        raise ValueError("it is not in the format of safetensors, or cut short")
    header = json.loads(payload[8 : 8 + length].decode(), parse_constant=_refuse)
    metadata = header.get("__metadata__", {})
    if _ENTRY not in metadata:
        raise ValueError(f"its metadata have no {_ENTRY}")
    entry = json.loads(metadata[_ENTRY], parse_constant=_refuse)
    if not isinstance(entry, dict):
        raise TypeError(f"{_ENTRY} is not an object")
    return entry


def _digest(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"its metadata hold {constant}")
