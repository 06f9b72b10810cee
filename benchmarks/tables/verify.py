"""Measure random entries of accuracy tables again.

    python -m benchmarks.tables.verify [NAME_OR_PATH ...]

On the kind of machine that a table was measured on, with the same versions, every accuracy has to be the same.
Elsewhere rounding differs, and because retraining is chaotic that acts like another retraining seed: differences may
be no larger than between two seeds, and have no direction.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from benchmarks.common.recording import from_zero, positive
from benchmarks.tables.build import difference
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError
from releq_env.problem import Problem
from releq_env.report.markdown import table as markdown
from releq_env.tables import AccuracyTable
from releq_env.tables.shipped import DATA, TABLES

_LARGEST_SPREAD = 1.3  # of the seeds' own
_LARGEST_MEAN = 3.0  # standard errors
_POINTS = 100.0
_OF_THE_MACHINE = ("device", "instructions", "parallel", "precision", "torch")
"""What an accuracy depends on that may differ elsewhere."""


class Verdict(NamedTuple):
    """Measured again less the table, differences in percentage points.

    Attributes:
        entries: How many were compared.
        same_machine: Whether the same accuracies are to be expected, to the last bit.
        equal: How many are the same.
        spread: Root mean square of the differences.
        seed_spread: Likewise of two retraining seeds; `None` where it is not needed.
        mean: Of the differences.
        standard_error: Of that mean.
        rank: Spearman's correlation of the accuracies, NaN where it has none.
    """

    entries: int
    same_machine: bool
    equal: int
    spread: float
    seed_spread: float | None
    mean: float
    standard_error: float
    rank: float

    @property
    def passed(self) -> bool:
        """Whether the table is right."""
        if self.equal == self.entries:
            return True
        if self.same_machine or self.seed_spread is None:
            return False
        within = self.spread <= _LARGEST_SPREAD * self.seed_spread
        return within and abs(self.mean) <= _LARGEST_MEAN * self.standard_error


def compare(
    known: NDArray[np.float64], again: NDArray[np.float64], same_machine: bool, seed_spread: float | None
) -> Verdict:
    """Compare accuracies of a table with those measured again.

    Args:
        known: In [0, 1], shape `(entries,)`.
        again: Likewise.
        same_machine: Whether they have to be equal.
        seed_spread: Root mean square difference of two seeds, in [0, 1], or `None`.
    """
    differences = _POINTS * (again - known)
    varied = len(np.unique(known)) > 1 and len(np.unique(again)) > 1
    return Verdict(
        entries=len(known),
        same_machine=same_machine,
        equal=int((again == known).sum()),
        spread=float(np.sqrt(np.mean(differences**2))),
        seed_spread=None if seed_spread is None else _POINTS * seed_spread,
        mean=float(differences.mean()),
        standard_error=float(stats.sem(differences)) if len(differences) > 1 else 0.0,
        rank=float(stats.spearmanr(known, again).statistic) if varied else float("nan"),
    )


def verify(table: AccuracyTable, problem: Problem, entries: int, seed: int) -> Verdict:
    """Measure random entries of a table again.

    Args:
        table: The table.
        problem: What measures the same here.
        entries: How many.
        seed: Draws them.

    Raises:
        ReLeQError: If the problem is another one than the table's.
    """
    same = check_same(table.about["accuracy_depends_on"], _depends(problem))
    bitwidths, seeds, accuracy = table.records()
    drawn = np.sort(np.random.default_rng(seed).permutation(len(accuracy))[:entries])
    records = [(tuple(bitwidths[row].tolist()), int(seeds[row])) for row in drawn]
    again = _measured(problem, records)
    noise = None
    if not (same or (again == accuracy[drawn]).all()):
        noise = table.seed_noise()
        if noise is None:  # one seed: the noise of these entries, with another seed
            other = max(table.seeds) + 1
            differences = _measured(problem, [(bits, other) for bits, _ in records]) - again
            noise = float(np.sqrt(np.mean(differences**2)))
    return compare(accuracy[drawn], again, same, noise)


def check_same(before: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Return whether a problem measures the same as a table to the last bit, not only up to the machine.

    Raises:
        ReLeQError: If more differs than the machine.
    """
    lasting, lasting_here = (
        {name: value for name, value in each.items() if name not in _OF_THE_MACHINE} for each in (before, here)
    )
    for each in (lasting, lasting_here):  # what a network computes is hashed to the last bit
        if isinstance(each.get("network"), Mapping):
            each["network"] = {name: value for name, value in each["network"].items() if name != "computes"}
    if lasting != lasting_here:
        raise ReLeQError(f"the table was measured otherwise: {difference(lasting, lasting_here)}; build it again")
    return dict(before) == dict(here)


