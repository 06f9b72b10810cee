"""The search of a row, on its table or by retraining, as a user starts it."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reproduce.rows import Row
from releq_env.errors import ReLeQError
from releq_env.workers.waiting import Assignment

SEED = 0
_TIMESTEPS = 6000
_KEPT = ("config.json", "best.json", "assignment.json", "evaluations.csv", "report.md", "report.json")
_PICTURES = ("episodes.png", "probabilities.png", "pareto.png")
_IDS = {"mnist": "ReLeQ-MNIST-v0", "cifar10": "ReLeQ-CIFAR10-v0", "svhn": "ReLeQ-SVHN-v0"}
_OWN = {"street-digits": "benchmarks.reproduce.networks:STREET_DIGITS_TASK"}


class Found(NamedTuple):
    """An assignment that a search has paid for.

    Attributes:
        bitwidths: One a layer.
        relative_accuracy: After short retraining, on validation; as measured, or as `smoothed` expects it.
    """

    bitwidths: Assignment
    relative_accuracy: float


def arguments(row: Row, least: float | None = None) -> list[str]:
    """Return the arguments of the training command, without its folder.

    Args:
        row: What is searched.
        least: `min_relative_accuracy`; `None` is the task's.
    """
    pairs = {} if row.table is not None else {"quantizer": row.quantizer, "bitwidths": json.dumps(row.bitwidths)}
    if row.table is not None:
        where = ["--from-table", row.table]
    elif row.task in _IDS:
        where = ["--env", f"releq_env:{_IDS[row.task]}"]
    else:
        where = ["--env", "releq_env:ReLeQ-v0"]
        pairs["problem"] = _OWN[row.task]
    if least is not None:
        pairs["min_relative_accuracy"] = f"{least:g}"
    options = ["--algo", row.algorithm, *where, "--timesteps", str(_TIMESTEPS), "--budget", str(row.budget)]
    given = [f"{name}={value}" for name, value in pairs.items()]
    return [*options, "--seed", str(SEED), *(["--env-kwargs", *given] if given else [])]


def search(row: Row, folder: Path, least: float | None = None) -> list[Found]:
    """Run a search, or the rest of one; return what it has paid for, in order.

    Args:
        row: What is searched.
        folder: Of the run; what is not part of the result is deleted at the end.
        least: `min_relative_accuracy`; `None` is the task's.

    Raises:
        ReLeQError: If it fails, or was made with another constraint.
    """
    if not (folder / "report.json").exists():
        try:
            _train(arguments(row, least), folder)
        except subprocess.CalledProcessError:
            raise ReLeQError(f"the search of {row.name} has failed (see above); mend it and start again") from None
        _prune(folder)
    if least not in (None, constraint(folder)):
        raise ReLeQError(
            f"{folder} was searched with the constraint {constraint(folder):g}, and {least:g} is wanted; delete it"
        )
    with (folder / "evaluations.csv").open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    return [Found(tuple(map(int, row["bitwidths"].split())), float(row["relative_accuracy"])) for row in rows]


def constraint(folder: Path) -> float:
    """Return the constraint that a search was made with."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return float(config["problem"]["min_relative_accuracy"])


def _train(options: Sequence[str], folder: Path) -> None:
    """Run the training command, or the rest of a run.

    Args:
        options: Of a new run, without its folder.
        folder: Of the run.

    Raises:
        subprocess.CalledProcessError: If it fails; it has said why.
    """
    given = ["--resume", str(folder)] if (folder / "config.json").exists() else [*options, "--log-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "agents.train", *given], check=True)


def _prune(folder: Path) -> None:
    """Delete what is not part of the result: the agent, its settings and the episodes (in the pictures)."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        elif path.name not in (*_KEPT, *_PICTURES):
            path.unlink()
