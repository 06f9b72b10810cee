"""The pictures of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.tables.study.statistics import Interval

_COLOURS = plt.get_cmap("tab20")(range(20))


def screen(
    path: Path, title: str, columns: Sequence[str], accuracy: Mapping[str, Sequence[Interval | None]], original: float
) -> None:
    """Draw every recipe's accuracies beside each other, one panel a bitwidth, each with a scale of its own."""
    names = list(accuracy)
    figure, axes = plt.subplots(
        1, len(columns), figsize=(2.2 * len(columns) + 3, 0.26 * len(names) + 1.2), sharey=True, squeeze=False
    )
    for index, (axis, column) in enumerate(zip(axes[0], columns, strict=True)):
        for row, name in enumerate(names):
            interval = accuracy[name][index]
            if interval is None:
                continue
            axis.plot(interval.value, row, "o", color="C0", markersize=4)
            if not np.isnan(interval.low):
                axis.plot([interval.low, interval.high], [row, row], color="C0", linewidth=1)
            if name == "today":
                axis.axvline(interval.value, color="0.7", linewidth=0.8, zorder=0)
        present = [interval for each in accuracy.values() if (interval := each[index]) is not None]
        if present:
            values = np.array([each.value for each in present])
            halves = [each.high - each.value for each in present if not np.isnan(each.high)]
            # A few very bad or uncertain ones must not flatten the rest.
            spread = float(np.median(np.abs(values - np.median(values))))
            reach = max(0.1, 3 * spread, float(np.quantile(halves or [0.0], 0.7)))
            axis.set_xlim(max(values.min(), np.median(values) - 2 * reach) - reach, min(100.1, values.max() + reach))
        if index == 0:
            axis.axvline(original, color="C3", linewidth=0.8, linestyle="--", zorder=0)
        axis.set_title(column, fontsize=9)
        axis.tick_params(labelsize=7)
    axes[0][0].set_yticks(range(len(names)), names, fontsize=7)
    axes[0][0].invert_yaxis()
    figure.suptitle(
        f"{title}: validation accuracy, %, 95 % intervals over seeds (grey: today, red: original)", fontsize=9
    )
    _save(figure, path)


def ranks(path: Path, title: str, budgets: Sequence[int], rows: Mapping[str, Sequence[Interval]]) -> None:
    """Draw the rank correlation with long retraining against the budget."""
    figure, axis = plt.subplots(figsize=(8, 4.5))
    for index, (name, row) in enumerate(rows.items()):
        values = [each.value for each in row]
        places = np.arange(len(budgets)) + 0.06 * (index - (len(rows) - 1) / 2)
        axis.errorbar(
            places,
            values,
            [
                np.clip([each.value - each.low for each in row], 0, None),
                np.clip([each.high - each.value for each in row], 0, None),
            ],
            marker="o", markersize=4, linewidth=1.2, elinewidth=0.7, label=name, color=_COLOURS[2 * index % 20],
        )  # fmt: skip
    axis.set_xticks(range(len(budgets)), [f"{each:,}" for each in budgets])
    axis.set_xlabel("images of the short retraining")
    axis.set_ylabel("Spearman with long retraining")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    if rows:
        axis.legend(fontsize=7, loc="lower right")
    _save(figure, path)


def scatter(path: Path, title: str, points: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Draw the accuracy after short against that after long retraining, one panel a recipe."""
    columns = min(3, max(1, len(points)))
    lines = max(1, -(-len(points) // columns))
    figure, axes = plt.subplots(lines, columns, figsize=(3.6 * columns, 3.4 * lines), squeeze=False)
    for axis in axes.flat[len(points) :]:
        axis.axis("off")
    for axis, (name, (short, long)) in zip(axes.flat, points.items(), strict=False):
        axis.plot(long, short, "o", markersize=3)
        ends = [min(*long, *short), max(*long, *short)]
        axis.plot(ends, ends, color="0.7", linewidth=0.8)
        axis.set_title(name, fontsize=7)
        axis.set_xlabel("long, %", fontsize=8)
        axis.set_ylabel("short, %", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    _save(figure, path)


def front(path: Path, title: str, reference: Mapping[tuple[int, ...], float], near: set[tuple[int, ...]]) -> None:
    """Draw the long accuracies against average bits."""
    figure, axis = plt.subplots(figsize=(6, 4))
    for label, wanted in (("random", False), ("near the front", True)):
        chosen = [each for each in reference if (each in near) == wanted]
        axis.plot(
            [float(np.mean(each)) for each in chosen],
            [reference[each] for each in chosen],
            "o",
            markersize=4,
            label=label,
        )
    axis.set_xlabel("average bits")
    axis.set_ylabel("accuracy after long retraining, %")
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
