"""A task that is finalized in a blink, and what counts its trainings and readings."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from releq_env.retraining.final import FinalRetraining
from releq_env.tasks import Dataset, Examples, RetrainingRecipe, Task
from releq_env.tasks.final import FinalRecipe
from releq_env.tasks.task import PretrainingRecipe
from tests.fakes import RandomImages

RECIPE = FinalRecipe(epochs=2, batch_size=25, control_rates=(1e-3, 1e-4))
BITS = (2, 3)


class Small(nn.Sequential):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))


class Counted(RandomImages):
    """Random images that count how often the test part is read."""

    def __init__(self) -> None:
        super().__init__(count=120)
        self.test_reads = 0

    def __call__(self, root: Path, train: bool, download: bool) -> Examples:
        self.test_reads += not train
        return super().__call__(root, train, download)


def small_task(**changes: Any) -> Task:
    """Return a task with a data set of its own."""
    dataset = Dataset("Counted", (1, 8, 8), Counted(), validation_images=40, scale=16.0, cache_key="counted")
    settings: dict[str, Any] = {
        "name": "small",
        "network": Small,
        "dataset": dataset,
        "pretraining": PretrainingRecipe(30, batch_size=20, learning_rate=0.1),
        "retraining": RetrainingRecipe(64, batch_size=32),
        "min_relative_accuracy": 0.9,
    }
    return Task(**settings | changes)


def counted(task: Task) -> Counted:
    """Return what reads a task's data."""
    read = task.dataset.read
    assert isinstance(read, Counted)
    return read


class Trainings:
    """Counts retrainings, by what they were given: bitwidths or `None`, learning rate, seed."""

    def __init__(self, monkeypatch: Any) -> None:
        self.asked: list[tuple[Any, float, int]] = []
        train = FinalRetraining.train

        def counting(final: FinalRetraining, bitwidths: Any, rate: float, seed: int, *rest: Any) -> Any:
            self.asked.append((bitwidths, rate, seed))
            return train(final, bitwidths, rate, seed, *rest)

        monkeypatch.setattr(FinalRetraining, "train", counting)

    @property
    def seeds(self) -> list[int]:
        """Of the quantized networks."""
        return [seed for bitwidths, _, seed in self.asked if bitwidths is not None]

    @property
    def control_rates(self) -> list[float]:
        """Of the full-precision ones."""
        return [rate for bitwidths, rate, _ in self.asked if bitwidths is None]


def plain_accuracy(network: nn.Module, examples: Examples) -> float:
    """Return the share of right answers, computed by hand."""
    with torch.no_grad():
        return float((network(examples.inputs.float() / 16.0).argmax(1) == examples.targets).double().mean())
