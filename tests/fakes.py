"""Stand-ins that make the decision process testable without training or data."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from releq_env.evaluation import Evaluation
from releq_env.tasks.datasets import Dataset, Images


def smooth_accuracy(bitwidths: Sequence[int]) -> float:
    """Accuracy that rises with every bit of every layer, a later layer mattering more; in (0, 0.98)."""
    loss = sum((index + 1) * 4.0**-bits for index, bits in enumerate(bitwidths))
    return 0.98 * (1.0 - loss / sum(range(1, len(bitwidths) + 1)))


class FunctionEvaluator:
    """An `Evaluator` whose accuracy is a function of the assignment.

    Args:
        function: Assignment -> accuracy; a module-level function, so that pickling works.
        full_precision: What an accuracy is divided by.
    """

    def __init__(
        self, function: Callable[[Sequence[int]], float] = smooth_accuracy, full_precision: float = 0.98
    ) -> None:
        self.function = function
        self.full_precision = full_precision
        self.calls: list[tuple[int, ...]] = []
        self.closed = 0

    @property
    def distinct_evaluations(self) -> int:
        return len(set(self.calls))

    @property
    def retrained(self) -> int:
        return self.distinct_evaluations

    def evaluate(self, bitwidths: Sequence[int]) -> Evaluation:
        assignment = tuple(bitwidths)
        self.calls.append(assignment)
        accuracy = self.function(assignment)
        return Evaluation(assignment, accuracy, accuracy / self.full_precision, 0.0)

    def evaluate_many(self, assignments: Sequence[Sequence[int]]) -> list[Evaluation]:
        return [self.evaluate(assignment) for assignment in assignments]

    def close(self) -> None:
        self.closed += 1


class RandomImages:
    """A `Dataset.read` of random images that counts how often it is called."""

    def __init__(self, shape: tuple[int, int, int] = (1, 8, 8), count: int = 80) -> None:
        self.shape, self.count, self.reads = shape, count, 0

    def __call__(self, root: Path, train: bool, download: bool) -> Images:
        self.reads += 1
        generator = torch.Generator().manual_seed(int(train))
        labels = torch.arange(self.count) % 10
        images = torch.randint(0, 9, (self.count, *self.shape), generator=generator, dtype=torch.uint8)
        # A bright row, and a bright column for labels beyond the last row, are what a network can learn.
        images[torch.arange(self.count), :, labels % self.shape[1]] = 16
        images[labels >= self.shape[1], :, :, 0] = 16
        return Images(images, labels)


def random_dataset(shape: tuple[int, int, int] = (1, 8, 8), count: int = 80, validation_images: int = 30) -> Dataset:
    """A data set of small random images."""
    return Dataset(
        name="Random",
        input_shape=shape,
        mean=(0.5,) * shape[0],
        std=(0.3,) * shape[0],
        scale=16.0,
        read=RandomImages(shape, count),
        digests=None,
        validation_images=validation_images,
        downloads=False,
    )
