"""The pictures of a comparison."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.compare import statistics
from benchmarks.compare.facts import unpack_front
from benchmarks.compare.scores import FAMILIES, Scores, family

Floats = NDArray[np.float64]
Band = tuple[Floats, Floats, Floats]
"""A line, and the bounds of its interval."""

_PALETTE = (
    *("#2ca02c", "#9467bd", "#1f77b4", "#ff7f0e", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#393b79", "#843c39"),
    *("#637939", "#e7969c"),
)
_OWN = {"dyna_ppo": "#d62728", "random": "0.35", "exhaustive": "0.7"}
_HEADLINE = {
    "gp": "#2ca02c",
    "dyna_ppo": "#d62728",
    "transfer": "#9467bd",
    "greedy": "#8c564b",
    "tpe": "#1f77b4",
    "local": "#ff7f0e",
    "ppo": "black",
    "random": "0.55",
}
"""The few that stand for all, with colours that nobody confuses."""
_LEARNING = ("model-free RL", "RL of our own")
_ONE_PANEL = 10
"""So many lines can be told apart."""


def colours(algos: Sequence[str]) -> dict[str, str]:
    """Return a colour for each agent: those that learn have their own twelve, the others the same twelve."""
    known = [algo for members in FAMILIES.values() for algo in members]
    found: dict[str, str] = {}
    for half in (True, False):
        members = [algo for algo in known if learns(algo) is half and algo not in _OWN]
        members += sorted(algo for algo in algos if learns(algo) is half and algo not in (*known, *_OWN))
        first = 2 * half  # so that the first of each half differ, too
        found |= {algo: _PALETTE[(index + first) % len(_PALETTE)] for index, algo in enumerate(members)}
    return found | _OWN


def learns(algo: str) -> bool:
    """Return whether an agent is one of reinforcement learning; its lines are dashed."""
    return family(algo) in _LEARNING


def headline(scores: Scores, path: Path) -> None:
    """Draw the best reward so far of a few agents that stand for all: the main picture."""
    shades = _few(scores)
    numbers, bands = _bands(scores, list(shades))
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axis = figure.subplots()
    _lines(axis, numbers, bands, shades, _bottom(scores, numbers, bands))
    if not math.isnan(uniform := scores.uniform()):
        axis.axhline(uniform, color="black", linestyle=":", linewidth=1.2, label="best uniform assignment")
    _counted(axis, numbers)
    axis.set_ylabel(f"normalised best reward (from {axis.get_ylim()[0]:.2f})")
    axis.set_title(_title(scores), fontsize=10, loc="left")
    axis.legend(loc="lower right", fontsize=10)
    _save(figure, path)


def best_so_far(scores: Scores, path: Path) -> None:
    """Draw the normalised best reward against distinct evaluations, with intervals, of all agents.

    Many agents have two panels: those that learn below, the best of each half and random search in both.
    """
    numbers, bands = _bands(scores, scores.algos)
    halves = [[algo for algo in scores.algos if learns(algo) is half] for half in (False, True)]
    panels = [scores.algos]
    if len(scores.algos) > _ONE_PANEL and all(halves):
        beside = {halves[0][0], halves[1][0], "random"}
        panels = [[algo for algo in scores.algos if algo in half or algo in beside] for half in halves]
    figure = Figure(figsize=(9, 1.0 + 4.2 * len(panels)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
    bottom = _bottom(scores, numbers, bands)
    for axis, algos in zip(axes, panels, strict=True):
        shades = colours(algos)
        _lines(axis, numbers, {algo: bands[algo] for algo in algos}, shades, bottom)
        _label_ends(axis, {algo: float(bands[algo][0][-1]) for algo in algos}, shades)
    _counted(axes[-1], numbers)
    figure.supylabel(f"best reward so far (0 random assignment, 1 optimum; drawn from {bottom:.2f})", fontsize=10)
    axes[0].set_title(_title(scores), fontsize=10, loc="left")
    _save(figure, path)


def _few(scores: Scores) -> dict[str, str]:
    """Return the agents that stand for all, the best first, with their colours; the first ones where those lack."""
    known = {algo: _HEADLINE[algo] for algo in scores.algos if algo in _HEADLINE}
    first = scores.algos[: len(_HEADLINE)]
    return known or {algo: colours(first)[algo] for algo in first}


def _bands(scores: Scores, algos: Sequence[str]) -> tuple[NDArray[np.int64], dict[str, Band]]:
    """Return numbers of evaluations, evenly spaced on a logarithmic axis, and the agents' lines over them."""
    numbers = np.unique(np.geomspace(min(5, scores.budget), scores.budget, 50).round().astype(int))
    return numbers, {algo: statistics.band(scores.at(algo, numbers.tolist())) for algo in algos}


def _bottom(scores: Scores, numbers: NDArray[np.int64], bands: Mapping[str, Band]) -> float:
    """Return where the axis of rewards begins: a little below the worst after ten evaluations."""
    early = [float(middle[numbers >= min(10, scores.budget)][0]) for middle, _, _ in bands.values()]
    return max(min(early) - 0.03, -0.5)


