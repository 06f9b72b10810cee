"""A folder with a quantized network: the packed file, and the assignment for people and other programs."""

import json
import os
from pathlib import Path

from torch import nn

from releq_env.errors import ReLeQError
from releq_env.export.about import About
from releq_env.export.layer import quantized_layers
from releq_env.export.packed import save_packed
from releq_env.files import replace_file
from releq_env.quantization import WeightQuantizer

PACKED = "network.safetensors"
ASSIGNMENT = "assignment.json"


def save_model(network: nn.Module, folder: str | os.PathLike[str], about: About | None = None) -> None:
    """Write a folder that `python -m releq_env.export` takes: `network.safetensors` and `assignment.json`.

    Args:
        network: As `releq_env.quantization.quantize` returns it, trained or not.
        folder: Made if it is not there; other files in it stay.
        about: The task of the network or none, and the shape of its inputs.

    Raises:
        ReLeQError: If the network cannot be packed, or something cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_packed(network, folder / PACKED, about)
        replace_file(folder / ASSIGNMENT, json.dumps(assignment(network), indent=2) + "\n")
    except OSError as error:
        raise ReLeQError(f"{folder} cannot be written ({error.strerror or error}); give another folder") from error


def assignment(network: nn.Module) -> dict[str, int]:
    """Return the bitwidths of a quantized network by the names of its layers."""
    found = {}
    for name, layer in quantized_layers(network).items():
        steps = layer.get_submodule("parametrizations.weight")
        found[name] = next(step.bits for step in steps.children() if isinstance(step, WeightQuantizer))
    return found


def packed_file(folder: str | os.PathLike[str]) -> Path:
    """Return the packed file of a folder, or the file itself if that is given.

    Raises:
        ReLeQError: If there is none.
    """
    path = Path(folder)
    path = path / PACKED if path.is_dir() else path
    if not path.is_file():
        raise ReLeQError(
            f"{path} is not there; give a folder with the {PACKED} that save_model, SearchResult.save or "
            "agents.finalize has written"
        )
    return path


def check_assignment(folder: str | os.PathLike[str], bitwidths: dict[str, int]) -> None:
    """Compare the assignment beside a packed file with the file's own bitwidths.

    Raises:
        ReLeQError: If there is one that cannot be read, or says something else.
    """
    path = Path(folder) / ASSIGNMENT
    if not Path(folder).is_dir() or not path.exists():
        return
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ReLeQError(f"{path} cannot be read ({error}); delete it, or write it again") from error
    if said != bitwidths:
        raise ReLeQError(f"{path} is not the assignment of the {PACKED} beside it; write both again, or delete it")
