"""Stand-ins that make the decision process testable without training or data."""

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from releq_env.evaluation import Evaluator, FunctionSource
from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem
from releq_env.tasks.datasets import Dataset, Examples
from releq_env.workers.waiting import Assignment, Measured, Waiting

DIGITS_LAYERS = (
    LayerInfo("conv1", n=16, c=1, k=3, weights=144, macs=9_216, std=0.309, scales=16),
    LayerInfo("conv2", n=32, c=16, k=3, weights=4_608, macs=294_912, std=0.067, scales=32),
    LayerInfo("fc1", n=64, c=512, k=0, weights=32_768, macs=32_768, std=0.034, scales=64),
    LayerInfo("fc2", n=10, c=64, k=0, weights=640, macs=640, std=0.164, scales=10),
)
"""Of the network for scikit-learn's digits, with the scale factors that `lsq` stores."""

FULL_PRECISION = 0.98


def smooth_accuracy(bitwidths: Sequence[int]) -> float:
    """Accuracy that rises with every bit of every layer, a later layer mattering more; in (0, 0.98)."""
    loss = sum((index + 1) * 4.0**-bits for index, bits in enumerate(bitwidths))
    return FULL_PRECISION * (1.0 - loss / sum(range(1, len(bitwidths) + 1)))


class FakeSource(FunctionSource):
    """A source whose accuracy is a function of the assignment, and which notes what it is asked for.

    Args:
        function: Assignment -> accuracy; a module-level function, so that pickling works.
        full_precision: What an accuracy is divided by.
        num_layers: How long an assignment is.
        fingerprint: What accuracies depend on; `None`: unknown.

    Attributes:
        batches: What was measured, a list a call of `measure`.
        closed: How often it was closed.
    """

    def __init__(
        self,
        function: Callable[[Sequence[int]], float] = smooth_accuracy,
        full_precision: float = FULL_PRECISION,
        num_layers: int = len(DIGITS_LAYERS),
        fingerprint: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(function, full_precision, num_layers)
        self.function = function
        self.fingerprint: Mapping[str, object] | None = fingerprint  # type: ignore[assignment]
        self.batches: list[list[Assignment]] = []
        self.closed = 0

    @property
    def calls(self) -> list[Assignment]:
        """What was measured, in order."""
        return [assignment for batch in self.batches for assignment in batch]

    def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
        self.batches.append(batch := [])
        for assignment, measured in super().measure(waiting):
            batch.append(assignment)
            yield assignment, Measured(measured.accuracy, 2.0)

    def close(self) -> None:
        self.closed += 1


def digits_problem(source: FunctionSource | None = None, *, bitwidths: Any = None, **decision: Any) -> Problem:
    """Return the problem of scikit-learn's digits over a source that trains nothing.

    Args:
        source: Default: one of `smooth_accuracy`.
        bitwidths: To choose from, as of `Problem.from_task`. Default: 1 to 8.
        **decision: As of `Problem.replace`.
    """
    every = (tuple(range(1, 9)),) * len(DIGITS_LAYERS)
    problem = Problem("digits", DIGITS_LAYERS, every, every, Evaluator(source or FakeSource()), quantizer="lsq")
    return problem.replace(bitwidths=bitwidths, **decision)


class RandomImages:
    """A `Dataset.read` of random images that counts how often it is called."""

    def __init__(self, shape: tuple[int, int, int] = (1, 8, 8), count: int = 80) -> None:
        self.shape, self.count, self.reads = shape, count, 0

    def __call__(self, root: Path, train: bool, download: bool) -> Examples:
        self.reads += 1
        generator = torch.Generator().manual_seed(int(train))
        labels = torch.arange(self.count) % 10
        images = torch.randint(0, 9, (self.count, *self.shape), generator=generator, dtype=torch.uint8)
        # A bright row, and a bright column for labels beyond the last row, are what a network can learn.
        images[torch.arange(self.count), :, labels % self.shape[1]] = 16
        images[labels >= self.shape[1], :, :, 0] = 16
        return Examples(images, labels)


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


def bits_of(info: Mapping[str, Any]) -> Assignment:
    """Return the assignment in an environment's info."""
    return tuple(info["bitwidths"].tolist())
