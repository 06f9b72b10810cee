"""The pictures of a run, as figures of matplotlib; nothing else of the report needs it."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from releq_env.errors import ReLeQError
from releq_env.report.run import Episodes, Probabilities, Row, Run
from releq_env.report.verdict import spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FAINT, MAIN, SECOND, THIRD = "#1b2430", "#a3adb9", "#2f6fde", "#d9822b", "#d13a4a"
_LONGEST_NAME = 26  # above a picture
_WINDOW = 32  # episodes of the moving average
_MOST_MARKS = 4000  # beyond, marks are drawn as pixels
_MOST_LAYERS = 32  # whose policy is drawn
_MOST_LABELS = 16  # choices that still fit into a legend

Uniform = tuple[int, float, float]
"""Bits, cost and relative accuracy of a uniform assignment."""


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure in the report's style, of a size in inches.

    Raises:
        ReLeQError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ReLeQError(f'pictures need {error.name}; pip install "releq_env[agents]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def styled(axis: Any) -> Any:
    """Give an axis the report's style, and return it."""
    axis.grid(color=FAINT, alpha=0.3, linewidth=0.6)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    axis.tick_params(colors=INK, labelsize=9, color=FAINT)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set(color=INK, size=9.5)
    return axis


def tradeoff(run: Run) -> "Figure":
    """Draw cost against accuracy of all that was evaluated, with the best answer for every cost."""
    assert run.best is not None
    figure = new_figure(5.6, 4.3)
    axis = figure.subplots()
    q, a = _columns(run.rows)
    label = f"{len(q)} evaluated assignments" if len(q) > 1 else "evaluated assignment"
    axis.plot(q, a, ".", color=FAINT, markersize=5, label=label, rasterized=len(q) > _MOST_MARKS)
    costs, relative = _columns(run.curve)
    axis.step(costs, relative, where="post", color=MAIN, linewidth=1.8, label="best for every cost, of the search")
    uniform = _uniform(run)
    if uniform:
        _, cost, accuracy = zip(*uniform, strict=True)
        axis.plot(cost, accuracy, "s", color=SECOND, markersize=5, label="uniform, with their bits")
        for bits, x, y in uniform:
            axis.annotate(
                str(bits),
                (x, y),
                textcoords="offset points",
                xytext=(0, 6),
                ha="center",
                fontsize=8,
                color=INK,
                annotation_clip=True,
            )
    best, least = run.best, run.min_relative_accuracy
    called = f"best: {spaced(best.bitwidths)}" if len(best.bitwidths) <= _MOST_LABELS else "best"
    axis.plot(best.state_of_quantization, best.relative_accuracy, "*", color=THIRD, markersize=14, label=called)
    axis.axhline(least, color=INK, linestyle="--", linewidth=1, label=f"at least {least:g}")
    if run.max_cost is not None:
        axis.axvline(run.max_cost, color=INK, linestyle=":", linewidth=1, label=f"cost at most {run.max_cost:g}")
    # Collapsed networks would squeeze the part that matters into the top edge.
    shown = np.concatenate([a, [accuracy for _, _, accuracy in uniform]])
    slack = max(1.0 - least, 1e-3)
    low = max(float(shown.min()), min(1.0, best.relative_accuracy + 3.0 * slack) - 6.0 * slack)
    high = max(float(shown.max()), low)
    margin = max(0.08 * (high - low), 1e-3)
    axis.set_ylim(low - margin, high + margin)
    axis.set_xlabel("cost q, relative to the most expensive assignment")
    axis.set_ylabel("relative accuracy a (validation)")
    styled(axis)
    _legend(axis.legend(loc="best", fontsize=8.5, framealpha=0.85))
    return figure


def progress(run: Run) -> "Figure":
    """Draw the best objective so far against distinct evaluations."""
    figure = new_figure(5.6, 4.3)
    axis = figure.subplots()
    best = best_so_far(run)
    axis.step(np.arange(1, len(best) + 1), best, where="post", color=MAIN, linewidth=1.8)
    axis.set_xlabel("distinct evaluations")
    axis.set_ylabel("best reward so far")
    _whole_numbers(styled(axis).xaxis)
    return figure