def _counted(axis: Axes, numbers: NDArray[np.int64]) -> None:
    """Mark the axis of evaluations."""
    ticks = [tick for tick in (5, 10, 20, 50, 100, 200, 300) if numbers[0] <= tick <= numbers[-1]]
    axis.set_xticks(ticks, list(map(str, ticks)))
    axis.minorticks_off()
    axis.set_xlabel("distinct evaluations, each a retraining (logarithmic)")


def _title(scores: Scores) -> str:
    return f"Interquartile mean over {len(scores.envs)} problems, with 95 % intervals"


def _lines(
    axis: Axes, numbers: NDArray[np.int64], bands: Mapping[str, Band], shades: Mapping[str, str], bottom: float
) -> None:
    """Draw some agents' lines with their intervals."""
    for algo, (middle, low, high) in bands.items():
        width = 2.6 if algo in ("dyna_ppo", "random") else 1.7
        axis.plot(numbers, middle, color=shades[algo], linewidth=width, linestyle=_style(algo), label=algo)
        axis.fill_between(numbers, low, high, color=shades[algo], alpha=0.10, linewidth=0)
    axis.set_xscale("log")
    axis.set_xlim(numbers[0], numbers[-1])
    axis.set_ylim(bottom, 1.0 + 0.03 * (1.0 - bottom))
    axis.axhline(1.0, color="0.3", linewidth=0.8)
    axis.grid(alpha=0.3)


