"""The pictures of a run."""

import csv
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from agents.run_folder import RunFolder, spaced
from agents.tracking import read_episodes
from releq_env import ReLeQEnv

_WINDOW = 32  # episodes of the moving average


def draw(folder: RunFolder, env: ReLeQEnv, candidates: Sequence[Mapping[str, Any]] = ()) -> None:
    """Draw `episodes.png`, `probabilities.png` and `pareto.png` from what the folder holds."""
    episodes = read_episodes(folder)
    if episodes:
        _episodes(folder, episodes)
    if (folder.path / "probabilities.csv").exists():
        _probabilities(folder, env)
    if folder.rows:
        _pareto(folder, env, candidates)


def _episodes(folder: RunFolder, episodes: Sequence[Mapping[str, str]]) -> None:
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
    figure.savefig(folder.path / "episodes.png", dpi=120)


def _probabilities(folder: RunFolder, env: ReLeQEnv) -> None:
    with (folder.path / "probabilities.csv").open() as file:
        rows = list(csv.DictReader(file))
    actions = env.action_space.n
    names = (
        [f"{bits} bit{'s' * (bits > 1)}" for bits in env.bitwidths]
        if env.action_mode == "flexible"
        else ["down", "keep", "up"]
    )
    columns = 2
    figure = Figure(figsize=(9, 2.4 * -(-len(env.layers) // columns) + 0.6), layout="constrained")
    axes = figure.subplots(-(-len(env.layers) // columns), columns, sharex=True, sharey=True, squeeze=False).flat
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.95, actions))
    for index, axis in enumerate(axes):
        if index >= len(env.layers):
            axis.set_visible(False)
            continue
        mine = [row for row in rows if int(row["layer"]) == index]
        episodes = [int(row["episode"]) for row in mine]
        for action in range(actions):
            axis.plot(episodes, [float(row[f"p{action}"]) for row in mine], color=colours[action], label=names[action])
        axis.set_title(env.layers[index].name, fontsize=10)
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    figure.supxlabel("episode")
    figure.supylabel("probability")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    figure.savefig(folder.path / "probabilities.png", dpi=120)


def _pareto(folder: RunFolder, env: ReLeQEnv, candidates: Sequence[Mapping[str, Any]]) -> None:
    figure = Figure(figsize=(7, 5), layout="constrained")
    axis = figure.subplots()
    q = np.array([row["state_of_quantization"] for row in folder.rows])
    a = np.array([row["relative_accuracy"] for row in folder.rows])
    axis.plot(q, a, ".", color="0.7", markersize=4, label=f"{len(q)} evaluated assignments")
    front = _front(q, a)
    axis.step(q[front], a[front], where="post", color="tab:blue", label="Pareto front")
    uniform = [candidate for candidate in candidates if candidate["kind"] == "uniform"]
    if uniform:
        cost = [env.state_of_quantization(candidate["bitwidths"]) for candidate in uniform]
        axis.plot(
            cost, [candidate["relative_accuracy"] for candidate in uniform], "s", color="tab:orange", label="uniform"
        )
        for x, candidate in zip(cost, uniform, strict=True):
            axis.annotate(
                str(candidate["bitwidths"][0]),
                (x, candidate["relative_accuracy"]),
                textcoords="offset points",
                xytext=(0, 7),
                ha="center",
                fontsize=8,
            )
    best = folder.best
    assert best is not None
    axis.plot(
        best["state_of_quantization"],
        best["relative_accuracy"],
        "*",
        color="tab:red",
        markersize=14,
        label=f"best: {spaced(best['bitwidths'])}",
    )
    axis.axhline(
        env.min_relative_accuracy,
        color="0.4",
        linestyle="--",
        linewidth=1,
        label=f"constraint {env.min_relative_accuracy:g}",
    )
    # Collapsed networks would squeeze the part that matters into the top edge.
    shown = np.concatenate([a, [candidate["relative_accuracy"] for candidate in uniform]])
    low = max(float(shown.min()), 1.0 - 6.0 * (1.0 - env.min_relative_accuracy))
    margin = max(0.08 * (float(shown.max()) - low), 1e-3)
    axis.set_ylim(low - margin, float(shown.max()) + margin)
    axis.set_xlabel("State of Quantization q (cost relative to the largest bitwidth)")
    axis.set_ylabel("State of Relative Accuracy a (validation)")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    figure.savefig(folder.path / "pareto.png", dpi=120)


def _front(q: np.ndarray[Any, Any], a: np.ndarray[Any, Any]) -> list[int]:
    """Return the indices of the assignments that no other one beats in both, by rising cost."""
    front: list[int] = []
    for index in np.lexsort((-a, q)):
        if not front or a[index] > a[front[-1]]:
            front.append(int(index))
    return front
