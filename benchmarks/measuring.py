"""What the rows of the speed benchmark have in common."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field

Measure = Callable[[int], Mapping[str, float]]
"""Round number -> what was measured in it, by name."""

NETWORKS = ("lenet", "simplenet", "svhn8")
BATCH = 128


@dataclass(frozen=True)
class Options:
    """What a run measures.

    Attributes:
        rounds: How often every row is measured.
        images: Budget of one retraining; rows that need fewer take fewer.
        networks: Out of `NETWORKS`, for the rows that tell them apart.
        random_data: Random images in place of MNIST and CIFAR-10, to try the program without them.
        notes: What the rows have to say beside their numbers.
    """

    rounds: int = 5
    images: int = 10_000
    networks: tuple[str, ...] = NETWORKS
    random_data: bool = False
    notes: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def child() -> Iterator[Executor]:
    """One process (spawn) that stays, with torch's default number of threads."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def positive(text: str) -> int:
    """Read a number from 1 from the command line."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value
