"""What the fidelity benchmark's accuracies say, and its table."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_POINTS = 100.0
_LARGEST_MEAN = 0.1
_SMALLEST_RANK = 0.98

_Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


class Fidelity(NamedTuple):
    """Fast against plain, differences in percentage points.

    Attributes:
        assignments: How many.
        seeds: Retraining seeds of each, fast and plain.
        mean: Of fast less plain, over assignments and seeds.
        interval: The mean's 95 % interval over the assignments (Student's t).
        rank: Spearman's correlation of fast and plain with the same seed, mean over the seeds.
        seed_rank: Likewise of two seeds, both plain, mean over the pairs: what retraining's noise allows.
        mean_rank: Likewise of the means over the seeds, fast and plain.
        spread: Standard deviation of fast less plain with the same seed (root mean square over the seeds).
        seed_spread: Likewise of one seed less another, both plain.
    """

    assignments: int
    seeds: int
    mean: float
    interval: tuple[float, float]
    rank: float
    seed_rank: float
    mean_rank: float
    spread: float
    seed_spread: float

    @property
    def met(self) -> tuple[bool, bool, bool]:
        """Whether mean, rank and spread are as wanted: no bias, the same order, no more than seeds differ."""
        unbiased = abs(self.mean) <= _LARGEST_MEAN or self.interval[0] <= 0.0 <= self.interval[1]
        return unbiased, self.rank >= _SMALLEST_RANK, self.spread <= self.seed_spread


def statistics_of(rows: Sequence[Mapping[str, Any]]) -> Fidelity:
    """Return the statistics of a task's rows: at least three assignments, each with the same two or more seeds."""
    seeds = sorted({row["seed"] for row in rows})
    by_seed = [sorted((row for row in rows if row["seed"] == seed), key=lambda row: row["bitwidths"]) for seed in seeds]
    fast, plain = (_POINTS * np.array([[row[key] for row in part] for part in by_seed]) for key in ("fast", "plain"))
    difference = (fast - plain).mean(axis=0)
    mean = float(difference.mean())
    half = float(stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference))
    same_seed = list(zip(fast, plain, strict=True))
    two_seeds = list(combinations(plain, 2))
    return Fidelity(
        assignments=len(difference),
        seeds=len(seeds),
        mean=mean,
        interval=(mean - half, mean + half),
        rank=_rank(same_seed),
        seed_rank=_rank(two_seeds),
        mean_rank=_rank([(fast.mean(axis=0), plain.mean(axis=0))]),
        spread=_spread(same_seed),
        seed_spread=_spread(two_seeds),
    )


def _rank(pairs: Iterable[_Pair]) -> float:
    return float(np.mean([stats.spearmanr(one, other).statistic for one, other in pairs]))


def _spread(pairs: Iterable[_Pair]) -> float:
    return float(np.sqrt(np.mean([(one - other).var(ddof=1) for one, other in pairs])))


def markdown(results: Mapping[str, Fidelity]) -> str:
    """Return the table, a line a task."""
    lines = [
        "| task | assignments x seeds | mean difference, points | 95 % interval | met (<= 0.1, or 0 inside) "
        "| Spearman | met (>= 0.98) | Spearman of two plain seeds | Spearman of the seeds' means "
        "| spread, points | spread of two plain seeds | met (<=) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for task, found in results.items():
        mean_met, rank_met, spread_met = ("yes" if met else "no" for met in found.met)
        cells = (
            task,
            f"{found.assignments} x {found.seeds}",
            f"{found.mean:+.3f}",
            f"{found.interval[0]:+.3f} to {found.interval[1]:+.3f}",
            mean_met,
            f"{found.rank:.3f}",
            rank_met,
            f"{found.seed_rank:.3f}",
            f"{found.mean_rank:.3f}",
            f"{found.spread:.3f}",
            f"{found.seed_spread:.3f}",
            spread_met,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
