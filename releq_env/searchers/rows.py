"""What a search or a run writes down of its evaluations, and of the problem that they belong to."""

import csv
from collections.abc import Callable, Mapping
from typing import Any

from releq_env.evaluation import Evaluation
from releq_env.problem import Problem

COLUMNS: dict[str, Callable[[str], Any]] = {
    "bitwidths": lambda text: tuple(map(int, text.split())),
    "accuracy": float,
    "relative_accuracy": float,
    "reward": float,
    "state_of_quantization": float,
    "average_bits": float,
    "weighted_bits": float,
    "retrained": int,
    "seconds": float,
    "elapsed": float,
}
"""Of `evaluations.csv`, and how each is read. `elapsed`: seconds since the run began, as far as it was under way."""

BEST = ("bitwidths", "reward", "accuracy", "relative_accuracy", "average_bits", "weighted_bits")
"""What `best.json` has of a row."""


def row_of(problem: Problem, evaluation: Evaluation, retrained: bool, elapsed: float) -> dict[str, Any]:
    """Return a row of `evaluations.csv`."""
    terms = problem.terms(evaluation.bitwidths)
    return {
        "bitwidths": evaluation.bitwidths,
        "accuracy": evaluation.accuracy,
        "relative_accuracy": evaluation.relative_accuracy,
        "reward": problem.objective(evaluation),
        **{name: terms[name] for name in ("state_of_quantization", "average_bits", "weighted_bits")},
        "retrained": int(retrained),
        "seconds": float(evaluation.seconds),
        "elapsed": round(elapsed, 3),
    }


def recorded(row: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation that a row records."""
    return Evaluation(row["bitwidths"], row["accuracy"], row["relative_accuracy"], row["seconds"])


def whole_lines(text: str) -> str:
    """Return a file's text without a last line that a kill has cut short."""
    return text[: text.rfind("\n") + 1]


def parsed(text: str) -> list[dict[str, Any]]:
    """Return the rows of `evaluations.csv`.

    Raises:
        KeyError: If a column is missing.
        TypeError: If a value is.
        AttributeError: Likewise.
        ValueError: If a value is not accepted.
    """
    rows = [{name: read(line[name]) for name, read in COLUMNS.items()} for line in csv.DictReader(text.splitlines())]
    for row in rows:
        if not 0.0 <= row["accuracy"] <= 1.0:
            raise ValueError(f"accuracy {row['accuracy']} is outside [0, 1]")
    return rows


def described(problem: Problem) -> dict[str, Any]:
    """Return what of a problem the rows depend on, beside its accuracies; JSON-able."""
    return {
        "layers": [layer.name for layer in problem.layers],
        "choices": [list(map(int, of_layer)) for of_layer in problem.choices],
        "costs": problem.costs.tolist(),
        "reward": problem.reward if isinstance(problem.reward, str) else None,  # a function has no name to trust
        "max_cost": None if problem.max_cost is None else float(problem.max_cost),
        "min_relative_accuracy": float(problem.min_relative_accuracy),
        "full_precision_accuracy": float(problem.full_precision_accuracy),
    }
