"""Measure which share of assignments passes which accuracy constraint, before a table is measured.

    python -m benchmarks.tables.constraint --task cifar10 --quantizer lsq

200 random assignments are measured, the first ones of the order in which `benchmarks.tables.build` measures all, and 30
of them with a second retraining seed. A default `min_relative_accuracy` should let 1 to 20 % pass and allow a loss
above the noise of the seeds. Rows are kept one by one in `benchmarks/results/constraint`; whatever ended a run, the
same command goes on. All accuracies are on validation images.
"""

import argparse
import csv
import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks.common import machine
from benchmarks.common.recording import RESULTS, from_zero, positive
from benchmarks.tables.build import held, in_random_order, numbers
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.files import replace_file
from releq_env.problem import Problem
from releq_env.report.markdown import table as markdown
from releq_env.tables.shipped import TABLES
from releq_env.workers.waiting import Assignment

FOLDER = RESULTS / "constraint"
GRID = (0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99, 0.9925, 0.995, 0.997, 0.998, 0.999)
SEEDS = (0, 1)
PASSING = (0.01, 0.20)
"""The share of assignments that should pass."""
_COLUMNS = ("depends", "bitwidths", "seed", "accuracy", "relative_accuracy", "seconds", "processor")
_POINTS = 100.0


class Row(NamedTuple):
    """One measurement; `depends` is a hash of all that its accuracy depends on besides."""

    depends: str
    bitwidths: Assignment
    seed: int
    accuracy: float
    relative_accuracy: float
    seconds: float
    processor: str


class Candidate(NamedTuple):
    """A constraint.

    Attributes:
        least: `min_relative_accuracy`.
        passing: Share of the assignments that keep it with the first seed.
        slack: The accuracy that may be lost, in percentage points.
        noise: Root mean square difference of two seeds, in percentage points; NaN if that is not known.
    """

    least: float
    passing: float
    slack: float
    noise: float

    @property
    def fits(self) -> bool:
        """Whether it could be a default."""
        return PASSING[0] <= self.passing <= PASSING[1] and self.slack > self.noise


class Rows:
    """The rows of one task and quantizer; a line the moment it is measured.

    Args:
        path: Their file.
        depends: Those of another hash are left alone, and not counted. Default: that of the last row.
    """

    def __init__(self, path: Path, depends: str | None = None) -> None:
        self.path = path
        self._content = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        every = [_parsed(line) for line in csv.DictReader(self._content.decode().splitlines())]
        self.depends = depends or (every[-1].depends if every else "")
        self.rows = {(row.bitwidths, row.seed): row for row in every if row.depends == self.depends}

    def append(self, row: Row) -> None:
        """Add a row to memory and to the file."""
        self.rows[row.bitwidths, row.seed] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):  # a kill cut a line
            replace_file(self.path, self._content + b"\n" if self._content else b"")
        new = not self.path.exists() or not self.path.stat().st_size
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(_COLUMNS)
            writer.writerow([row.depends, " ".join(map(str, row.bitwidths)), *row[2:]])
            file.flush()
            os.fsync(file.fileno())

    def candidates(self) -> list[Candidate]:
        """Return what each constraint of the grid comes to."""
        first = {bits: row for (bits, seed), row in self.rows.items() if seed == SEEDS[0]}
        pairs = [(row, self.rows[bits, SEEDS[1]]) for bits, row in first.items() if (bits, SEEDS[1]) in self.rows]
        differences = [a.accuracy - b.accuracy for a, b in pairs]
        noise = _POINTS * float(np.sqrt(np.mean(np.square(differences)))) if pairs else float("nan")
        if not first:
            return []
        relative = np.array([row.relative_accuracy for row in first.values()])
        full = max((row.accuracy / row.relative_accuracy for row in first.values() if row.accuracy), default=1.0)
        return [
            Candidate(least, float((relative >= least).mean()), _POINTS * full * (1.0 - least), noise) for least in GRID
        ]


def measure(problem: Problem, rows: Rows, count: int, again: int) -> None:
    """Measure what is missing.

    Args:
        problem: What is measured.
        rows: Where it is kept.
        count: How many assignments are measured with the first seed.
        again: How many of them with the second, too.
    """
    order = in_random_order(problem, count)
    wanted = {SEEDS[0]: order, SEEDS[1]: order[:again]}
    total = sum(map(len, wanted.values()))
    missing = {seed: [bits for bits in each if (bits, seed) not in rows.rows] for seed, each in wanted.items()}
    bar = tqdm(total=total, initial=total - sum(map(len, missing.values())), unit="assignment", smoothing=0.05)
    processor = machine.processor()
    with bar:
        for seed, assignments in missing.items():
            evaluator = problem.evaluator.reseeded(seed)
            evaluator.listener = _Writing(rows, seed, processor, bar)
            evaluator.evaluate_many(assignments)


