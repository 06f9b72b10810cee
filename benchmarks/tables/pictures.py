"""The pictures of an accuracy table."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from releq_env.cost import COSTS
from releq_env.tables import AccuracyTable

_POINTS = 100.0


def front(table: AccuracyTable, path: Path) -> None:
    """Draw accuracy against average bits: all assignments, Pareto front, the uniform ones, the optimum."""
    seed = (table.whole_seeds or table.seeds)[0]
    landscape = table.landscape(seed)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axis = figure.subplots()
    bits, accuracy = landscape.bitwidths.mean(axis=1), _POINTS * landscape.accuracy
    axis.plot(bits, accuracy, ".", color="0.75", markersize=3, label=f"{len(landscape)} assignments", zorder=1)
    best = landscape.pareto_front()
    mean_bits = [float(np.mean(answer.bitwidths)) for answer in best]
    axis.step(mean_bits, [_POINTS * answer.accuracy for answer in best], where="post", label="Pareto front")
    uniform = np.flatnonzero((landscape.bitwidths == landscape.bitwidths[:, :1]).all(axis=1))
    axis.plot(bits[uniform], accuracy[uniform], "s", color="tab:orange", label="uniform")
    for row in uniform:
        place: dict[str, Any] = {"textcoords": "offset points", "xytext": (0, 7), "ha": "center", "fontsize": 8}
        axis.annotate(str(landscape.bitwidths[row, 0]), (bits[row], accuracy[row]), **place)
    optimum = landscape.optimum()
    said = " ".join(map(str, optimum.bitwidths))
    axis.plot(
        float(np.mean(optimum.bitwidths)), _POINTS * optimum.accuracy, "*", color="tab:red", markersize=13,
        label=f"optimum: {said}",
    )  # fmt: skip
    least = table.min_relative_accuracy
    bound = _POINTS * least * table.full_precision_accuracy
    axis.axhline(_POINTS * table.full_precision_accuracy, color="0.4", linewidth=1, label="full precision")
    axis.axhline(bound, color="0.4", linestyle="--", linewidth=1, label=f"constraint {least:g}")
    # Collapsed networks would squeeze the part that matters into the top edge.
    full = _POINTS * table.full_precision_accuracy
    shown = np.append(accuracy, full)
    low = max(float(shown.min()), full - 7.0 * (full - bound))
    margin = max(0.06 * (float(shown.max()) - low), 0.05)
    hidden = int((accuracy < low - margin).sum())
    if hidden:
        axis.set_title(f"{hidden} assignments are below the picture", fontsize=9, loc="right", color="0.4")
    axis.set_ylim(low - margin, float(shown.max()) + margin)
    _finish(axis, "average bits of a layer", f"validation accuracy, %, seed {seed}")
    _save(figure, path)


def sensitivity(table: AccuracyTable, path: Path) -> None:
    """Draw accuracy against the bits of one layer: the others at their most, and the mean over the others."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    alone, mean = figure.subplots(1, 2)
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, table.num_layers))
    values = _POINTS * table.values()
    most = np.array([of_layer[-1] for of_layer in table.choices])
    for index, (layer, colour) in enumerate(zip(table.layers, colours, strict=True)):
        others = np.arange(table.num_layers) != index
        at_most = (table.bitwidths[:, others] == most[others]).all(axis=1)
        _line(alone, table.bitwidths[at_most, index], values[at_most], colour, layer.name)
        _line(mean, table.bitwidths[:, index], values, colour, layer.name)
    alone.set_title("all other layers at their most bits", fontsize=10)
    mean.set_title("mean over all other layers' bits", fontsize=10)
    for axis in (alone, mean):
        axis.set_xticks(sorted(set().union(*table.choices)))
        _finish(axis, "bits of the layer", "validation accuracy, %, mean over the seeds")
    _save(figure, path)


