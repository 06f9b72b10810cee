"""What a task is, and the table of those that are built in."""

import copy
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from releq_env.arithmetic import pinned_arithmetic, seeded
from releq_env.errors import ReLeQError, check_choice, check_number, check_whole, short
from releq_env.reward import LENET_CONSTANTS, ReleasedConstants
from releq_env.tasks.datasets import DATASETS, Dataset
from releq_env.tasks.losses import soft_cross_entropy
from releq_env.tasks.networks import SVHN8, DigitsNet, LeNet, SimpleNet
from releq_env.tasks.strides import without_strides


def top1_accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Return the share of examples whose largest output is the right one; none is right where an output is NaN.

    Args:
        outputs: Logits, shape `(N, classes)`.
        targets: Classes, int64, shape `(N,)`.
    """
    right = (outputs.argmax(dim=1) == targets) & ~outputs.isnan().any(dim=1)  # of NaN `argmax` names some class
    return int(right.sum()) / len(targets)


@dataclass(frozen=True)
class PretrainingRecipe:
    """How the full-precision network is trained: one-cycle learning rate.

    Attributes:
        epochs: Passes over the training part.
        optimizer: `"sgd"` (Nesterov momentum 0.9) or `"adamw"`.
        batch_size: Examples a step.
        learning_rate: Peak of the cycle.
        weight_decay: L2 penalty (sgd) or decoupled (adamw).
        flip: Whether half of the inputs, which are images, are mirrored left to right.
        shift: Largest random shift, in pixels, zero padded.
        seed: Of initialisation, order, augmentation and dropout.
    """

    epochs: int
    optimizer: str = "sgd"
    batch_size: int = 128
    learning_rate: float = 5e-2
    weight_decay: float = 5e-4
    flip: bool = False
    shift: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("optimizer", self.optimizer, ("sgd", "adamw"))
        for name, least in (("epochs", 0), ("batch_size", 1), ("shift", 0), ("seed", 0)):
            check_whole(name, getattr(self, name), least)
        check_number("learning_rate", self.learning_rate, above=0.0)
        check_number("weight_decay", self.weight_decay)
        if not isinstance(self.flip, bool):
            raise ReLeQError(f"flip={short(self.flip)} is not accepted; give True or False")


@dataclass(frozen=True)
class RetrainingRecipe:
    """How a quantized copy is retrained for a short while: Adam, learning rates falling to zero.

    Attributes:
        images: Default budget, in examples seen (more than the training part has: several epochs).
        batch_size: Examples a step.
        learning_rate: Initial learning rate; `None` is the quantizer's own.
        distillation: Share of the loss that comes from the outputs of the full-precision network, in [0, 1];
            the rest is the task's loss.
    """

    images: int
    batch_size: int = 128
    learning_rate: float | None = None
    distillation: float = 0.5

    def __post_init__(self) -> None:
        check_whole("images", self.images, 0)
        check_whole("batch_size", self.batch_size, 1)
        if self.learning_rate is not None:
            check_number("learning_rate", self.learning_rate, above=0.0)
        check_number("distillation", self.distillation, most=1.0)


@dataclass(frozen=True)
class Task:
    """A network, a data set, and how the one is trained on the other.

    Attributes:
        name: As in `TASKS`.
        network: Makes the untrained network.
        dataset: Where the examples come from and how they are split.
        pretraining: Recipe of the full-precision weights.
        retraining: Recipe of an evaluation.
        min_relative_accuracy: Default accuracy constraint.
        released_constants: Constants of the reward `released`.
        loss: `(outputs, targets) -> scalar` that training makes small; outputs are float32.
        metric: `(outputs, targets) -> float` in [0, 1], larger is better: the accuracy, over the whole
            validation part.
        distillation: `(outputs, teacher_outputs) -> scalar` that is small where a network's outputs are those of
            the full-precision one. `None`: cross-entropy with its probabilities where the loss is torch's
            cross-entropy; elsewhere nothing is distilled.
        cache_key: A name for what cannot be told from others by itself: a loss or metric that is not
            torch's. To be changed with it. Without one nothing measured of such a task is kept on disk.
    """

    name: str
    network: Callable[[], nn.Module]
    dataset: Dataset
    pretraining: PretrainingRecipe
    retraining: RetrainingRecipe
    min_relative_accuracy: float
    released_constants: ReleasedConstants = LENET_CONSTANTS
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    metric: Callable[[Tensor, Tensor], float] = top1_accuracy
    distillation: Callable[[Tensor, Tensor], Tensor] | None = None
    cache_key: str | None = None

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name:
            raise ReLeQError(f"the task's name {self.name!r} is not a file's name; give one without a path")

    @property
    def soft_loss(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """What `distillation` stands for; `None` if nothing is distilled."""
        return soft_cross_entropy if self.distillation is None and self.loss is F.cross_entropy else self.distillation

    @property
    def distilled(self) -> float:
        """Share of the retraining's loss that comes from the full-precision network, in [0, 1]."""
        return 0.0 if self.soft_loss is None else self.retraining.distillation

    @property
    def network_name(self) -> str:
        """What the network is called: the module and name of what makes it, without its arguments."""
        return _name(self.network)

    def untrained(self, seed: int = 0) -> nn.Module:
        """Return the network as `seed` initialises it; torch's global generator stays where it is."""
        with pinned_arithmetic(), seeded(seed):
            return self.new_network()

    def new_network(self) -> nn.Module:
        """Return an untrained network that is nobody else's: `network` may give the same one every time."""
        with torch.no_grad():  # what is computed of parameters could not be copied
            return without_strides(copy.deepcopy(self.network()))

    def identity(self, data_root: str | os.PathLike[str] | None = None) -> dict[str, object] | None:
        """Return what its accuracies depend on besides network and recipes, JSON-able.

        `None` if its loss, metric or distillation cannot be told from others, and no `cache_key` says which they are.

        Args:
            data_root: Where the data are, should they have to be hashed.

        Raises:
            ReLeQError: If they have to be, and cannot be read.
        """
        functions = {"loss": _known(self.loss), "metric": _known(self.metric)}
        if self.distillation is not None:
            functions["distillation"] = _known(self.distillation)
        if None in functions.values() and self.cache_key is None:
            return None
        return {"data": self.dataset.fingerprint(data_root), **functions, "cache_key": self.cache_key}


