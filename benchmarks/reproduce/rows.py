"""What is remade: one row a network and quantizer."""

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.reproduce.networks import TASKS
from releq_env.errors import ReLeQError, check_choice
from releq_env.tables.shipped import table_path

FEW = (2, 3, 4, 5, 8)
"""The bitwidths of the paper's own enumerations."""
REMADE_BY = "ppo"
"""The paper's algorithm."""


@dataclass(frozen=True)
class Row:
    """A network, a quantizer, and what searches.

    Attributes:
        name: `TASK-QUANTIZER`, or `TASK-QUANTIZER-ALGORITHM` where it is not the paper's; of the folder of its results.
        task: A name in `benchmarks.reproduce.networks.TASKS`.
        quantizer: The quantizer.
        bitwidths: The choices of every layer in the search.
        paper_bits: Average bits that the paper states for the network, at a loss below 0.3 points.
        paper_quantizer: Whether it is the paper's quantizer for the network.
        algorithm: What searches: `ppo` is the paper's, another may beat it.
        table: The shipped table that is searched; `None`: the search retrains.
        budget: Distinct evaluations of a search.
        refining_budget: Assignments that a second search measures, by the loss after a third of the final retraining;
            0: the second search is like the first, with another constraint.
        seeds: Of the final retrainings whose test accuracy is read; they choose nothing.
    """

    task: str
    quantizer: str
    bitwidths: tuple[int, ...]
    paper_bits: float
    paper_quantizer: bool = False
    algorithm: str = REMADE_BY
    table: str | None = None
    budget: int = 300
    refining_budget: int = 0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    @property
    def name(self) -> str:
        """What it is called."""
        name = f"{self.task}-{self.quantizer}"
        return name if self.algorithm == REMADE_BY else f"{name}-{self.algorithm}"


ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row("mnist", "lsq", tuple(range(1, 9)), 2.25),
        Row("mnist", "dorefa", FEW, 2.25, paper_quantizer=True),
        Row("mnist", "wrpn", FEW, 2.25, table="mnist-wrpn"),
        Row("cifar10", "lsq", tuple(range(1, 9)), 5.0),
        Row("cifar10", "lsq", tuple(range(1, 9)), 5.0, algorithm="gp", budget=150, refining_budget=45),
        Row("cifar10", "wrpn", FEW, 5.0, paper_quantizer=True, table="cifar10-wrpn"),
        Row("cifar10", "dorefa", FEW, 5.0),
        Row("street-digits", "lsq", tuple(range(1, 9)), 4.0, budget=150, seeds=(0, 1, 2)),
        Row("street-digits", "lsq", tuple(range(1, 9)), 4.0, algorithm="gp", budget=150, seeds=(0, 1, 2)),
        Row("street-digits", "wrpn", FEW, 4.0, paper_quantizer=True, budget=150, seeds=(0, 1, 2)),
        Row("svhn", "lsq", tuple(range(1, 9)), 4.0, budget=150, seeds=(0, 1, 2)),
        Row("svhn", "wrpn", FEW, 4.0, paper_quantizer=True, budget=150, seeds=(0, 1, 2)),
    )
}
"""By name, in the order in which they are made: what costs least first, what may lack its data last."""


def find(names: Iterable[str]) -> list[Row]:
    """Return the rows of that name, or of a task of that name; all for none.

    Raises:
        ReLeQError: If there is none.
    """
    found: dict[str, Row] = {}
    for name in names:
        of_task = {row.name: row for row in ROWS.values() if row.task == name}
        if not of_task:
            check_choice("--only", name, [*ROWS, *TASKS])
        found |= of_task or {name: ROWS[name]}
    return list((found or ROWS).values())


def missing_data(row: Row) -> str | None:
    """Return what to say if a row's data, or the table it searches, are not to be had; else `None`."""
    try:
        TASKS[row.task].dataset.load()
        if row.table is not None:
            table_path(row.table)
    except ReLeQError as error:
        return str(error)
    return None