def problem_of(table: AccuracyTable, **arguments: Any) -> Problem:
    """Return what measures the accuracies of a table here, as far as this machine can.

    Raises:
        ReLeQError: If the table does not say of what it is, or that is not to be had here.
    """
    try:
        depends, task = table.about["accuracy_depends_on"], table.about["task"]
        device = "cuda" if depends["device"] == "cuda" and torch.cuda.is_available() else "cpu"
        precision = {"torch.bfloat16": "bf16", "torch.float32": "fp32"}[depends["precision"]]
        parallel = "stacked" if depends["parallel"] == "stacked" else "processes"
        images = depends["retrain_images"]
    except (KeyError, TypeError) as error:
        raise ReLeQError(f"the table {table.name!r} does not say how it was measured ({error} is missing)") from error
    made = {"retrain_images": images, "device": device, "precision": precision, "parallel": parallel, "cache": None}
    return Problem.from_task(task, bitwidths=table.choices, quantizer=table.quantizer or "lsq", **made, **arguments)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line a table; the exit status says whether all are right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.verify", description=main.__doc__)
    parser.add_argument("tables", nargs="*", help="names or paths (default: all that come with the package)")
    parser.add_argument("--entries", type=positive, default=30, help="of each table (default: %(default)s)")
    parser.add_argument("--seed", type=from_zero, default=0, help="draws them (default: %(default)s)")
    parser.add_argument("--data-root", help="folder of the data (default: RELEQ_DATA)")
    args = parser.parse_args(argv)
    names = args.tables or [name for name in TABLES if (DATA / f"{name}.npz").exists()]
    if not names:
        raise SystemExit("error: no table comes with this version of releq_env; give the path of one")
    with ends_in_one_line():
        verdicts = {name: _verified(name, args) for name in names}
    print(_lines(verdicts))
    sys.exit(not all(verdict.passed for verdict in verdicts.values()))


def _verified(name: str, args: argparse.Namespace) -> Verdict:
    table = AccuracyTable.load(name)
    problem = problem_of(table, data_root=args.data_root)
    try:
        return verify(table, problem, args.entries, args.seed)
    finally:
        problem.evaluator.close()


def _depends(problem: Problem) -> dict[str, Any]:
    fingerprint = {
        name: value for name, value in (problem.evaluator.fingerprint or {}).items() if name != "retrain_seed"
    }
    known: dict[str, Any] = json.loads(json.dumps(fingerprint))
    return known


def _measured(problem: Problem, records: Sequence[tuple[tuple[int, ...], int]]) -> NDArray[np.float64]:
    found = {}
    for seed in {seed for _, seed in records}:
        evaluations = problem.evaluator.reseeded(seed).evaluate_many([bits for bits, its in records if its == seed])
        found.update({(each.bitwidths, seed): each.accuracy for each in evaluations})
    return np.array([found[record] for record in records])


def _lines(verdicts: Mapping[str, Verdict]) -> str:
    header = ("table", "entries", "machine", "equal", "spread, points", "of seeds", "mean", "Spearman", "passed")
    rows = [
        (
            name,
            each.entries,
            "same" if each.same_machine else "other",
            each.equal,
            f"{each.spread:.3f}",
            "" if each.seed_spread is None else f"{each.seed_spread:.3f}",
            f"{each.mean:+.3f} +- {each.standard_error:.3f}",
            f"{each.rank:.3f}",
            "yes" if each.passed else "no",
        )
        for name, each in verdicts.items()
    ]
    return markdown(header, rows)


if __name__ == "__main__":
    main()
