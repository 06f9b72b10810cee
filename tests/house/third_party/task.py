"""Which of two halves of a signal is louder, for a network of one's own."""

from pathlib import Path

import torch
from torch import nn

from releq_env.reward import LENET_CONSTANTS
from releq_env.tasks import TASKS, PretrainingRecipe, RetrainingRecipe, Task
from releq_env.tasks.datasets import Dataset, Examples


def read(root: Path, train: bool, download: bool) -> Examples:
    generator = torch.Generator().manual_seed(int(train))
    signals = torch.rand(600, 1, 4, 4, generator=generator)
    return Examples(signals, (signals[:, 0, :2].mean((1, 2)) > signals[:, 0, 2:].mean((1, 2))).long())


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))


TASKS["louder"] = Task(
    name="louder",
    network=network,
    dataset=Dataset("Signals", (1, 4, 4), read, validation_images=200),
    pretraining=PretrainingRecipe(epochs=10, batch_size=32),
    retraining=RetrainingRecipe(images=64, batch_size=32),
    min_relative_accuracy=0.95,
    released_constants=LENET_CONSTANTS,
)
