"""The raw rows: one CSV file a part, a line the moment it is measured."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.common.recording import RESULTS
from benchmarks.tables.study.training import Measured

FOLDER = RESULTS / "study"


class Job(NamedTuple):
    """Everything that defines a row, besides the place where it is measured.

    Attributes:
        part: Which file it goes to: `screen`, `pool`, `long` or `short`.
        task: Name of the task.
        quantizer: Name of the quantizer, or `none`.
        bitwidths: Joined by blanks; empty for the full-precision network.
        recipe: Name of the recipe.
        images: Budget; for a long retraining, its epochs.
        seed: Retraining seed.
    """

    part: str
    task: str
    quantizer: str
    bitwidths: str
    recipe: str
    images: int
    seed: int

    @property
    def assignment(self) -> tuple[int, ...] | None:
        """The bitwidths as numbers."""
        return tuple(map(int, self.bitwidths.split())) or None


class Row(NamedTuple):
    """A job, what was measured, and where."""

    job: Job
    measured: Measured
    place: str


def joined(bitwidths: Sequence[int] | None) -> str:
    """Return bitwidths as `Job` has them."""
    return " ".join(map(str, bitwidths or ()))


_COLUMNS = (*Job._fields[1:], *Measured._fields, "place")


class Rows:
    """All rows there are, of every place; appending writes at once.

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.rows: dict[tuple[Job, str], Row] = {}
        self._long: dict[Job, Row] = {}
        for path in sorted(folder.glob("*.csv")):
            # A run that was killed may leave half a line: it is measured again.
            whole = path.read_text().rpartition("\n")[0]
            for line in csv.DictReader(whole.splitlines()):
                self._keep(_parsed(path.stem, line))

    def _keep(self, row: Row) -> None:
        self.rows[row.job, row.place] = row
        if row.job.part == "long":
            self._long.setdefault(row.job, row)

    def get(self, job: Job, place: str) -> Row | None:
        """Return the row of a job that was measured in that place, if there is one.

        A long retraining counts wherever it was measured: it is a reference for all recipes alike.
        """
        row = self.rows.get((job, place))
        return self._long.get(job) if row is None and job.part == "long" else row

    def append(self, row: Row) -> None:
        """Add a row to memory and to its file."""
        self._keep(row)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{row.job.part}.csv"
        _mend(path)
        new = not path.exists() or not path.stat().st_size
        measured = row.measured
        numbers = (
            f"{measured.accuracy:.6g}",
            f"{measured.validation_loss:.5g}",
            f"{measured.training_loss:.5g}",
            measured.killed,
            f"{measured.seconds:.3g}",
        )
        with path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(_COLUMNS)
            writer.writerow([*row.job[1:], *numbers, row.place])
            file.flush()
            os.fsync(file.fileno())


def _mend(path: Path) -> None:
    """Cut off half a line at a file's end."""
    if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, len(content.rpartition(b"\n")[0]) + 1 if b"\n" in content else 0)


def _parsed(part: str, line: dict[str, str]) -> Row:
    job = Job(
        part,
        line["task"],
        line["quantizer"],
        line["bitwidths"],
        line["recipe"],
        int(line["images"]),
        int(line["seed"]),
    )
    accuracy, validation_loss, training_loss = (
        float(line[name]) for name in ("accuracy", "validation_loss", "training_loss")
    )
    measured = Measured(accuracy, validation_loss, training_loss, int(line["killed"]), float(line["seconds"]))
    return Row(job, measured, line["place"])
