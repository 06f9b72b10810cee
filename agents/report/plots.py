"""The pictures of a run."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from agents.report.files import explained
from agents.report.summary import Candidate
from agents.report.text import MONITOR, PROBABILITIES, spaced
from releq_env.problem import Problem

_WINDOW = 32  # episodes of the moving average


def draw(
    path: Path,
    problem: Problem,
    rows: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    candidates: Sequence[Candidate] = (),
    action_mode: str = "flexible",
) -> None:
    """Draw `pareto.png`, and `episodes.png` and `probabilities.png` where the folder has what they show.

    Args:
        path: The run's folder.
        problem: What is searched.
        rows: Of `evaluations.csv`.
        best: The row of the best assignment.
        candidates: What was confirmed at the end.
        action_mode: Of the environments: what the actions mean.
    """
    if (path / MONITOR).exists():
        _episodes(path, _read(path / MONITOR, header_lines=1))
    if (path / PROBABILITIES).exists():
        _probabilities(path, problem, action_mode)
    _pareto(path, problem, rows, best, candidates)


def _read(path: Path, header_lines: int = 0) -> list[dict[str, str]]:
    with path.open() as file:
        for _ in range(header_lines):
            file.readline()
        return list(csv.DictReader(file))


def _episodes(path: Path, episodes: Sequence[Mapping[str, str]]) -> None:
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    columns = (
        ("r", "reward"),
        ("state_of_quantization", "State of\nQuantization q"),
        ("relative_accuracy", "State of\nRelative Accuracy a"),
    )
    for axis, (column, label) in zip(axes, columns, strict=True):
        values = np.array([float(row[column]) for row in episodes])
        axis.plot(np.arange(1, len(values) + 1), values, ".", color="0.75", markersize=3)
        window = min(_WINDOW, len(values))
        mean = np.convolve(values, np.ones(window) / window, mode="valid")
        axis.plot(np.arange(window, len(values) + 1), mean, color="tab:blue", label=f"mean of {window} episodes")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right")
    axes[-1].set_xlabel("episode")
    _save(figure, path / "episodes.png")


def _probabilities(path: Path, problem: Problem, action_mode: str) -> None:
    rows = _read(path / PROBABILITIES)
    probabilities = [column for column in rows[0] if column.startswith("p")]
    columns = 2
    lines = -(-problem.num_layers // columns)
    figure = Figure(figsize=(9, 2.4 * lines + 0.6), layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.95, len(probabilities)))
    names = [names_of_actions(problem, layer, action_mode) for layer in range(problem.num_layers)]
    alike = all(of_layer == names[0] for of_layer in names)
    for index, axis in enumerate(axes):
        if index >= problem.num_layers:
            axis.set_visible(False)
            continue
        mine = [row for row in rows if int(row["layer"]) == index]
        episodes = [int(row["episode"]) for row in mine]
        values = np.array([[float(row[column]) for column in probabilities] for row in mine])
        last = len(names[index]) - 1
        values[:, last] = values[:, last:].sum(axis=1)  # an action beyond the last choice means the last choice
        for of_action, colour, name in zip(values.T, colours, names[index], strict=False):
            axis.plot(episodes, of_action, color=colour, label=name)
        axis.set_title(problem.layers[index].name, fontsize=10)
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
        axis.tick_params(labelbottom=index + columns >= problem.num_layers)  # nothing below
        if not alike:
            axis.legend(fontsize=8, loc="center right")
    figure.supxlabel("episode")
    figure.supylabel("probability")
    if alike:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    _save(figure, path / "probabilities.png")


def names_of_actions(problem: Problem, layer: int, action_mode: str) -> list[str]:
    """Return what the actions on a layer are called, up to its last choice."""
    if action_mode == "restricted":
        return ["down", "keep", "up"]
    return [f"{bits} bit{'s' * (bits > 1)}" for bits in problem.choices[layer]]


def _pareto(
    path: Path,
    problem: Problem,
    rows: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    candidates: Sequence[Candidate],
) -> None:
    figure = Figure(figsize=(7, 5), layout="constrained")
    axis = figure.subplots()
    q = np.array([row["state_of_quantization"] for row in rows])
    a = np.array([row["relative_accuracy"] for row in rows])
    axis.plot(q, a, ".", color="0.7", markersize=4, label=f"{len(q)} evaluated assignments")
    front = _front(q, a)
    axis.step(q[front], a[front], where="post", color="tab:blue", label="Pareto front")
    uniform = [candidate.found for candidate in candidates if candidate.kind == "uniform"]
    if uniform:
        cost = [problem.state_of_quantization(evaluation.bitwidths) for evaluation in uniform]
        relative = [evaluation.relative_accuracy for evaluation in uniform]
        axis.plot(cost, relative, "s", color="tab:orange", label="uniform")
        for x, y, evaluation in zip(cost, relative, uniform, strict=True):
            axis.annotate(
                str(evaluation.bitwidths[0]),
                (x, y),
                textcoords="offset points",
                xytext=(0, 7),
                ha="center",
                fontsize=8,
            )
    axis.plot(
        best["state_of_quantization"],
        best["relative_accuracy"],
        "*",
        color="tab:red",
        markersize=14,
        label=f"best: {spaced(best['bitwidths'])}",
    )
    least = problem.min_relative_accuracy
    axis.axhline(least, color="0.4", linestyle="--", linewidth=1, label=f"constraint {least:g}")
    if problem.max_cost is not None:
        axis.axvline(problem.max_cost, color="0.4", linestyle=":", linewidth=1, label=f"max_cost {problem.max_cost:g}")
    # Collapsed networks would squeeze the part that matters into the top edge.
    shown = np.concatenate([a, [evaluation.relative_accuracy for evaluation in uniform]])
    low = max(
        float(shown.min()), min(1.0, float(best["relative_accuracy"]) + 3.0 * (1.0 - least)) - 6.0 * (1.0 - least)
    )
    margin = max(0.08 * (float(shown.max()) - low), 1e-3)
    axis.set_ylim(low - margin, float(shown.max()) + margin)
    axis.set_xlabel("State of Quantization q (cost relative to the dearest assignment)")
    axis.set_ylabel("State of Relative Accuracy a (validation)")
    axis.grid(alpha=0.3)
    axis.legend(loc="best")
    _save(figure, path / "pareto.png")


def _save(figure: Figure, path: Path) -> None:
    with explained(path):
        figure.savefig(path, dpi=120)


def _front(q: np.ndarray[Any, Any], a: np.ndarray[Any, Any]) -> list[int]:
    """Return the indices of the assignments that no other one beats in both, by rising cost."""
    front: list[int] = []
    for index in np.lexsort((-a, q)):
        if not front or a[index] > a[front[-1]]:
            front.append(int(index))
    return front
