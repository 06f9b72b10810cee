"""The files: those of a comparison, with what the best is after 5, 10 and 20 evaluations."""

from typing import Any

from benchmarks.compare import curves
from benchmarks.compare.results import COLUMNS, Results
from benchmarks.compare.run import Row

AT = (5, 10, 20)


class TransferResults(Results):
    """The files of the transfer; see `Results`.

    `at_5`, `at_10` and `at_20` stand behind the columns of every comparison. A run ends at 20: its last best counts as
    `at_50`, `at_100` and `at_300`, as in every comparison whose runs end earlier.
    """

    columns = (*COLUMNS, *(f"at_{number}" for number in AT))

    def derived(self, row: Row) -> dict[str, Any]:
        """Return a row of the CSV file."""
        facts = self.of(row)
        best = curves.at(curves.unpack(row.curve), AT)
        scaled = ((best - facts.random_reward) / facts.scale).tolist()
        return super().derived(row) | {f"at_{number}": f"{at:.6f}" for number, at in zip(AT, scaled, strict=True)}
