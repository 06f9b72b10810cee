"""The format `packed` as a format to export to: the file itself, or a copy of it."""

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError
from releq_env.export.agreement import Runner, outputs
from releq_env.export.model import Model
from releq_env.export.packed import load_packed
from releq_env.files import replace_file


def write(model: Model, path: Path) -> list[str]:
    """Copy the packed file, which has been read and found right, unless it is there already."""
    try:
        if not (path.exists() and path.samefile(model.path)):
            replace_file(path, model.path.read_bytes())
    except OSError as error:
        raise ReLeQError(f"{path} cannot be written ({error.strerror or error}); give another path") from error
    return []


def run(model: Model, path: Path) -> Runner:
    """Return what computes with a copy read anew."""
    network = load_packed(path, model.network)

    def compute(batch: Tensor) -> list[NDArray[Any]]:
        with pinned_arithmetic(), torch.no_grad():
            return [each.float().numpy() for each in outputs(network(batch))]

    return compute
