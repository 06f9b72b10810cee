"""What choosing measures: losses after final retraining, on validation, never on test; and how it is written down."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from benchmarks.reproduce.networks import TASKS, choosing_task
from benchmarks.reproduce.rows import Row
from benchmarks.reproduce.searching import Found
from benchmarks.reproduce.walking import ALLOWED, MOST, SCREENED, Step
from releq_env.files import replace_file
from releq_env.finalizing import estimate, finalize
from releq_env.finalizing.result import FinalResult
from releq_env.quantization import QUANTIZERS, quantizable_layers
from releq_env.retraining.final import FINAL_VERSION
from releq_env.tasks.final import FinalRecipe
from releq_env.tasks.pretrained import SHIPPED
from releq_env.workers.waiting import Assignment

SEEDS = (100, 101)
"""Of the retrainings that choose; final figures have others."""
MORE_SEEDS = (102, 103)
"""Of those that are as close as `CLOSE` to the allowed loss: the mean of two seeds is off by 0.1 points."""
CLOSE = 0.1
"""In percentage points."""
_COLUMNS = ("bitwidths", "recipe", "epochs", "seeds", "seed", "validation_accuracy", "control_accuracy", "loss")
"""`seeds` are those over which the control of a row was chosen; rows without are against one control for all."""
_POINTS = 100.0


class Validated:
    """Losses after final retraining on validation, kept as rows of a file.

    Args:
        row: Whose they are.
        recipe: Of the retraining.
        path: The file.
        work: Folder of networks and checkpoints, which can be made again; rows of a network and quantizer share them.
    """

    def __init__(self, row: Row, recipe: FinalRecipe, path: Path, work: Path) -> None:
        self._row, self._recipe, self._path, self._work = row, recipe, path, work
        self._digest = digest(recipe, row.quantizer)

    def loss(self, bitwidths: Assignment, seeds: tuple[int, ...] = SEEDS) -> float:
        """Return the mean over seeds, against a control chosen over the same ones; measured now if it is not known."""
        if not self.rows(bitwidths, seeds):
            self._measure(bitwidths, seeds)
        return float(np.mean([float(row["loss"]) for row in self.rows(bitwidths, seeds)]))

    def decisive(self, bitwidths: Assignment) -> float:
        """Return the mean over `SEEDS`, or over `MORE_SEEDS`, too, where that is close to the allowed loss."""
        loss = self.loss(bitwidths)
        return loss if abs(loss - ALLOWED) > CLOSE else self.loss(bitwidths, SEEDS + MORE_SEEDS)

    def best(self, found: list[Found]) -> Found:
        """Return what loses least with one seed; a single one is not measured for that."""
        return found[0] if len(found) == 1 else min(found, key=lambda each: self.loss(each.bitwidths, SEEDS[:1]))

    def rows(self, bitwidths: Assignment, seeds: tuple[int, ...] = SEEDS) -> list[Mapping[str, str]]:
        """Return what was measured of an assignment with these seeds, a row each; nothing if that is not known."""
        wanted = (_joined(bitwidths), self._digest, _joined(seeds))
        return [row for row in self._rows() if (row["bitwidths"], row["recipe"], row.get("seeds")) == wanted]

    def _measure(self, bitwidths: Assignment, seeds: tuple[int, ...]) -> None:
        row, name = self._row, "-".join(map(str, bitwidths))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        result = finalize(
            choosing_task(row.task), bitwidths, quantizer=row.quantizer, seeds=seeds, recipe=self._recipe, test=False,
            folder=self._work / f"{row.task}-{row.quantizer}-{self._digest}" / name, controls=self._work / "controls",
        )  # fmt: skip
        with FileLock(self._path.with_name(f".{self._path.name}.lock")):  # of two commands neither loses a row
            self._write([*self._rows(), *self._of(result)])

    def _of(self, result: FinalResult) -> list[dict[str, Any]]:
        pairs = zip(result.validation_accuracies, result.control_validation_accuracies, strict=True)
        return [
            {
                "bitwidths": _joined(result.bitwidths),
                "recipe": self._digest,
                "epochs": self._recipe.epochs,
                "seeds": _joined(result.seeds),
                "seed": seed,
                "validation_accuracy": accuracy,
                "control_accuracy": control,
                "loss": _POINTS * (control - accuracy),
            }
            for seed, (accuracy, control) in zip(result.seeds, pairs, strict=True)
        ]

    def _rows(self) -> list[dict[str, Any]]:
        return read_rows(self._path)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        names = ("bitwidths", "recipe", "seeds", "seed")
        distinct = {tuple(str(row.get(name) or "") for name in names): row for row in rows}
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(distinct.values())
        replace_file(self._path, text.getvalue())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file, none where there is no file."""
    return list(csv.DictReader(io.StringIO(path.read_text()))) if path.exists() else []


