"""What the fidelity benchmark's accuracies say, and its table."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.fidelity.plain import Pair
from releq_env.report.markdown import table

_POINTS = 100.0
_LARGEST_MEAN = 0.1
_SMALLEST_RANK = 0.98

_Both = tuple[NDArray[np.float64], NDArray[np.float64]]


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


def in_all_seeds(pairs: Sequence[Pair]) -> list[Pair]:
    """Return a task's pairs of those assignments that have all seeds which any of them has.

    Raises:
        ValueError: If these are too few for statistics.
    """
    of_assignment: dict[tuple[int, ...], set[int]] = {}
    for pair in pairs:
        of_assignment.setdefault(pair.bitwidths, set()).add(pair.seed)
    seeds = set[int]().union(*of_assignment.values())
    whole = {bitwidths for bitwidths, has in of_assignment.items() if has == seeds}
    if len(whole) < 3 or len(seeds) < 2:
        raise ValueError(f"{len(whole)} assignments with {len(seeds)} seeds; the statistics take three and two")
    return [pair for pair in pairs if pair.bitwidths in whole]


def statistics_of(pairs: Sequence[Pair]) -> Fidelity:
    """Return the statistics of a task's pairs: at least three assignments, each with the same two or more seeds."""
    seeds = sorted({pair.seed for pair in pairs})
    by_seed = [sorted(pair for pair in pairs if pair.seed == seed) for seed in seeds]  # by assignment
    fast = _POINTS * np.array([[pair.fast for pair in part] for part in by_seed])
    plain = _POINTS * np.array([[pair.plain for pair in part] for part in by_seed])
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


def _rank(pairs: Iterable[_Both]) -> float:
    return float(np.mean([stats.spearmanr(one, other).statistic for one, other in pairs]))


def _spread(pairs: Iterable[_Both]) -> float:
    return float(np.sqrt(np.mean([(one - other).var(ddof=1) for one, other in pairs])))


def markdown(results: Mapping[str, Fidelity]) -> str:
    """Return the table, a line a task."""
    mean = ("mean difference, points", "95 % interval", "met (<= 0.1, or 0 inside)")
    rank = ("Spearman", "met (>= 0.98)", "Spearman of two plain seeds", "Spearman of the seeds' means")
    spread = ("spread, points", "spread of two plain seeds", "met (<=)")
    header = ("task", "assignments x seeds", *mean, *rank, *spread)
    return table(header, [_cells(task, found) for task, found in results.items()])


def _cells(task: str, found: Fidelity) -> list[str]:
    mean_met, rank_met, spread_met = ("yes" if met else "no" for met in found.met)
    least, most = found.interval
    mean = [f"{found.mean:+.3f}", f"{least:+.3f} to {most:+.3f}", mean_met]
    rank = [f"{found.rank:.3f}", rank_met, f"{found.seed_rank:.3f}", f"{found.mean_rank:.3f}"]
    spread = [f"{found.spread:.3f}", f"{found.seed_spread:.3f}", spread_met]
    return [task, f"{found.assignments} x {found.seeds}", *mean, *rank, *spread]
