"""Packed files read and written without the package, by what docs/export.md says of them."""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

Parts = tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]


def parts(path: Path) -> Parts:
    """Return entry, description and tensors of a file."""
    with safe_open(path, "pt") as file:
        entry = json.loads(file.metadata()["releq_packed"])
    streams = load(path.read_bytes())
    description = json.loads(zlib.decompress(streams.pop("description").numpy().tobytes()))
    tensors = {}
    for name, kind, shape in description.pop("tensors"):
        count = torch.Size(shape).numel()
        tensors[name], streams[kind] = streams[kind][:count].reshape(shape), streams[kind][count:]
    assert not any(stream.numel() for stream in streams.values())
    return entry, description, tensors


def described(tensors: dict[str, Tensor]) -> list[list[Any]]:
    return [[name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)] for name, tensor in tensors.items()]


def put_together(path: Path, entry: dict[str, Any], description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a file whose checksum is right, whatever is in it."""
    streams: dict[str, Tensor] = {}
    for tensor in tensors.values():
        kind = str(tensor.dtype).removeprefix("torch.")
        streams[kind] = torch.cat([streams.get(kind, tensor.new_empty(0)), tensor.reshape(-1)])
    text = json.dumps({"tensors": described(tensors), **description})
    streams["description"] = torch.frombuffer(bytearray(zlib.compress(text.encode())), dtype=torch.uint8)
    write_streams(path, entry, streams)


def write_streams(path: Path, entry: dict[str, Any], streams: dict[str, Tensor]) -> None:
    digest = hashlib.sha256()
    for name, stream in sorted(streams.items()):
        digest.update(f"\n{name} {stream.dtype} {tuple(stream.shape)}\n".encode())
        digest.update(stream.reshape(-1).view(torch.uint8).numpy().tobytes())
    if "sha256" in entry:
        entry = entry | {"sha256": digest.hexdigest()}
    path.write_bytes(save(streams, {"releq_packed": json.dumps(entry)}))
