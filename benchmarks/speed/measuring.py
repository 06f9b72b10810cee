"""What the rows of the speed benchmark have in common."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from benchmarks.common.stand_ins import NETWORKS
from benchmarks.speed.table import Line


class Reading(NamedTuple):
    """A number that was measured in a round.

    Attributes:
        row: The row's letter.
        side: Which of the things that the row compares.
        unit: `"s"`, `"GFLOP/s"`, `"steps/s"`, `"GB"`, or `"accuracy"`, in [0, 1].
        value: In that unit.
        network: Of which network, where the row tells them apart.
        setting: In which arithmetic, where the row tells them apart.
    """

    row: str
    side: str
    unit: str
    value: float
    network: str = ""
    setting: str = ""


class Note(NamedTuple):
    """What a row has to say beside its numbers."""

    row: str
    about: str
    text: str


@dataclass(frozen=True)
class Options:
    """What a run measures.

    Attributes:
        rounds: How often every row is measured.
        images: Budget of one retraining; rows that need fewer take fewer.
        networks: Out of `NETWORKS`, for the rows that tell them apart.
        random_data: Random images in place of MNIST and CIFAR-10, to try the program without them.
        notes: The rows' notes.
    """

    rounds: int = 5
    images: int = 10_000
    networks: tuple[str, ...] = NETWORKS
    random_data: bool = False
    notes: list[Note] = field(default_factory=list)


Measure = Callable[[int], list[Reading]]
"""Round number -> what was measured in it."""


class Row(Protocol):
    """A row of the benchmark: a module.

    Attributes:
        LETTER: Its name.
    """

    LETTER: str

    def measuring(self, options: Options) -> contextlib.AbstractContextManager[Measure]:
        """Make everything ready, so that only what is compared is measured."""
        ...

    def lines(self, readings: Sequence[Reading]) -> list[Line]:
        """Return the row's lines of the table, from the readings of all rows and rounds."""
        ...


def values(
    readings: Iterable[Reading], row: str, side: str, network: str = "", setting: str = "", unit: str = "s"
) -> list[float]:
    """Return what was measured of one thing, one value a round."""
    wanted = row, side, unit, network, setting
    return [each.value for each in readings if (each.row, each.side, each.unit, each.network, each.setting) == wanted]


def networks(readings: Iterable[Reading], row: str) -> list[str]:
    """Return the networks that a row was measured with."""
    return list(dict.fromkeys(each.network for each in readings if each.row == row and each.network))


@contextlib.contextmanager
def child() -> Iterator[Executor]:
    """One process (spawn) that stays, with torch's default number of threads."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor
