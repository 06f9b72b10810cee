"""Accuracies from a table."""

import math
import operator
from collections.abc import Generator, Mapping
from functools import cached_property

import numpy as np

from releq_env.errors import ReLeQError, check_choice
from releq_env.seeds import Seed
from releq_env.tables.table import AccuracyTable
from releq_env.workers.waiting import Assignment, Measured, Waiting

FILLS = ("nearest",)


class TableSource:
    """A `Source` that looks accuracies up.

    Args:
        table: The table.
        seed: The retraining seed whose accuracies are given; `None` is the mean, see `AccuracyTable.query`.
        fill: What is given for an assignment of the choices that the table lacks. `None`: nothing, it is an error.
            `"nearest"`: the mean of those measured ones that the fewest bits have to be added to or taken from.

    Attributes:
        table: As given.
        seed: As given, Python's own integer.
        fill: As given.

    Raises:
        ReLeQError: If the table has no such seed, or no mean over them, or the fill is unknown.
    """

    def __init__(self, table: AccuracyTable, seed: int | None = 0, fill: str | None = None) -> None:
        if fill is not None:
            check_choice("fill", fill, FILLS)
        self._values = table.values(seed)
        if np.isnan(self._values).all():
            raise ReLeQError(
                f"no assignment of {table.name!r} was measured with all its seeds; give seed=, one of them"
            )
        self.table, self.seed, self.fill = table, None if seed is None else operator.index(seed), fill

    @property
    def full_precision_accuracy(self) -> float:
        """That of the table, in (0, 1]."""
        return self.table.full_precision_accuracy

    @cached_property
    def fingerprint(self) -> Mapping[str, object]:
        """Content of the table, seed and fill."""
        return {"table": self.table.digest, "retrain_seed": self.seed, "fill": self.fill}

    @property
    def retrain_seed(self) -> int:
        """The seed; 0 for the mean."""
        return self.seed or 0

    def check(self, assignment: Assignment) -> None:
        """Raise `ReLeQError` if the assignment does not fit, or is lacking and not filled in."""
        if self.fill is None or not self.table.fits(assignment):
            self.table.query(assignment, self.seed)

    def filled(self, assignment: Assignment) -> bool:
        """Return whether the accuracy of an assignment is filled in, not measured."""
        return self.table.get(assignment, self.seed) is None

    def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
        """Look up one assignment after the other.

        Raises:
            ReLeQError: If one is lacking and not filled in.
        """
        while (assignment := waiting.take()) is not None:
            found = self.table.get(assignment, self.seed)
            if found is None:
                self.check(assignment)
                found = self._nearest(assignment)
            yield assignment, Measured(found, 0.0)

    def reseeded(self, retrain_seed: Seed) -> "TableSource":
        """Return the same with another seed; itself if the table does not have it for all its assignments."""
        if self.seed is None or retrain_seed not in self.table.whole_seeds:
            return self
        return TableSource(self.table, retrain_seed, self.fill)

    def close(self) -> None:
        """Nothing is held."""

    def _nearest(self, assignment: Assignment) -> float:
        bitwidths = self.table.bitwidths.astype(np.int64)
        distances = np.abs(bitwidths - assignment).sum(axis=1).astype(np.float64)
        distances[np.isnan(self._values)] = math.inf
        return float(self._values[distances == distances.min()].mean())
