"""What the fidelity benchmark's accuracies say, and its table."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

_POINTS = 100.0
_LARGEST_MEAN = 0.1
_SMALLEST_RANK = 0.98


class Fidelity(NamedTuple):
    """Fast against plain, differences in percentage points.

    Attributes:
        assignments: How many.
        mean: Of fast less plain.
        interval: The mean's 95 % interval (Student's t).
        rank: Spearman's correlation of fast and plain.
        spread: Standard deviation of fast less plain.
        seed_rank: Spearman's correlation of two retraining seeds, both fast.
        seed_spread: Standard deviation of one seed less the other, both fast.
    """

    assignments: int
    mean: float
    interval: tuple[float, float]
    rank: float
    spread: float
    seed_rank: float
    seed_spread: float

    @property
    def met(self) -> tuple[bool, bool, bool]:
        """Whether mean, rank and spread are as wanted: no bias, the same order, no more than seeds differ."""
        unbiased = abs(self.mean) <= _LARGEST_MEAN or self.interval[0] <= 0.0 <= self.interval[1]
        return unbiased, self.rank >= _SMALLEST_RANK, self.spread <= self.seed_spread


def statistics_of(rows: Sequence[Mapping[str, Any]]) -> Fidelity:
    """Return the statistics of a task's rows (at least three)."""
    fast, other, plain = (
        _POINTS * np.array([row[key] for row in rows]) for key in ("fast", "fast_other_seed", "plain")
    )
    difference = fast - plain
    mean, spread = float(difference.mean()), float(difference.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(rows) - 1)) * spread / len(rows) ** 0.5
    return Fidelity(
        assignments=len(rows),
        mean=mean,
        interval=(mean - half, mean + half),
        rank=float(stats.spearmanr(fast, plain).statistic),
        spread=spread,
        seed_rank=float(stats.spearmanr(fast, other).statistic),
        seed_spread=float((fast - other).std(ddof=1)),
    )


def markdown(results: Mapping[str, Fidelity]) -> str:
    """Return the table, a line a task."""
    lines = [
        "| task | assignments | mean difference, points | 95 % interval | met (<= 0.1, or 0 inside) "
        "| Spearman | met (>= 0.98) | Spearman of two seeds | spread, points | spread of two seeds | met (<=) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for task, found in results.items():
        mean_met, rank_met, spread_met = ("yes" if met else "no" for met in found.met)
        cells = (
            task,
            str(found.assignments),
            f"{found.mean:+.3f}",
            f"{found.interval[0]:+.3f} to {found.interval[1]:+.3f}",
            mean_met,
            f"{found.rank:.4f}",
            rank_met,
            f"{found.seed_rank:.4f}",
            f"{found.spread:.3f}",
            f"{found.seed_spread:.3f}",
            spread_met,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
