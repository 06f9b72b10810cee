"""The file of a packed network: safetensors whose tensors are streams, checked before anything is made of it.

A header of safetensors has some 90 bytes a tensor, which in a deep network is more than a few of its layers.
So all tensors of a type lie in one, a stream, one after the other, and what they are is said in `description`:
JSON, deflated, as bytes. The entry `releq_packed` of the header holds the version of the format and a SHA-256 of
everything else in the file. Reading runs no code that a file brings.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from releq_env.errors import ReLeQError
from releq_env.files import replace_file

VERSION = 2
_ENTRY = "releq_packed"
_DESCRIPTION = "description"
_LONGEST = 2**26  # bytes of a description: a few of the file may stand for very many
_TYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and not str(dtype).removeprefix("torch.").startswith(("q", "bits"))
}
_DAMAGED = (
    *(SafetensorError, zlib.error, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError),
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
    streams: dict[str, list[Tensor]] = {}
    described: list[tuple[str, str, list[int]]] = []
    for name, tensor in tensors.items():
        kind = str(tensor.dtype).removeprefix("torch.")
        described.append((name, kind, list(tensor.shape)))
        streams.setdefault(kind, []).append(_bytes_of(tensor))
    plain = {kind: torch.cat(parts).view(_TYPES[kind]) for kind, parts in streams.items()}
    text = json.dumps({**description, "tensors": described}, separators=(",", ":"), allow_nan=False)
    plain[_DESCRIPTION] = torch.frombuffer(bytearray(zlib.compress(text.encode(), 9)), dtype=torch.uint8)
    entry = json.dumps({"version": VERSION, "sha256": _digest(plain)}, separators=(",", ":"))
    try:
        payload = save(plain, {_ENTRY: entry})
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
            streams = load(payload)
            if entry.pop("sha256") != _digest(streams):
                raise ValueError("its content is not what its SHA-256 says")
            description = _description(streams.pop(_DESCRIPTION))
            return description, _tensors(description.pop("tensors"), streams)
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


def _description(deflated: Tensor) -> dict[str, Any]:
    inflate = zlib.decompressobj()
    text = inflate.decompress(_bytes_of(deflated).numpy().tobytes(), _LONGEST)
    if not inflate.eof:
        raise ValueError(f"its description is cut short, or longer than {_LONGEST} bytes")
    description = json.loads(text.decode(), parse_constant=_refuse)
    if not isinstance(description, dict):
        raise TypeError("its description is not an object")
    return description


def _tensors(described: Any, streams: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that lie in streams; nothing but the streams themselves is in memory."""
    tensors: dict[str, Tensor] = {}
    taken = dict.fromkeys(streams, 0)
    for name, kind, shape in described:
        if type(name) is not str or name in tensors or type(shape) is not list or {*map(type, shape)} - {int}:
            raise ValueError(f"the description of the tensor {str(name)[:50]!r} is not that of one")
        start, count = taken[kind], math.prod(shape)
        if min(shape, default=0) < 0 or start + count > streams[kind].numel() or streams[kind].dtype != _TYPES[kind]:
            raise ValueError(f"{name[:50]!r} of shape {str(shape)[:50]} does not lie in its {kind}")
        tensors[name] = streams[kind][start : start + count].clone().reshape(shape)
        taken[kind] = start + count
    if left := [kind for kind, stream in streams.items() if taken[kind] != stream.numel()]:
        raise ValueError(f"there is something behind the last tensor of {left[0][:50]!r}")
    return tensors


def _bytes_of(tensor: Tensor) -> Tensor:
    plain = tensor.detach().cpu().contiguous().reshape(-1).resolve_conj().resolve_neg()
    return plain.view(torch.uint8) if plain.numel() else plain.new_empty(0, dtype=torch.uint8)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes_of(tensor).numpy().data)
    return digest.hexdigest()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"its metadata hold {constant}")
