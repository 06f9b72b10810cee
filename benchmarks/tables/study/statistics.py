"""Intervals of means and of rank correlations."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_RESAMPLES = 2000


class Interval(NamedTuple):
    """An estimate and its 95 % interval, NaN where there are too few values for one."""

    value: float
    low: float
    high: float


def mean(values: Sequence[float]) -> Interval:
    """Return the mean of independent values with Student's interval."""
    centre = float(np.mean(values))
    if len(values) < 2:
        return Interval(centre, np.nan, np.nan)
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return Interval(centre, centre - half, centre + half)


def noise(groups: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation within groups, root mean square over those with at least two values."""
    variances = [float(np.var(group, ddof=1)) for group in groups if len(group) > 1]
    return float(np.mean(variances)) ** 0.5 if variances else float("nan")


def spearman(short: Sequence[float], long: Sequence[float]) -> Interval:
    """Return the rank correlation of paired values, with an interval by bootstrap over the pairs."""
    pairs = np.array([short, long], dtype=np.float64)
    count = pairs.shape[1]
    if count < 4:
        return Interval(np.nan, np.nan, np.nan)
    picks = np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))
    drawn = _correlations(pairs[:, picks])
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(float(_correlations(pairs[:, None, :])[0]), float(low), float(high))


def _correlations(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's correlation of pairs of shape `(2, samples, count)`, one a sample."""
    x, y = stats.rankdata(pairs, axis=-1) - (pairs.shape[-1] + 1) / 2
    with np.errstate(invalid="ignore"):  # all values equal: NaN
        return np.vecdot(x, y) / np.sqrt(np.vecdot(x, x) * np.vecdot(y, y))