def best_so_far(run: Run) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return the reward of the best assignment after each distinct evaluation; it keeps `max_cost` if any does.

    NaN as long as no reward is a number.
    """
    best: list[float] = []
    leader = (False, -math.inf, math.nan)
    for row in run.rows:
        known = -math.inf if math.isnan(row.reward) else row.reward
        leader = max(leader, (run.keeps_max_cost(row), known, row.reward), key=lambda each: each[:2])
        best.append(leader[2])
    return np.array(best)


def episodes(found: Episodes) -> "Figure":
    """Draw return, cost and accuracy over the episodes of an agent that learns."""
    figure = new_figure(5.6, 5.4)
    axes = figure.subplots(3, 1, sharex=True)
    columns = ((found.rewards, "reward"), (found.costs, "cost q"), (found.relative_accuracies, "relative accuracy a"))
    for axis, (column, label) in zip(axes, columns, strict=True):
        values = np.array(column)
        many = len(values) > _MOST_MARKS
        axis.plot(np.arange(1, len(values) + 1), values, ".", color=FAINT, markersize=3, rasterized=many)
        window = min(_WINDOW, len(values))
        mean = np.convolve(values, np.ones(window) / window, mode="valid")
        axis.plot(np.arange(window, len(values) + 1), mean, color=MAIN, label=f"mean of {window} episodes")
        axis.set_ylabel(label)
        styled(axis)
    _legend(axes[0].legend(loc="lower right", fontsize=8.5, framealpha=0.85))
    axes[-1].set_xlabel("episode")
    return figure


def probabilities(
    found: Probabilities, names: Sequence[str], actions: Sequence[Sequence[str]], columns: int = 2
) -> "Figure":
    """Draw how likely the policy makes each action, by layer.

    Args:
        found: The probabilities.
        names: Of the layers.
        actions: What the actions on each layer are called, up to its last choice.
        columns: Layers side by side.
    """
    from matplotlib import colormaps

    names, left_out = names[:_MOST_LAYERS], len(names) - _MOST_LAYERS
    lines = -(-len(names) // columns)
    figure = new_figure(5.6, max(2.4 * lines, 2.8) + 0.6)
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    alike = all(of_layer == actions[0] for of_layer in actions)
    for index, axis in enumerate(axes):
        if index >= len(names):
            axis.set_visible(False)
            continue
        colours = colormaps["viridis"](np.linspace(0.12, 0.88, len(actions[index])))
        values = np.array(found.values[index])
        last = len(actions[index]) - 1
        values[:, last] = values[:, last:].sum(axis=1)  # an action beyond the last choice means the last choice
        for of_action, colour, name in zip(values.T, colours, actions[index], strict=False):
            axis.plot(found.episodes[index], of_action, color=colour, label=name)
        # A layer's name is no formula, and may be anything.
        axis.set_title(_end(names[index]), fontsize=9.5, color=INK, parse_math=False)
        axis.set_ylim(0, 1)
        styled(axis).tick_params(labelbottom=index + columns >= len(names))  # nothing below
        if not alike and len(actions[index]) <= _MOST_LABELS:
            _legend(axis.legend(fontsize=7, loc="center right"))
    for label in (figure.supxlabel("episode", fontsize=9.5), figure.supylabel("probability", fontsize=9.5)):
        label.set_color(INK)
    if left_out > 0:
        figure.suptitle(f"the first {len(names)} layers; {left_out} more are left out", fontsize=9.5, color=INK)
    if alike and len(actions[0]) <= _MOST_LABELS:
        handles = figure.axes[0].get_legend_handles_labels()
        _legend(figure.legend(*handles, loc="outside right center", fontsize=8.5, frameon=False))
    return figure


def policy(run: Run, found: Probabilities) -> "Figure":
    """Draw the policy of a run."""
    env_kwargs = run.settings.get("env_kwargs") or {}
    actions = [action_names(of_layer, env_kwargs.get("action_mode")) for of_layer in run.choices]
    return probabilities(found, run.names, actions)


def _end(name: str) -> str:
    """Return the end of a long name: there those of a network's layers differ."""
    return name if len(name) <= _LONGEST_NAME else f"...{name[3 - _LONGEST_NAME :]}"


def action_names(choices: Sequence[int], action_mode: object) -> list[str]:
    """Return what the actions on a layer are called, up to its last choice."""
    if action_mode == "restricted":
        return ["down", "keep", "up"]
    return [f"{bits} bit{'s' * (bits > 1)}" for bits in choices]


def rewards(groups: Sequence[tuple[str, Sequence[Run]]], colours: Callable[[int], Any] | None = None) -> "Figure":
    """Draw the best reward so far against distinct evaluations, several runs on one axis.

    A run that has ended by itself keeps its last best; of one that its budget has ended, or nothing yet, the line ends
    there. Of several runs of one name the median of those that are so long is drawn thick.

    Args:
        groups: Name -> its runs.
        colours: Index -> colour.
    """
    from matplotlib import colormaps

    figure = new_figure(7.5, 4.6)
    axis = figure.subplots()
    longest = max(len(run.rows) for _, runs in groups for run in runs)
    x = np.arange(1, longest + 1)
    for index, (name, runs) in enumerate(groups):
        colour = (colours or colormaps["tab10" if len(groups) <= 10 else "tab20"])(index)
        lines = np.array([_continued(run, longest) for run in runs])
        several = len(runs) > 1
        for line in lines:
            axis.step(
                x, line, where="post", color=colour, linewidth=0.8 if several else 1.8, alpha=0.45 if several else 1
            )
        label = f"{name} (median of {len(runs)})" if several else name
        reached = _reached(lines)
        middle = np.nanmedian(lines[:, :reached], axis=0)
        axis.step(x[:reached], middle, where="post", color=colour, linewidth=2.2 if several else 1.8, label=label)
    axis.set_xlabel("distinct evaluations")
    axis.set_ylabel("best reward so far")
    _whole_numbers(styled(axis).xaxis)
    legend = axis.legend(loc="lower right", fontsize=9, framealpha=0.85)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _legend(legend)
    return figure


def _continued(run: Run, length: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return the best reward so far after each of so many evaluations; NaN where nobody knows."""
    best = best_so_far(run)
    if run.settled:
        return np.pad(best, (0, length - len(best)), mode="edge")
    return np.pad(best, (0, length - len(best)), constant_values=np.nan)


def _reached(lines: "np.ndarray[Any, np.dtype[np.float64]]") -> int:
    """Return up to where any of several lines goes."""
    known = np.flatnonzero(~np.isnan(lines).all(axis=0))
    return int(known[-1]) + 1 if len(known) else 0


def _columns(rows: Sequence[Row]) -> tuple[Any, Any]:
    return (
        np.array([row.state_of_quantization for row in rows]),
        np.array([row.relative_accuracy for row in rows]),
    )


def _uniform(run: Run) -> list[Uniform]:
    return [
        (each.bitwidths[0], run.state_of_quantization(each.bitwidths), each.found.relative_accuracy)
        for each in run.candidates
        if each.kind == "uniform"
    ]


def _legend(legend: Any) -> None:
    legend.get_frame().set(edgecolor="none", facecolor="white")
    for text in legend.get_texts():
        text.set_color(INK)


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