def _name(made_by: Callable[..., object]) -> str:
    while isinstance(made_by, functools.partial):
        made_by = made_by.func
    named = made_by if hasattr(made_by, "__qualname__") else type(made_by)
    return f"{named.__module__}.{named.__qualname__}"


def _known(function: Callable[..., object]) -> str | None:
    """Return the name of a function that a name tells from others: this module's or torch's, or a partial of one."""
    if isinstance(function, functools.partial):
        arguments = [*function.args, *function.keywords.values()]
        name = _known(function.func)
        if name is None or not all(isinstance(value, bool | int | float | str | None) for value in arguments):
            return None
        return f"{name}{function.args}{sorted(function.keywords.items())}"
    if function in (top1_accuracy, soft_cross_entropy) or any(function is known for known in vars(F).values()):
        return _name(function)
    return None


_COLOUR_CONSTANTS = ReleasedConstants(threshold=0.1, A=0.8, B=1.0)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="digits",
            network=DigitsNet,
            dataset=DATASETS["Digits"],
            pretraining=PretrainingRecipe(epochs=40, batch_size=32),
            retraining=RetrainingRecipe(images=1600, batch_size=32),
            min_relative_accuracy=0.995,
        ),
        Task(
            name="mnist",
            network=LeNet,
            dataset=DATASETS["MNIST"],
            pretraining=PretrainingRecipe(epochs=12, optimizer="adamw", learning_rate=2e-3, weight_decay=1e-4),
            retraining=RetrainingRecipe(images=10_000),
            min_relative_accuracy=0.997,
        ),
        Task(
            name="fashion-mnist",
            network=LeNet,
            dataset=DATASETS["FashionMNIST"],
            pretraining=PretrainingRecipe(epochs=20, flip=True),
            retraining=RetrainingRecipe(images=10_000),
            min_relative_accuracy=0.997,
        ),
        Task(
            name="cifar10",
            network=SimpleNet,
            dataset=DATASETS["CIFAR10"],
            pretraining=PretrainingRecipe(epochs=100, flip=True, shift=2),
            retraining=RetrainingRecipe(images=10_000),
            min_relative_accuracy=0.99,
            released_constants=_COLOUR_CONSTANTS,
        ),
        Task(
            name="svhn",
            network=SVHN8,
            dataset=DATASETS["SVHN"],
            pretraining=PretrainingRecipe(epochs=20, optimizer="adamw", learning_rate=3e-3, shift=2),
            retraining=RetrainingRecipe(images=10_000),
            min_relative_accuracy=0.99,
            released_constants=_COLOUR_CONSTANTS,
        ),
    )
}


def get_task(task: str | Task) -> Task:
    """Return the task of that name, or the task itself.

    Raises:
        ReLeQError: If there is none of that name.
    """
    if isinstance(task, Task):
        return task
    check_choice("task", task, TASKS)
    return TASKS[task]
