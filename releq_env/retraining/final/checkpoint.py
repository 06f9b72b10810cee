"""Where a long retraining stands, in one file: safetensors with an entry of JSON, no pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from releq_env.errors import ReLeQError
from releq_env.files import replace_file

_ENTRY = "releq_final"


class Checkpoint(NamedTuple):
    """What is kept after an epoch.

    Attributes:
        asked: What is trained and how, JSON-able: a retraining that asks for something else starts anew.
        history: One row an epoch: mean training loss, validation accuracy, seconds.
        tensors: Of the network and the optimizer.
    """

    asked: Mapping[str, Any]
    history: list[list[float]]
    tensors: Mapping[str, Tensor]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write it in one step: a kill leaves the epoch before, or this one.

    Raises:
        ReLeQError: If it cannot be written.
    """
    # Copies, since safetensors refuses tensors that share memory.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in checkpoint.tensors.items()
    }
    entry = json.dumps({"asked": checkpoint.asked, "history": checkpoint.history})
    try:
        replace_file(path, save(plain, {_ENTRY: entry}))
    except OSError as error:
        raise ReLeQError(
            f"{path} cannot be written ({error.strerror or error}); free the disk, or give another folder, and start "
            "again: what was finished before is kept"
        ) from error


def read(path: Path, asked: Mapping[str, Any]) -> Checkpoint | None:
    """Return what was kept of a retraining, `None` where there is nothing, or something else was asked for.

    Raises:
        ReLeQError: If the file is damaged.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            entry = json.loads(file.metadata()[_ENTRY])
            if entry["asked"] != json.loads(json.dumps(asked)):
                return None
            history = [[float(value) for value in row] for row in entry["history"]]
            return Checkpoint(asked, history, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  # it cannot be iterated over
    except (OSError, KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise ReLeQError(
            f"{path} is damaged ({error}); delete it and start again: only this retraining begins anew"
        ) from error