def profiles(scores: Scores, path: Path) -> None:
    """Draw the share of runs above each score after 50 and all evaluations, of a few agents that stand for all."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    shades = _few(scores)
    thresholds = np.linspace(0.3, 1.0, 141)
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, name, title in ((left, "at_50", "after 50"), (right, "at_300", f"after {scores.budget}")):
        for algo in shades:
            shares = statistics.profile(scores.column(algo, name), thresholds)
            axis.plot(thresholds, shares, color=shades[algo], linestyle=_style(algo), label=algo)
        axis.set_title(f"{title} distinct evaluations", fontsize=10)
        axis.set_xlabel("normalised best reward")
        axis.grid(alpha=0.3)
    left.set_ylabel("share of runs above it")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    _save(figure, path)


def improvements(scores: Scores, path: Path, column: str = "at_100") -> None:
    """Draw the probability that an agent (row) is better than another (column)."""
    count = len(scores.algos)
    values = {algo: scores.column(algo, column) for algo in scores.algos}
    grid = np.array(
        [[float(statistics.improvement(values[ours], values[theirs])) for theirs in values] for ours in values]
    )
    size = max(4.0, 0.42 * count + 2.0)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(grid, cmap="RdBu", vmin=0.0, vmax=1.0)
    for (row, other), value in np.ndenumerate(grid):
        if row != other:
            dark = abs(value - 0.5) > 0.35
            axis.text(other, row, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=7,
                      color="white" if dark else "black")  # fmt: skip
    axis.set_xticks(range(count), scores.algos, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(count), scores.algos, fontsize=8)
    axis.set_title(f"Probability that the row is better than the column,\n{_said(column)}", fontsize=9)
    figure.colorbar(image, ax=axis, shrink=0.7)
    _save(figure, path)


def fronts(scores: Scores, path: Path, most: int = 6) -> None:
    """Draw the Pareto fronts that agents have found, and the true one, a panel a problem."""
    envs = scores.envs
    columns = min(len(envs), 2 if len(envs) <= 4 else 3 if len(envs) <= 6 else 4)
    rows = -(-len(envs) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.4 * rows + 0.4), layout="constrained")
    axes = np.atleast_1d(np.asarray(figure.subplots(rows, columns, squeeze=False))).ravel()
    shown = _chosen(scores.algos, most)
    shades = colours(scores.algos)
    for axis, env in zip(axes, envs, strict=False):
        facts = scores.facts(shown[0], env)
        true = np.array(unpack_front(facts.front))
        axis.step(*true.T, where="post", color="black", linewidth=2.2, label="true front", zorder=1)
        for algo in shown:
            label: str | None = algo
            for row in scores.rows(algo, env):
                if row.front:
                    found = np.array(unpack_front(row.front))
                    axis.step(*found.T, where="post", color=shades[algo], linewidth=1.0, linestyle=_style(algo),
                              alpha=0.8, label=label)  # fmt: skip
                    label = None
        least = facts.min_relative_accuracy
        axis.axhline(least, color="0.4", linestyle="--", linewidth=0.8)
        if facts.max_cost:
            axis.axvline(float(facts.max_cost), color="0.4", linestyle=":", linewidth=0.8)
        top = float(true[:, 1].max())
        reach = max(4.0 * (1.0 - least), 0.02)
        axis.set_ylim(min(top, least) - reach, top + 0.15 * reach)
        axis.set_title(env, fontsize=9)
        axis.grid(alpha=0.3)
    for axis in axes[len(envs) :]:
        axis.set_visible(False)
    figure.supxlabel("State of Quantization q", fontsize=10)
    figure.supylabel("relative accuracy a", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8)
    _save(figure, path)


def overhead(scores: Scores, path: Path) -> None:
    """Draw how long the processor was busy with each agent itself, a run: median, and least to most."""
    seconds = {algo: scores.raw(algo, "own_seconds").ravel() for algo in scores.algos}
    order = sorted(seconds, key=lambda algo: float(np.median(seconds[algo])))
    figure = Figure(figsize=(7, 0.28 * len(order) + 1.4), layout="constrained")
    axis = figure.subplots()
    shades = colours(scores.algos)
    for place, algo in enumerate(order):
        values = np.maximum(seconds[algo], 1e-3)
        axis.plot([values.min(), values.max()], [place, place], color=shades[algo], linewidth=2)
        axis.plot(np.median(values), place, "o", color=shades[algo])
    axis.set_yticks(range(len(order)), order)
    axis.set_xscale("log")
    axis.set_xlabel("seconds of the agent's own a run (processor time; median, least, most)")
    axis.grid(alpha=0.3, axis="x")
    _save(figure, path)


def lottery(trials: Mapping[str, Sequence[float]], chosen: Mapping[str, float], path: Path) -> None:
    """Draw the distribution of each agent's score over the hyperparameters that were tried.

    Args:
        trials: Scores by agent.
        chosen: The score of the untuned default by agent, where it is known.
        path: The file.
    """
    order = sorted(trials, key=lambda algo: float(np.median(trials[algo])))
    figure = Figure(figsize=(7, 0.32 * len(order) + 1.4), layout="constrained")
    axis = figure.subplots()
    shades = colours(list(trials))
    generator = np.random.default_rng(0)
    for place, algo in enumerate(order):
        values = np.array(trials[algo])
        height = place + generator.uniform(-0.18, 0.18, len(values))
        axis.plot(values, height, ".", color=shades[algo], markersize=5, alpha=0.6)
        axis.plot([np.median(values)] * 2, [place - 0.3, place + 0.3], color="black", linewidth=1.5)
        if algo in chosen:
            axis.plot(chosen[algo], place, "D", color="none", markeredgecolor="black", markersize=6)
    axis.set_yticks(range(len(order)), order)
    axis.set_xlabel("score of a trial (line: median; diamond: untuned default)")
    axis.grid(alpha=0.3, axis="x")
    _save(figure, path)


def intervals(values: Mapping[str, statistics.Interval], label: str, path: Path) -> None:
    """Draw values with their intervals, one a line, in the order given."""
    figure = Figure(figsize=(7, 0.32 * len(values) + 1.3), layout="constrained")
    axis = figure.subplots()
    shades = colours(list(values))
    for place, (name, value) in enumerate(reversed(list(values.items()))):
        axis.plot([value.low, value.high], [place, place], color=shades[name], linewidth=2.5)
        axis.plot(value.value, place, "o", color=shades[name])
    axis.set_yticks(range(len(values)), list(values)[::-1])
    axis.set_xlabel(label)
    axis.grid(alpha=0.3, axis="x")
    _save(figure, path)


def _said(column: str) -> str:
    return "area under the curve" if column == "auc" else f"after {column.removeprefix('at_')} distinct evaluations"


def _style(algo: str) -> str:
    return "--" if learns(algo) else "-"


def _chosen(algos: Sequence[str], most: int) -> list[str]:
    """Return some agents: the best of each family, then the best of all."""
    leaders = list({family(algo): algo for algo in reversed(algos)}.values())
    return sorted(dict.fromkeys([*leaders, *algos][: max(most, len(leaders))]), key=algos.index)[:most]


def _label_ends(axis: Axes, ends: Mapping[str, float], shades: Mapping[str, str]) -> None:
    """Write each line's name at its end, moved apart where they would lie on each other."""
    low, high = axis.get_ylim()
    gap = min((high - low) * 0.042, (high - low) / (len(ends) + 1))
    ranks = list(ends)  # of equals the better one is above
    order = sorted(ends, key=lambda algo: (ends[algo], -ranks.index(algo)))
    places = np.clip([ends[algo] for algo in order], low, high)
    for _ in range(200):  # push neighbours apart, and back into the picture
        for index in range(1, len(places)):
            lack = gap - (places[index] - places[index - 1])
            if lack > 0:
                places[index] += lack / 2
                places[index - 1] -= lack / 2
        places = places - max(float(places[-1]) - high, 0.0)
        places = np.maximum(places, low + gap * np.arange(len(places)))
    for algo, place in zip(order, places, strict=True):
        axis.annotate(
            algo, (1.0, ends[algo]), xycoords=("axes fraction", "data"), xytext=(1.05, float(place)),
            textcoords=("axes fraction", "data"), color=shades[algo], va="center", fontsize=9, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shades[algo], "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0,
                        "relpos": (0.0, 0.5)},
        )  # fmt: skip


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
