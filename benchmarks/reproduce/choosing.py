"""Which assignment of a row gets the test: the fewest bits that keep the accuracy after final retraining.

Validation decides, never test. The short retraining of a search is not the final one, so that a search's own
constraint is only where to begin: from there the walk goes to fewer bits as long as the final accuracy holds, or to
more until it does, one assignment a total of bits, the most accurate that the search has found. What was walked over
calibrates the constraint: a second search with it looks again where the answer lies.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.reproduce.networks import TASKS, choosing_task
from benchmarks.reproduce.rows import Row
from benchmarks.reproduce.searching import Found, levels
from releq_env.errors import ReLeQError
from releq_env.files import replace_file
from releq_env.finalizing import estimate, finalize
from releq_env.finalizing.result import FinalResult
from releq_env.quantization import quantizable_layers
from releq_env.retraining.final import FINAL_VERSION
from releq_env.tasks.final import FinalRecipe
from releq_env.tasks.pretrained import SHIPPED
from releq_env.workers.waiting import Assignment

LIMIT = 0.3
"""What the paper allows to be lost, in percentage points."""
MARGIN = 0.1
"""What is kept free of it on validation, where the best of several is taken, in percentage points."""
SEEDS = (100, 101)
"""Of the retrainings that choose; final figures have others."""
MOST = 5
"""How many assignments a walk may retrain."""
_COLUMNS = ("bitwidths", "recipe", "epochs", "seed", "validation_accuracy", "control_accuracy", "loss")
_POINTS = 100.0


class Step(NamedTuple):
    """An assignment on the walk.

    Attributes:
        found: With its accuracy after short retraining.
        loss: After final retraining, mean over `SEEDS`, on validation, in percentage points.
    """

    found: Found
    loss: float

    @property
    def keeps(self) -> bool:
        """Whether it loses little enough."""
        return self.loss <= LIMIT - MARGIN


def walk(found: Iterable[Found], least: float, loss: Callable[[Assignment], float], most: int = MOST) -> list[Step]:
    """Return the steps from where a constraint points to the fewest bits that keep the final accuracy.

    Args:
        found: What a search has paid for.
        least: The constraint: relative accuracy after short retraining.
        loss: Measures an assignment's loss after final retraining, in percentage points.
        most: How many it may measure.

    Raises:
        ReLeQError: If nothing was found.
    """
    best = list(levels(found).values())
    if not best:
        raise ReLeQError("a search has found no assignment to choose from; give it more to spend")
    keeping = [index for index, each in enumerate(best) if each.relative_accuracy >= least]
    start = keeping[0] if keeping else int(np.argmax([each.relative_accuracy for each in best]))
    steps = [Step(best[start], loss(best[start].bitwidths))]
    way = -1 if steps[0].keeps else 1
    index = start + way
    while 0 <= index < len(best) and len(steps) < most:
        steps.append(Step(best[index], loss(best[index].bitwidths)))
        if steps[-1].keeps != (way < 0):  # the border lies between the last two
            break
        index += way
    return steps


def chosen(steps: Iterable[Step]) -> Step:
    """Return the fewest bits that keep the accuracy, else what loses least."""
    steps = list(steps)
    keeping = [step for step in steps if step.keeps]
    if keeping:
        return min(keeping, key=lambda step: (sum(step.found.bitwidths), step.loss))
    return min(steps, key=lambda step: step.loss)


def calibrated(steps: Iterable[Step], least: float) -> float:
    """Return the constraint after short retraining that stands for the loss allowed after final retraining.

    A straight line through the steps, read at the allowed loss, within the accuracies that were seen.

    Args:
        steps: What was measured both ways.
        least: The constraint so far, which stays where there is no such line.
    """
    seen = list({step.found.bitwidths: step for step in steps}.values())
    accuracy = np.array([step.found.relative_accuracy for step in seen])
    losses = np.array([step.loss for step in seen])
    if len(seen) < 2 or np.ptp(losses) == 0.0:
        return least
    slope, offset = np.polyfit(losses, accuracy, 1)
    if slope >= 0.0:  # noise: less accurate after short retraining, and better at last
        return least
    most = min(accuracy.max(), 1.0)  # what no constraint exceeds
    return round(float(np.clip(slope * (LIMIT - MARGIN) + offset, min(accuracy.min(), most), most)), 4)


class Validated:
    """Losses after final retraining on validation, kept as rows of a file.

    Args:
        row: Whose they are.
        recipe: Of the retraining.
        path: The file.
        work: Folder of networks and checkpoints, which can be made again.
    """

    def __init__(self, row: Row, recipe: FinalRecipe, path: Path, work: Path) -> None:
        self._row, self._recipe, self._path, self._work = row, recipe, path, work
        self._digest = digest(recipe)

    def loss(self, bitwidths: Assignment) -> float:
        """Return the mean over `SEEDS`, measured now if it is not known."""
        if len(self.rows(bitwidths)) < len(SEEDS):
            self._measure(bitwidths)
        return float(np.mean([float(row["loss"]) for row in self.rows(bitwidths)]))

    def rows(self, bitwidths: Assignment) -> list[Mapping[str, str]]:
        """Return what is known of an assignment, a row a seed."""
        wanted = (" ".join(map(str, bitwidths)), self._digest)
        found = [row for row in self._rows() if (row["bitwidths"], row["recipe"]) == wanted]
        return [row for row in found if int(row["seed"]) in SEEDS]

    def _measure(self, bitwidths: Assignment) -> None:
        name = "-".join(map(str, bitwidths))
        result = finalize(
            choosing_task(self._row.task), bitwidths, quantizer=self._row.quantizer, seeds=SEEDS, recipe=self._recipe,
            test=False, folder=self._work / f"{self._row.name}-{self._digest}" / name, controls=self._work / "controls",
        )  # fmt: skip
        self._write([*self._rows(), *self._of(result)])

    def _of(self, result: FinalResult) -> list[dict[str, Any]]:
        control = result.control_validation_accuracy
        return [
            {
                "bitwidths": " ".join(map(str, result.bitwidths)),
                "recipe": self._digest,
                "epochs": self._recipe.epochs,
                "seed": seed,
                "validation_accuracy": accuracy,
                "control_accuracy": control,
                "loss": _POINTS * (control - accuracy),
            }
            for seed, accuracy in zip(result.seeds, result.validation_accuracies, strict=True)
        ]

    def _rows(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        return list(csv.DictReader(io.StringIO(self._path.read_text())))

    def _write(self, rows: list[dict[str, Any]]) -> None:
        distinct = {(row["bitwidths"], row["recipe"], str(row["seed"])): row for row in rows}
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(distinct.values())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self._path, text.getvalue())


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
    return f"up to {2 * MOST} assignments are retrained until one is chosen; of each: {each}"


def digest(recipe: FinalRecipe) -> str:
    """Return a short name of a recipe, and of what it is carried out by."""
    asked = {"version": FINAL_VERSION, **asdict(recipe)}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]


def described(row: Row, step: Step, recipe: FinalRecipe, least: Mapping[str, float | None]) -> dict[str, Any]:
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
        "relative_accuracy_short": step.found.relative_accuracy,
        "validation_loss": step.loss,
        "keeps": step.keeps,
        "allowed": LIMIT - MARGIN,
        "seeds": list(SEEDS),
        "constraints": dict(least),
        "recipe": json.loads(json.dumps(asdict(recipe))),
    }
