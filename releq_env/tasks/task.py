"""What a task is, and the table of those that are built in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from releq_env.errors import check_choice
from releq_env.reward import ReleasedConstants
from releq_env.tasks.datasets import DATASETS, Dataset
from releq_env.tasks.networks import SVHN8, DigitsNet, LeNet, SimpleNet


@dataclass(frozen=True)
class PretrainingRecipe:
    """How the full-precision network is trained: one-cycle learning rate.

    Attributes:
        epochs: Passes over the training part.
        optimizer: `"sgd"` (Nesterov momentum 0.9) or `"adamw"`.
        batch_size: Images a step.
        learning_rate: Peak of the cycle.
        weight_decay: L2 penalty (sgd) or decoupled (adamw).
        flip: Whether half of the images are mirrored left to right.
        shift: Largest random shift, in pixels, zero padded.
        seed: Of initialisation, order and augmentation.
    """

    epochs: int
    optimizer: str = "sgd"
    batch_size: int = 128
    learning_rate: float = 5e-2
    weight_decay: float = 5e-4
    flip: bool = False
    shift: int = 0
    seed: int = 0


@dataclass(frozen=True)
class RetrainingRecipe:
    """How a quantized copy is retrained for a short while: Adam, learning rate falling to zero.

    Attributes:
        images: Default budget, in images seen (more than the training part has: several epochs).
        batch_size: Images a step.
        learning_rates: Initial learning rate by name of the quantizer.
    """

    images: int
    batch_size: int = 128
    learning_rates: Mapping[str, float] = field(default_factory=lambda: {"lsq": 1e-3, "wrpn": 1e-3, "dorefa": 3e-4})


@dataclass(frozen=True)
class Task:
    """A network, a data set, and how the one is trained on the other.

    Attributes:
        name: As in `TASKS`.
        network: Makes the untrained network.
        dataset: Where the images come from and how they are split.
        pretraining: Recipe of the full-precision weights.
        retraining: Recipe of an evaluation.
        min_relative_accuracy: Default accuracy constraint.
        released_constants: Constants of the reward `released`.
    """

    name: str
    network: Callable[[], nn.Module]
    dataset: Dataset
    pretraining: PretrainingRecipe
    retraining: RetrainingRecipe
    min_relative_accuracy: float
    released_constants: ReleasedConstants

    @property
    def network_name(self) -> str:
        """What the network is called: the module and name of what makes it."""
        made_by = self.network
        name = getattr(made_by, "__qualname__", None)
        return f"{made_by.__module__}.{name}" if name else repr(made_by)


_LENET_CONSTANTS = ReleasedConstants(threshold=0.8, A=0.6, B=3.0)
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
            min_relative_accuracy=0.99,
            released_constants=_LENET_CONSTANTS,
        ),
        Task(
            name="mnist",
            network=LeNet,
            dataset=DATASETS["MNIST"],
            pretraining=PretrainingRecipe(epochs=12, optimizer="adamw", learning_rate=2e-3, weight_decay=1e-4),
            retraining=RetrainingRecipe(images=10_000),
            min_relative_accuracy=0.997,
            released_constants=_LENET_CONSTANTS,
        ),
        Task(
            name="fashion-mnist",
            network=LeNet,
            dataset=DATASETS["FashionMNIST"],
            pretraining=PretrainingRecipe(epochs=20, flip=True),
            retraining=RetrainingRecipe(images=10_000),
            min_relative_accuracy=0.99,
            released_constants=_LENET_CONSTANTS,
        ),
        Task(
            name="cifar10",
            network=SimpleNet,
            dataset=DATASETS["CIFAR10"],
            pretraining=PretrainingRecipe(epochs=100, flip=True, shift=2),
            retraining=RetrainingRecipe(images=45_000),
            min_relative_accuracy=0.98,
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
