"""Pre-trained full-precision networks: shipped with the package, or trained on first use and cached."""

import copy
import functools
import hashlib
import json
import os
import pkgutil
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from releq_env.arithmetic import pinned_arithmetic, seeded
from releq_env.errors import ReLeQError
from releq_env.files import replace_file
from releq_env.layer_info import LayerInfo
from releq_env.paths import cache_folder, data_folder
from releq_env.quantization import quantizable_layers
from releq_env.quantization.layers import survey
from releq_env.tasks import pretraining
from releq_env.tasks.task import Task, top1_accuracy

SHIPPED = Path(__file__).parent / "weights"
_PROBES = 16


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A full-precision network with what is known of it.

    Attributes:
        network: In evaluation mode, on the CPU. Not to be changed.
        layers: Its quantizable layers, first to last.
        accuracy: Validation accuracy, in (0, 1].
        sha256: Hash of the file of its weights.
        input_shape: Shape of one input.
    """

    network: nn.Module
    layers: tuple[LayerInfo, ...]
    accuracy: float
    sha256: str
    input_shape: tuple[int, ...]

    @functools.cached_property
    def identity(self) -> dict[str, str]:
        """What tells the network from others, JSON-able: its weights' hash, its text, and what it computes."""
        return {
            "weights": self.sha256,
            "architecture": architecture(self.network),
            "computes": behaviour_sha256(self.network, self.input_shape),
        }


def architecture(network: nn.Module) -> str:
    """Return a network's text, without addresses: the same in every process."""
    text = str(network).replace("__mp_main__.", "__main__.")  # as workers call the script
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def behaviour_sha256(network: nn.Module, input_shape: tuple[int, ...], inputs: Tensor | None = None) -> str:
    """Return a hash of what a network on the CPU makes of a fixed batch, and of the gradients, in its present mode.

    Of a copy: batch normalisation in training mode changes itself.

    Args:
        network: The network.
        input_shape: Of one input.
        inputs: The batch; default: random numbers.

    Raises:
        ReLeQError: If that is not one tensor.
    """
    with pinned_arithmetic(), seeded(0):
        network = copy.deepcopy(network)
        outputs = network(torch.randn(_PROBES, *input_shape) if inputs is None else inputs)
        if not isinstance(outputs, Tensor):
            kind = type(outputs).__name__
            raise ReLeQError(f"{type(network).__name__} returns a {kind}; it has to return one tensor")
        found = [outputs.detach()]
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        if outputs.requires_grad:
            scalar = (outputs.float() * torch.randn(outputs.shape)).sum()
            found += [g for g in torch.autograd.grad(scalar, trained, allow_unused=True) if g is not None]
    sha = hashlib.sha256()
    for tensor in found:
        sha.update(tensor.float().numpy().tobytes())
    return sha.hexdigest()


def load_pretrained(
    task: Task, data_root: str | os.PathLike[str] | None = None, probes: Tensor | None = None
) -> Pretrained:
    """Return a task's pre-trained network.

    Shipped weights come with the package. Others are trained on first use, with a progress bar; that
    goes on where it stopped if it is interrupted, and the result is kept in the cache folder. It is found
    again by what the network computes, the data, the recipe, the loss and the metric, not by a name.

    Args:
        task: The task.
        data_root: Where the data are, should they have to be hashed or trained on.
        probes: A few inputs as the network takes them, should it not take float32 numbers of any kind.

    Raises:
        ReLeQError: If the weights are damaged, data are needed and missing, or the accuracy is not in (0, 1].
    """
    shipped = SHIPPED / f"{task.name}.json"
    if shipped.exists() and _is_of(shipped, task, data_root):
        return read(task, shipped, mend="reinstall releq_env")
    identity = _identity(task, data_root, probes)
    if identity is None:
        kept = _UNKNOWN.setdefault(task, {})
        data = data_folder(data_root).absolute()
        if data not in kept:
            warnings.warn(
                f"the weights of {task.name} are not kept on disk, because its loss or metric cannot be told from "
                "others; give its Task a cache_key= that stands for them",
                stacklevel=2,
            )
            network, accuracies = pretraining.pretrain(task, data_root)
            digest = hashlib.sha256(_packed(network)).hexdigest()
            kept[data] = _described(task, network, accuracies["validation_accuracy"], digest, probes)
        return kept[data]
    folder = cache_folder() / "weights"
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    record = folder / f"{task.name}-{digest}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(record.with_suffix(".lock")):
            if not record.exists():
                checkpoint = record.with_suffix(".checkpoint")
                write(task, record, *pretraining.pretrain(task, data_root, checkpoint=checkpoint), data_root)
    except OSError as error:
        raise ReLeQError(
            f"weights cannot be kept in {folder} ({error}); point RELEQ_CACHE at a folder that can be written"
        ) from error
    return read(task, record, f"delete {record} to have them trained again", probes)


