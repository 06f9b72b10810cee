"""The pictures of what a table says of sensitivities."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.tables.additive import most_accurate

if TYPE_CHECKING:
    from benchmarks.tables.proxy_study import Gaps, Study

_POINTS = 100.0
_COLOURS = ("tab:blue", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink")


def scatter(study: "Study", path: Path) -> None:
    """Draw the retrained accuracy of every assignment against what each proxy predicts; a panel a proxy."""
    names = list(study.losses)
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.2 * rows), layout="constrained")
    accuracy, best = _POINTS * study.accuracy, most_accurate(study.accuracy)
    for axis, name in zip(figure.subplots(rows, columns, squeeze=False).flat, names, strict=False):
        predicted = study.predicted(name)
        predicted = predicted - predicted.min()
        positive = predicted[predicted > 0.0]
        least = float(positive.min()) if len(positive) else 1.0
        for which, colour in ((~best, "0.7"), (best, "tab:blue")):
            axis.plot(np.maximum(predicted[which], least), accuracy[which], ".", color=colour, markersize=2)
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
        every, fifth, _ = study.ranks(predicted)
        axis.set_title(f"{name}: {every:.2f}, best fifth {fifth:.2f}", fontsize=10)
        axis.grid(alpha=0.3)
    for axis in figure.axes[len(names) :]:
        axis.set_visible(False)
    figure.supxlabel("predicted loss above the least of all, logarithmic", fontsize=10)
    figure.supylabel("accuracy after retraining, %", fontsize=10)
    figure.savefig(path, dpi=120)


def knapsacks(study: "Study", found: Mapping[str, Mapping[str, "Gaps"]], path: Path) -> None:
    """Draw the accuracy of each proxy's answers, and the optimum's, against the budget; a panel a cost."""
    figure = Figure(figsize=(5.2 * len(found), 4.6), layout="constrained")
    table = study.table
    full = _POINTS * table.full_precision_accuracy
    bound = table.min_relative_accuracy * full
    for axis, (cost, by_name) in zip(np.atleast_1d(figure.subplots(1, len(found))), found.items(), strict=True):
        for colour, (name, known) in zip(_COLOURS, by_name.items(), strict=False):
            axis.step(known.budgets, _POINTS * known.answer, where="post", color=colour, linewidth=1.2, label=name)
        any_of = next(iter(by_name.values()))
        axis.step(any_of.budgets, _POINTS * any_of.optimum, where="post", color="black", linewidth=2, label="optimum")
        axis.axhline(full, color="0.4", linewidth=1)
        axis.axhline(bound, color="0.4", linestyle="--", linewidth=1)
        low = full - 8.0 * max(full - bound, 0.2)
        shown = [each.answer for each in by_name.values()]
        low = max(low, _POINTS * float(np.nanmin(shown)) - 0.1)
        axis.set_ylim(low, max(full, _POINTS * float(np.nanmax([any_of.optimum, *shown]))) + 0.1 * (full - low))
        axis.set_title(f"budgets of {cost}", fontsize=10)
        axis.set_xlabel("budget: State of Quantization")
        axis.set_ylabel("accuracy after retraining, %")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120)


def interactions(study: "Study", path: Path) -> None:
    """Draw which share of the variance each pair of layers explains beyond the sum over layers."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    names = [layer.name for layer in study.table.layers]
    for axis, known, what in zip(figure.subplots(1, 2), study.parts, ("accuracy", "logarithmic scale"), strict=True):
        shares = _POINTS * known.by_pair
        image = axis.imshow(np.where(shares > 0.0, shares, np.nan), cmap="viridis")
        for a, b in zip(*np.triu_indices(len(names), 1), strict=True):
            bright = shares[a, b] > 0.6 * shares.max()
            axis.text(b, a, f"{shares[a, b]:.1f}", ha="center", va="center", color="black" if bright else "tab:orange")
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.set_title(f"{what}: % of the variance", fontsize=10)
        figure.colorbar(image, ax=axis, shrink=0.8)
    figure.savefig(path, dpi=120)
