"""The picture of the transfer."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.compare import statistics

Floats = NDArray[np.float64]

_COLOURS = {
    "transfer": "#d62728",
    "transfer/improvement": "#ff9896",
    "transfer/untrained": "#8c564b",
    "transfer/published": "#9467bd",
    "gp": "#1f77b4",
    "local": "#ff7f0e",
    "ppo": "#2ca02c",
    "random": "0.35",
}


def draw(groups: Mapping[str, Mapping[str, Floats]], path: Path) -> None:
    """Draw the normalised best so far, with intervals, a panel a group.

    Args:
        groups: By title, of each agent the best after each evaluation, shape `(runs, problems, evaluations)`.
        path: The PNG file.
    """
    figure = Figure(figsize=(9.0, 4.6 * len(groups)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(groups), 1))
    for axis, (title, best) in zip(panels, groups.items(), strict=True):
        for label, curves in best.items():
            numbers = np.arange(1, curves.shape[2] + 1)
            middle, low, high = statistics.band(curves, statistic=statistics.mean)
            trained = label == "transfer"
            axis.plot(numbers, middle, color=_COLOURS[label], linewidth=2.8 if trained else 1.5, label=label)
            axis.fill_between(numbers, low, high, color=_COLOURS[label], alpha=0.12, linewidth=0)
        axis.set_title(f"{title}: mean over {curves.shape[1]} problems, 95 % intervals", fontsize=10, loc="left")
        axis.set_ylabel("best so far (0 random, 1 optimum)")
        axis.set_ylim(0.0, 1.02)
        axis.set_xlim(1, numbers[-1])
        axis.set_xticks([1, 5, 10, 15, 20])
        axis.axhline(1.0, color="0.3", linewidth=0.8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="lower right", ncols=2)
    panels[-1].set_xlabel("distinct evaluations (retrainings paid for)")
    figure.savefig(path, dpi=110)