_UNKNOWN: WeakKeyDictionary[Task, dict[Path, Pretrained]] = WeakKeyDictionary()
"""What was trained in this process for tasks whose identity is not known, by the folder of the data."""


def _identity(task: Task, data_root: str | os.PathLike[str] | None, probes: Tensor | None) -> dict[str, object] | None:
    """Return what tells a task's weights from those of another, or of the same one changed."""
    identity = task.identity(data_root)
    if identity is None:
        return None
    network = task.untrained()
    return identity | {
        "architecture": architecture(network),
        "computes": [behaviour_sha256(network.train(mode), task.dataset.input_shape, probes) for mode in (False, True)],
        "recipe": asdict(task.pretraining),
    }


def _is_of(record: Path, task: Task, data_root: str | os.PathLike[str] | None) -> bool:
    """Whether shipped weights are this task's, not those of another or a changed task of the same name."""
    try:
        known = json.loads(record.read_text())
        return (
            known["network"] == task.network_name
            and pkgutil.resolve_name(known["network"]) is task.network
            and known["recipe"] == asdict(task.pretraining)
            and (task.loss, task.metric) == (F.cross_entropy, top1_accuracy)
            and known["data"] == task.dataset.fingerprint(data_root)
        )
    except ReLeQError:
        raise
    except (KeyError, TypeError, ValueError):
        return True  # damaged: reading it says so


def read(task: Task, record: Path, mend: str, probes: Tensor | None = None) -> Pretrained:
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
        with pinned_arithmetic():
            network = task.untrained()
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
    return _described(task, network, accuracy, digest, probes)


def _described(
    task: Task, network: nn.Module, accuracy: float, digest: str, probes: Tensor | None = None
) -> Pretrained:
    if not 0.0 < accuracy <= 1.0:
        raise ReLeQError(
            f"the pre-trained network of {task.name} has a validation accuracy of {accuracy}, to which nothing can be "
            "compared; change its recipe, its data, or a metric that is not in [0, 1]"
        )
    network.eval().requires_grad_(True)
    shape = task.dataset.input_shape
    layers = quantizable_layers(network, shape) if probes is None else survey(network, probes[:1]).layers
    return Pretrained(network, layers, accuracy, digest, shape)


def write(
    task: Task,
    record: Path,
    network: nn.Module,
    accuracies: dict[str, float],
    data_root: str | os.PathLike[str] | None = None,
) -> None:
    """Write weights, and then the record that vouches for them."""
    payload = _packed(network)
    replace_file(record.with_suffix(".safetensors"), payload)
    known = {
        "task": task.name,
        "network": task.network_name,
        "data": task.dataset.fingerprint(data_root),
        "recipe": asdict(task.pretraining),
        **accuracies,
        "torch": torch.__version__,
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    replace_file(record, (json.dumps(known, indent=2) + "\n").encode())


def _packed(network: nn.Module) -> bytes:
    # Copies: safetensors refuses tensors that share memory, as weights of several modules may.
    return save({name: tensor.contiguous().clone() for name, tensor in network.state_dict().items()})