def proxies(table: AccuracyTable, path: Path) -> None:
    """Draw every sensitivity that the table holds, a panel a proxy and a line a layer.

    Logarithmic, where nothing below 0 is seen, but for accuracies.
    """
    known = table.sensitivities
    assert known is not None
    figure = Figure(figsize=(3.6 * len(known.proxies), 3.6), layout="constrained")
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, table.num_layers))
    for axis, (name, proxy) in zip(
        np.atleast_1d(figure.subplots(1, len(known.proxies))), known.proxies.items(), strict=True
    ):
        if logarithmic := name != "alone":
            axis.set_yscale("log")
            axis.yaxis.set_minor_formatter(NullFormatter())
        for layer, bits, row, colour in zip(table.layers, known.choices, proxy.values, colours, strict=True):
            values = np.array(row)
            shown = np.where((values > 0) | (not logarithmic), values, np.nan)
            axis.plot(bits, shown, "o-", color=colour, markersize=3, label=layer.name)
        axis.set_title(name, fontsize=10)
        axis.set_xticks(sorted(set().union(*known.choices)))
        _finish(
            axis, "bits of the layer", "loss of the layer alone" if not axis.get_subplotspec().colspan.start else ""
        )
    _save(figure, path)


def seed_noise(table: AccuracyTable, path: Path) -> None:
    """Draw the accuracies of the first two retraining seeds against each other, and their difference."""
    both = _POINTS * table.accuracy[:2, ~np.isnan(table.accuracy[:2]).any(axis=0)]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    scatter, histogram = figure.subplots(1, 2)
    scatter.plot(*both, ".", color="tab:blue", markersize=3, alpha=0.4)
    limits = float(np.quantile(both, 0.02)), float(both.max())
    scatter.plot(limits, limits, color="0.4", linewidth=1)
    scatter.set_xlim(limits[0] - 0.2, limits[1] + 0.2)
    scatter.set_ylim(limits[0] - 0.2, limits[1] + 0.2)
    _finish(scatter, f"accuracy with seed {table.seeds[0]}, %", f"with seed {table.seeds[1]}, %", legend=False)
    differences = both[1] - both[0]
    histogram.hist(differences, bins=_bins(differences), color="tab:blue")
    spread = float(np.sqrt(np.mean(differences**2)))
    histogram.set_title(f"mean {differences.mean():+.2f}, root mean square {spread:.2f}", fontsize=10)
    _finish(
        histogram, f"seed {table.seeds[1]} less seed {table.seeds[0]}, percentage points", "assignments", legend=False
    )
    _save(figure, path)


def random_search(table: AccuracyTable, path: Path) -> None:
    """Draw the expected regret of random search against the assignments drawn, a line a cost."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for cost in COSTS:
        regrets = table.landscape((table.whole_seeds or table.seeds)[0], cost=cost).random_search_regret(len(table))
        axis.plot(np.arange(1, len(regrets) + 1), regrets, label=cost)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0.0)
    _finish(axis, "assignments drawn, none twice", "expected regret of the best")
    _save(figure, path)


def _bins(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges of some forty bins that each hold as many of the values that there can be."""
    present = np.unique(np.round(values, 6))
    step = float(np.diff(present).min()) if len(present) > 1 else 1.0  # one image more or less
    reach = float(np.quantile(np.abs(values), 0.99)) + step
    width = step * max(math.ceil(2.0 * reach / 41 / step), 1)
    count = math.ceil(reach / width)
    return np.linspace(-count - 0.5, count + 0.5, 2 * count + 2) * width


def _line(
    axis: Axes, bits: NDArray[np.uint8], accuracy: NDArray[np.float64], colour: Iterable[float], label: str
) -> None:
    """Draw the mean accuracy of what is known at each bitwidth."""
    known = ~np.isnan(accuracy)
    bits, accuracy = bits[known], accuracy[known]
    present = np.unique(bits)
    axis.plot(
        present, [accuracy[bits == each].mean() for each in present], "o-", color=colour, markersize=4, label=label
    )


def _finish(axis: Axes, across: str, up: str, legend: bool = True) -> None:
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.grid(alpha=0.3)
    if legend:
        axis.legend(fontsize=9)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120)
