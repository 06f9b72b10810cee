"""The pictures of a reproduction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.reproduce.walking import LIMIT
from releq_env.tables import AccuracyTable

_POINTS = 100.0
_SIZE = (7.0, 4.5)


def losses(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw loss against average bits: ours with its interval and seeds, the paper's claim as a bar.

    Args:
        rows: Of `reproduction.json`.
        path: The picture.
    """
    figure = Figure(figsize=_SIZE, layout="constrained")
    axis = figure.subplots()
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    for row in rows:
        colour = f"C{tasks.index(row['task'])}"
        bits = row["average_bits"]
        axis.plot([bits] * len(row["losses"]), row["losses"], ".", color=colour, alpha=0.4)
        if row["loss_interval"] is not None:
            axis.vlines(bits, *row["loss_interval"], color=colour)
        axis.plot(bits, row["loss"], "o", color=colour)
        place: dict[str, Any] = {"textcoords": "offset points", "xytext": (7, 3), "fontsize": 9}
        axis.annotate(row["row"], (bits, row["loss"]), color=colour, **place)
    for task in tasks:
        paper = next(row["paper_bits"] for row in rows if row["task"] == task)
        label = f"the paper, {task}: {paper:g} bits, loss below that"
        axis.plot(paper, LIMIT, "v", color=f"C{tasks.index(task)}", markersize=9, fillstyle="none", label=label)
    axis.axhline(LIMIT, color="0.4", linestyle="--", linewidth=1, label=f"allowed: {LIMIT:g}")
    axis.axhline(0.0, color="0.7", linewidth=1)
    axis.set_xlabel("average bits of a layer")
    axis.set_ylabel("loss, percentage points of test accuracy")
    axis.set_xlim(0.5, max(max(row["average_bits"], row["paper_bits"]) for row in rows) + 0.8)
    axis.legend(fontsize=9)
    figure.savefig(path, dpi=150)


def enumeration(table: AccuracyTable, answer: Sequence[int], paper: Sequence[int] | None, path: Path) -> None:
    """Draw every assignment of a table, its Pareto front, and where the answers lie.

    Args:
        table: Complete.
        answer: What was chosen here.
        paper: What the paper has chosen, if the table has it.
        path: The picture.
    """
    figure = Figure(figsize=_SIZE, layout="constrained")
    axis = figure.subplots()
    landscape = table.landscape(0)
    bits, accuracy = landscape.bitwidths.mean(axis=1), _POINTS * landscape.accuracy
    axis.plot(bits, accuracy, ".", color="0.75", markersize=4, label=f"{len(landscape)} assignments")
    front = landscape.pareto_front()
    axis.step(
        [float(np.mean(each.bitwidths)) for each in front], [_POINTS * each.accuracy for each in front],
        where="post", label="Pareto front",
    )  # fmt: skip
    for bitwidths, marker, label in ((answer, "*", "chosen here"), (paper, "v", "the paper's")):
        if bitwidths is not None:
            said = " ".join(map(str, bitwidths))
            measured = _POINTS * table.query(tuple(bitwidths), seed=0)
            axis.plot(float(np.mean(bitwidths)), measured, marker, markersize=13, label=f"{label}: {said}")
    axis.axhline(_POINTS * table.full_precision_accuracy, color="0.4", linewidth=1, label="full precision")
    axis.set_xlabel("average bits of a layer")
    axis.set_ylabel("validation accuracy after short retraining, %")
    axis.legend(fontsize=9, loc="lower right")
    figure.savefig(path, dpi=150)