class _Writing:
    """Keeps what is measured."""

    def __init__(self, rows: Rows, seed: int, processor: str, bar: Any) -> None:
        self._rows, self._seed, self._processor, self._bar = rows, seed, processor, bar

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        seconds = round(evaluation.seconds, 3)
        known = (evaluation.accuracy, evaluation.relative_accuracy, seconds)
        self._rows.append(Row(self._rows.depends, evaluation.bitwidths, self._seed, *known, self._processor))
        self._bar.update()

    def diverged(self) -> None:
        """Nothing is repeated here."""


def report(folder: Path = FOLDER) -> str:
    """Return the page on all that was measured, a section a file."""
    files = [Rows(path) for path in sorted(folder.glob("*.csv"))]
    parts = [
        "# Which constraint how many assignments pass",
        "Random assignments, accuracy on validation images after short retraining relative to full precision, seed "
        f"{SEEDS[0]}. A default should let {_POINTS * PASSING[0]:.0f} to {_POINTS * PASSING[1]:.0f} % pass, and the "
        "loss that it allows should exceed the noise, the root mean square difference between two retraining seeds. "
        "Made by `python -m benchmarks.tables.constraint`.",
        *(_section(rows) for rows in files),
    ]
    return "\n\n".join(parts) + "\n"


def _section(rows: Rows) -> str:
    count = sum(seed == SEEDS[0] for _, seed in rows.rows)
    pairs = sum(seed == SEEDS[1] for _, seed in rows.rows)
    known = rows.candidates()
    noise = f"{known[0].noise:.2f} points ({pairs} pairs)" if pairs else "not measured yet"
    processors = ", ".join(sorted({row.processor for row in rows.rows.values()}))
    table = markdown(
        ("min_relative_accuracy", "pass", "allowed loss, points", "fits"),
        [
            (f"{each.least:g}", f"{_POINTS * each.passing:.1f} %", f"{each.slack:.2f}", "yes" if each.fits else "")
            for each in known
        ],
        aligned=False,
    )
    fitting = [each for each in known if each.fits]
    said = (
        f"Fits: {', '.join(f'{each.least:g}' for each in fitting)}."
        if fitting
        else "None fits: too many or too few pass, or the allowed loss is within the noise."
    )
    return f"## {rows.path.stem}\n\n{count} assignments, noise {noise}; {processors}.\n\n{table}\n\n{said}"


def depends_of(problem: Problem) -> str:
    """Return a hash of all that accuracies depend on but assignment and seed.

    Raises:
        ReLeQError: If that is not known.
    """
    known = problem.evaluator.fingerprint
    if known is None:
        raise ReLeQError(f"what the accuracies of {problem.name} depend on is not known; give its task a cache_key=")
    depends = {name: value for name, value in known.items() if name != "retrain_seed"}
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:12]


def choices_of(task: str, quantizer: str) -> list[int] | None:
    """Return the bits of the table that is planned for a task and quantizer; `None`: all there are."""
    parser = argparse.ArgumentParser(add_help=False)
    for name, default in (("--task", ""), ("--quantizer", "lsq"), ("--bits", "")):
        parser.add_argument(name, default=default)
    for made_with in TABLES.values():
        planned, _ = parser.parse_known_args(shlex.split(made_with))
        if (planned.task, planned.quantizer) == (task, quantizer):
            return numbers(planned.bits)
    return None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.constraint", description=main.__doc__)
    parser.add_argument("--task", required=True, help="a task's name")
    parser.add_argument("--quantizer", default="lsq", help="(default: %(default)s)")
    parser.add_argument("--bits", type=numbers, help="e.g. 1-8 (default: those of the planned table)")
    parser.add_argument("--assignments", type=positive, default=200, help="(default: %(default)s)")
    parser.add_argument("--again", type=from_zero, default=30, help="with a second seed (default: %(default)s)")
    parser.add_argument("--retrain-images", type=int, help="budget of a retraining (default: the task's)")
    parser.add_argument("--data-root", help="folder of the data (default: RELEQ_DATA)")
    parser.add_argument("--cache", default="auto", help="file of evaluations (default: as of the environments)")
    parser.add_argument("--workers", type=int, help="how many processes (default: one a core)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder (default: benchmarks/results/constraint)")
    args = parser.parse_args(argv)
    path = args.out / f"{args.task}-{args.quantizer}.csv"
    with ends_in_one_line("stopped; the same command goes on"):
        bits = args.bits or choices_of(args.task, args.quantizer)
        of_task = ("quantizer", "retrain_images", "data_root", "cache", "workers")
        problem = Problem.from_task(args.task, bitwidths=bits, **{name: getattr(args, name) for name in of_task})
        with held(path):
            try:
                measure(problem, Rows(path, depends_of(problem)), args.assignments, args.again)
            finally:
                problem.evaluator.close()
                if path.exists():
                    replace_file(args.out / "report.md", report(args.out))
    print(_section(Rows(path)))


def _parsed(line: dict[str, str]) -> Row:
    accuracy, relative, seconds = (float(line[name]) for name in ("accuracy", "relative_accuracy", "seconds"))
    bitwidths = tuple(map(int, line["bitwidths"].split()))
    return Row(line["depends"], bitwidths, int(line["seed"]), accuracy, relative, seconds, line["processor"])


if __name__ == "__main__":
    main()
