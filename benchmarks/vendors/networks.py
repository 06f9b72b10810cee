"""The networks that are compared on, with their data."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.vendors.vendor import Given
from releq_env.arithmetic import seeded
from releq_env.problem import Problem
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import TASKS, Examples, PretrainingRecipe, RetrainingRecipe, load_pretrained


class Plan(NamedTuple):
    """How much is measured.

    Attributes:
        task: Whose data are taken, a name in `releq_env.tasks.TASKS`.
        budgets: Bits a weight on average, at most.
        images: Of training, the first ones; every tool and every training sees these alone.
        pretraining: Epochs in full precision, of a network without shipped weights.
        evaluations: Of our search.
        short: Images of one of its retrainings.
        epochs: Of the final retraining, of control and quantized networks alike.
        seeds: Of the final retrainings.
    """

    task: str
    budgets: tuple[float, ...]
    images: int
    pretraining: int
    evaluations: int
    short: int
    epochs: int
    seeds: tuple[int, ...]


FULL = Plan("fashion-mnist", (6.0, 4.0, 3.0, 2.0), 15_000, 8, 40, 5_000, 4, (0, 1, 2))
QUICK = Plan("digits", (4.0, 2.0), 640, 8, 4, 320, 1, (0, 1))


class Block(nn.Module):
    """Two convolutions with batch normalisation, and what goes round them."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.short = nn.Identity() if channels == width else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return feature maps, shape `(N, width, H // stride, W // stride)`."""
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(images)))))
        return torch.relu(inner + self.short(images))


class Residual(nn.Sequential):
    """Ten quantizable layers for grey images: 77,072 weights."""

    def __init__(self) -> None:
        stem = nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        blocks = Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)
        super().__init__(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


NETWORKS: dict[str, Callable[[Plan], tuple[nn.Module, int]]] = {
    "residual": lambda plan: (_seeded(), plan.pretraining),
    "lenet": lambda plan: (load_pretrained(TASKS[plan.task]).network, 0),
}
"""By name: gives a network, and for how many epochs it is still to be trained."""


def make_problem(name: str, plan: Plan) -> Problem:
    """Return a network's problem; it is trained, or read from the cache folder, if it has no shipped weights.

    Args:
        name: In `NETWORKS`.
        plan: What is measured.

    Raises:
        ReLeQError: If data are missing.
    """
    network, epochs = NETWORKS[name](plan)
    dataset = TASKS[plan.task].dataset
    training, validation = dataset.load()
    return Problem.from_network(
        network,
        (dataset.normalize(training.inputs[: plan.images]), training.targets[: plan.images]),
        (dataset.normalize(validation.inputs), validation.targets),
        name=f"{name}-{plan.task}",
        pretraining=PretrainingRecipe(epochs) if epochs else None,
        retraining=RetrainingRecipe(plan.short, batch_size=_batch(plan)),
        cost="size",
        min_relative_accuracy=TASKS[plan.task].min_relative_accuracy,
        cache=None,
    )


def test_data(plan: Plan) -> tuple[Tensor, Tensor]:
    """Return the test data, as a network takes them: for final results alone."""
    dataset = TASKS[plan.task].dataset
    test = dataset.load_test()
    return dataset.normalize(test.inputs), test.targets


def given(problem: Problem, plan: Plan) -> Given:
    """Return what a tool is given of a problem that `make_problem` has made."""
    engine = engine_of(problem)
    training, validation = engine.task.dataset.load()
    network = copy.deepcopy(engine.pretrained.network).eval()
    return Given(problem, network, Examples(*training), Examples(*validation), plan.evaluations)


def engine_of(problem: Problem) -> ShortRetraining:
    """Return what retrains the network of a problem."""
    engine: ShortRetraining = problem.evaluator.source.retraining  # type: ignore[attr-defined]  # it is a network
    return engine


def _seeded() -> nn.Module:
    with seeded(0):
        return Residual()


def _batch(plan: Plan) -> int:
    return TASKS[plan.task].retraining.batch_size