def measured(path: Path, of_recipe: str) -> list[Assignment]:
    """Return the assignments that a file of `Validated` has against controls of their own seeds.

    Args:
        path: The file.
        of_recipe: Digest of the retraining.
    """
    found = [row["bitwidths"] for row in read_rows(path) if row["recipe"] == of_recipe and row.get("seeds")]
    return [tuple(map(int, bitwidths.split())) for bitwidths in dict.fromkeys(found)]


def screening(recipe: FinalRecipe) -> FinalRecipe:
    """Return a third of a recipe, by which assignments of as many bits are compared with each other."""
    return replace(recipe, epochs=max(1, recipe.epochs // 3), warm_start=0, control_rates=recipe.control_rates[:1])


def expected(row: Row, recipe: FinalRecipe, work: Path) -> str:
    """Return in words how long an assignment of a walk takes.

    Of the standard split, whose network comes with the package: nothing is pre-trained for an estimate.
    """
    task = TASKS[row.task]
    if not (SHIPPED / f"{task.name}.json").exists():
        return "its network is pre-trained first; how long the rest takes is known after that"
    layers = quantizable_layers(task.untrained(), task.dataset.input_shape)
    middle = (row.bitwidths[len(row.bitwidths) // 2],) * len(layers)
    each = estimate(task, middle, quantizer=row.quantizer, seeds=SEEDS, recipe=recipe, controls=work / "controls")
    return (
        f"up to {2 * MOST} assignments are retrained until one is chosen, and up to {SCREENED} of as many bits for a "
        f"third of the epochs before each"
        + (f", {row.refining_budget} more for a third with both seeds" if row.refining_budget else "")
        + f"; of each, and as much again at the border: {each}"
    )


def digest(recipe: FinalRecipe, quantizer: str) -> str:
    """Return a short name of a recipe, and of what it is carried out by and with."""
    asked = {"version": FINAL_VERSION, **asdict(recipe)}
    if (version := QUANTIZERS[quantizer].version) > 1:
        asked["quantizer_version"] = version
    if recipe.warm_start:  # rows of before it counted for the control, too, are of something else
        asked["control_epochs"] = recipe.epochs + recipe.warm_start
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]


def described(row: Row, step: Step, recipe: FinalRecipe, least: Mapping[str, float]) -> dict[str, Any]:
    """Return what `chosen.json` says, JSON-able.

    Args:
        row: Whose it is.
        step: What was chosen.
        recipe: Of the final retraining.
        least: The constraints of the searches, by name.
    """
    return {
        "row": row.name,
        "bitwidths": list(step.found.bitwidths),
        "relative_accuracy_expected": step.found.relative_accuracy,
        "validation_loss": step.loss,
        "keeps": step.keeps,
        "allowed": ALLOWED,
        "seeds": list(SEEDS),
        "more_seeds": list(MORE_SEEDS),
        "controls": "one a seed",
        "constraints": dict(least),
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "validated": digest(recipe, row.quantizer),
        "screened": digest(screening(recipe), row.quantizer),
    }


def _joined(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))
