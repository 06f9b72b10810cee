"""The end of a row: final retraining with seeds that chose nothing, and test data read once."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common import machine
from benchmarks.reproduce.committed import is_committed
from benchmarks.reproduce.networks import TASKS
from benchmarks.reproduce.rows import Row
from releq_env.errors import ReLeQError
from releq_env.finalizing import estimate, finalize
from releq_env.finalizing.result import FinalResult
from releq_env.quantization import QUANTIZERS
from releq_env.tasks.final import FinalRecipe


def read_chosen(path: Path) -> tuple[tuple[int, ...], FinalRecipe]:
    """Return the assignment and the recipe of a `chosen.json`.

    Raises:
        ReLeQError: If it is damaged.
    """
    try:
        content = json.loads(path.read_text())
        return tuple(map(int, content["bitwidths"])), FinalRecipe(**content["recipe"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ReLeQError(f"{path} cannot be read ({error}); delete it, and it is chosen again") from error


def test(row: Row, chosen: Path, folder: Path, controls: Path) -> dict[str, Any]:
    """Retrain what was chosen, read test data, and return the row of the result, JSON-able.

    Args:
        row: Whose it is.
        chosen: Its `chosen.json`, committed.
        folder: Of the final networks.
        controls: Folder of the full-precision controls.

    Raises:
        ReLeQError: If the choice is not committed, or data are missing.
    """
    if not is_committed(chosen):
        raise ReLeQError(
            f"{chosen} is not committed as it is; commit it and start again: test data are read for nothing else"
        )
    bitwidths, recipe = read_chosen(chosen)
    result = finalize(
        TASKS[row.task], bitwidths, quantizer=row.quantizer, seeds=row.seeds, recipe=recipe, folder=folder,
        controls=controls,
    )  # fmt: skip
    return as_row(row, result, recipe)


def check_result(result: Path, chosen: Path) -> None:
    """Refuse a result that is not of what is chosen, or of another version of its quantizer.

    Raises:
        ReLeQError: If it is of another assignment, recipe or version.
    """
    bitwidths, recipe = read_chosen(chosen)
    known = json.loads(result.read_text())
    if (tuple(known["bitwidths"]), FinalRecipe(**known["recipe"])) != (bitwidths, recipe):
        raise ReLeQError(f"{result} is of another assignment or recipe than {chosen}; delete it and the folder `final`")
    version = QUANTIZERS[known["quantizer"]].version
    if known["quantizer_version"] != version:
        raise ReLeQError(
            f"{result} is of version {known['quantizer_version']} of {known['quantizer']}, which is {version} today; "
            "delete it and the folder `final` to measure it anew"
        )


def expected(row: Row, chosen: Path, folder: Path, controls: Path) -> str:
    """Return in words how long `test` would take."""
    bitwidths, recipe = read_chosen(chosen)
    return estimate(
        TASKS[row.task], bitwidths, quantizer=row.quantizer, seeds=row.seeds, recipe=recipe, folder=folder,
        controls=controls,
    )  # fmt: skip


def as_row(row: Row, result: FinalResult, recipe: FinalRecipe) -> dict[str, Any]:
    """Return a result as a row of `reproduction.json`."""
    found = machine.describe()
    return {
        "task": row.task,
        "network": result.network_name,
        "quantizer": row.quantizer,
        "quantizer_version": QUANTIZERS[row.quantizer].version,
        "bitwidths": list(result.bitwidths),
        "average_bits": result.average_bits,
        "weighted_bits": result.weighted_bits,
        "bytes": result.file_bytes,
        "full_precision_bytes": result.full_precision_bytes,
        "loss": result.loss,
        "loss_std": result.loss_std,
        "loss_interval": result.loss_interval,
        "losses": list(result.losses),
        "seeds": list(result.seeds),
        "measured_on": result.measured_on,
        "accuracies": list(result.accuracies),
        "control": result.control,
        "control_accuracy": result.control_accuracy,
        "control_accuracies": list(result.control_accuracies),
        "paper_bits": row.paper_bits,
        "paper_quantizer": row.paper_quantizer,
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "machine": {name: found[name] for name in ("processor", "precision", "revision")},
        "command": f"python -m benchmarks.reproduce --only {row.name}",
    }
