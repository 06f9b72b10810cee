"""Pre-trained full-precision networks: shipped with the package, or trained on first use and cached."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from releq_env.errors import ReLeQError
from releq_env.files import replace_file
from releq_env.layer_info import LayerInfo
from releq_env.paths import cache_folder
from releq_env.quantization import quantizable_layers
from releq_env.tasks.task import Task

SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A full-precision network with what is known of it.

    Attributes:
        network: In evaluation mode, on the CPU. Not to be changed.
        layers: Its quantizable layers, first to last.
        accuracy: Validation accuracy, in [0, 1].
        sha256: Hash of the file of its weights.
    """

    network: nn.Module
    layers: tuple[LayerInfo, ...]
    accuracy: float
    sha256: str


def load_pretrained(task: Task, data_root: str | os.PathLike[str] | None = None) -> Pretrained:
    """Return a task's pre-trained network.

    Shipped weights come with the package. Others are trained on first use, with a progress bar; that
    goes on where it stopped if it is interrupted, and the result is kept in the cache folder.

    Args:
        task: The task.
        data_root: Where the images are, should training be needed.

    Raises:
        ReLeQError: If the weights are damaged, or training is needed and the data are missing.
    """
    shipped = SHIPPED / f"{task.name}.json"
    if shipped.exists() and _is_of(shipped, task):
        return read(task, shipped, mend="reinstall releq_env")
    folder = cache_folder() / "weights"
    identity = hashlib.sha256(json.dumps(_identity(task), sort_keys=True).encode()).hexdigest()[:12]
    record = folder / f"{task.name}-{identity}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(record.with_suffix(".lock")):
            if not record.exists():
                from releq_env.tasks.pretraining import pretrain

                write(task, record, *pretrain(task, data_root, checkpoint=record.with_suffix(".checkpoint")))
    except OSError as error:
        raise ReLeQError(
            f"weights cannot be kept in {folder} ({error}); point RELEQ_CACHE at a folder that can be written"
        ) from error
    return read(task, record, mend=f"delete {record} to have them trained again")


def _identity(task: Task) -> dict[str, object]:
    """Return what tells a task's weights from those of another task, or of the same one changed."""
    return {
        "network": task.network_name,
        "architecture": str(task.network()),
        "data": task.dataset.fingerprint,
        "recipe": asdict(task.pretraining),
    }


def _is_of(record: Path, task: Task) -> bool:
    """Whether shipped weights are this task's, not those of a changed task of the same name."""
    try:
        known = json.loads(record.read_text())
        return all(known[key] == value for key, value in _identity(task).items() if key != "architecture")
    except (KeyError, TypeError, ValueError):
        return True  # damaged: reading it says so


def read(task: Task, record: Path, mend: str) -> Pretrained:
    """Read weights and their record, checked against the record's hash."""
    path = record.with_suffix(".safetensors")
    try:
        known = json.loads(record.read_text())
        payload = path.read_bytes()
        digest = hashlib.sha256(payload).hexdigest()
        if digest != known["sha256"]:
            raise ReLeQError(
                f"the weights in {path} are damaged (SHA-256 {digest[:12]}, not {known['sha256'][:12]}); {mend}"
            )
        accuracy = float(known["validation_accuracy"])
        network = task.network()
        network.load_state_dict(load(payload))
    except (
        OSError,
        KeyError,
        TypeError,
        RuntimeError,
        SafetensorError,
        UnicodeDecodeError,
        json.JSONDecodeError,
    ) as error:
        raise ReLeQError(f"the weights in {path} cannot be read ({error}); {mend}") from error
    network.eval().requires_grad_(True)
    return Pretrained(
        network=network,
        layers=quantizable_layers(network, task.dataset.input_shape),
        accuracy=accuracy,
        sha256=digest,
    )


def write(task: Task, record: Path, network: nn.Module, accuracies: dict[str, float]) -> None:
    """Write weights, and then the record that vouches for them."""
    payload = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    replace_file(record.with_suffix(".safetensors"), payload)
    known = {
        "task": task.name,
        "network": task.network_name,
        "data": task.dataset.fingerprint,
        "recipe": asdict(task.pretraining),
        **accuracies,
        "torch": torch.__version__,
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    replace_file(record, (json.dumps(known, indent=2) + "\n").encode())
