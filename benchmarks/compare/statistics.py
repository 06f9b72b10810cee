"""The statistics of a comparison: pure functions of arrays of normalised scores.

Scores have the shape `(runs, problems)`, a run a seed. They are those that Agarwal et al. (Deep reinforcement learning
at the edge of the statistical precipice, 2021) recommend, and agree with their library rliable. Intervals are
percentiles of a stratified bootstrap: runs are drawn anew, with replacement, in each problem by itself.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Scores, shape `(..., runs, problems)` -> a number each, shape `(...)`."""

DRAWS = 2000
_AT_ONCE = 4_000_000  # scores drawn at once: what fits a cache matters more than the number of calls


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def clear_of(self, other: "Interval") -> bool:
        """Whether the whole interval is above the whole other one."""
        return self.low > other.high


def interquartile_mean(scores: Floats) -> Floats:
    """Return the mean of the middle half of all scores, shape `(...)`.

    As of `scipy.stats.trim_mean`: a quarter of them, rounded down, is cut at either end.

    Args:
        scores: Shape `(..., runs, problems)`.
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    middle: Floats = flat[..., cut : flat.shape[-1] - cut].mean(axis=-1)
    return middle


def mean(scores: Floats) -> Floats:
    """Return the mean of all scores, shape `(...)`."""
    found: Floats = scores.mean(axis=(-2, -1))
    return found


def optimality_gap(scores: Floats, target: float = 1.0) -> Floats:
    """Return how far scores fall short of a target on average, shape `(...)`; what is above it counts as it.

    Args:
        scores: Shape `(..., runs, problems)`.
        target: The score that is wanted; 1 is the optimum.
    """
    gap: Floats = target - np.minimum(scores, target).mean(axis=(-2, -1))
    return gap


def profile(scores: Floats, thresholds: ArrayLike) -> Floats:
    """Return the share of runs with a score above each threshold, shape `(..., thresholds)`: a performance profile.

    Args:
        scores: Shape `(..., runs, problems)`.
        thresholds: Shape `(thresholds,)`.
    """
    above = scores[..., None] > np.asarray(thresholds, dtype=np.float64)
    shares: Floats = above.mean(axis=(-3, -2))
    return shares


def improvement(first: Floats, second: Floats) -> Floats:
    """Return the probability that a run of the first is better than one of the second, shape `(...)`.

    Ties count one half. Averaged over the problems, each of the same weight: Mann and Whitney's U over the number of
    pairs.

    Args:
        first: Shape `(..., runs, problems)`.
        second: Shape `(..., other runs, problems)`.
    """
    ours, theirs = first[..., :, None, :], second[..., None, :, :]
    wins = (ours > theirs).mean(axis=(-3, -2)) + 0.5 * (ours == theirs).mean(axis=(-3, -2))
    probability: Floats = wins.mean(axis=-1)
    return probability


def resampled(scores: Floats, generator: np.random.Generator, draws: int = DRAWS) -> Iterator[Floats]:
    """Yield bootstrap samples in batches, each of shape `(batch, runs, problems)`, `draws` in all.

    Args:
        scores: Shape `(runs, problems)`, or `(runs, problems, more)`, where what is more is drawn together.
        generator: Draws.
        draws: How many.
    """
    runs, problems = scores.shape[:2]
    batch = max(_AT_ONCE // scores.size, 1)
    for begin in range(0, draws, batch):
        shape = (min(batch, draws - begin), runs, problems)
        yield scores[generator.integers(runs, size=shape), np.arange(problems)]


def interval(scores: Floats, statistic: Statistic = interquartile_mean, seed: int = 0, draws: int = DRAWS) -> Interval:
    """Return a statistic of scores with its 95 % interval.

    Args:
        scores: Shape `(runs, problems)`.
        statistic: Of it.
        seed: Of the bootstrap.
        draws: Its samples.
    """
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([statistic(sample) for sample in resampled(scores, generator, draws)])
    return _interval(float(statistic(scores)), drawn)


def improvement_interval(first: Floats, second: Floats, seed: int = 0, draws: int = DRAWS) -> Interval:
    """Return the probability of improvement with its 95 % interval.

    Args:
        first: Shape `(runs, problems)`.
        second: Shape `(other runs, problems)`.
        seed: Of the bootstrap.
        draws: Its samples.
    """
    return _of_both(improvement, first, second, seed, draws)


def difference_interval(
    first: Floats, second: Floats, statistic: Statistic = interquartile_mean, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """Return how much a statistic of the first is above that of the second, with its 95 % interval.

    Args:
        first: Shape `(runs, problems)`.
        second: Shape `(other runs, problems)`.
        statistic: Of each.
        seed: Of the bootstrap.
        draws: Its samples.
    """
    return _of_both(lambda ours, theirs: statistic(ours) - statistic(theirs), first, second, seed, draws)


def prediction_interval(
    scores: Floats, runs: int, statistic: Statistic = interquartile_mean, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """Return between what bounds a statistic of so many new runs is to be expected, in 95 of 100 cases.

    New runs are drawn from a bootstrap sample, so that what is not known of the distribution counts, too.

    Args:
        scores: Those that are known, shape `(known runs, problems)`.
        runs: How many new ones.
        statistic: Of them.
        seed: Of the bootstrap.
        draws: Its samples.
    """
    generator = np.random.default_rng(seed)
    drawn = []
    for sample in resampled(scores, generator, draws):
        rows = generator.integers(len(scores), size=(len(sample), runs, scores.shape[1]))
        drawn.append(statistic(np.take_along_axis(sample, rows, axis=1)))
    return _interval(float(statistic(scores)), np.concatenate(drawn))


def band(
    scores: Floats, seed: int = 0, draws: int = 500, statistic: Statistic = interquartile_mean
) -> tuple[Floats, Floats, Floats]:
    """Return a statistic at every point of curves, and the bounds of its 95 % interval, each of shape `(points,)`.

    Args:
        scores: Shape `(runs, problems, points)`; a run is drawn with its whole curve.
        seed: Of the bootstrap.
        draws: Its samples.
        statistic: Of the scores at a point.
    """
    generator = np.random.default_rng(seed)
    moved = np.moveaxis(scores, 2, 0)
    samples = [statistic(np.moveaxis(sample, 3, 1)) for sample in resampled(scores, generator, draws)]
    low, high = np.percentile(np.concatenate(samples), [2.5, 97.5], axis=0)
    return statistic(moved), low, high


def _of_both(
    statistic: Callable[[Floats, Floats], Floats], first: Floats, second: Floats, seed: int, draws: int
) -> Interval:
    ours, theirs = (
        np.concatenate(list(resampled(scores, np.random.default_rng([seed, which]), draws)))
        for which, scores in enumerate((first, second))
    )
    pairs = first.shape[0] * second.shape[0] * first.shape[1]
    batch = max(_AT_ONCE // pairs, 1)
    drawn = [statistic(ours[at : at + batch], theirs[at : at + batch]) for at in range(0, draws, batch)]
    return _interval(float(statistic(first, second)), np.concatenate(drawn))


def _interval(value: float, drawn: Floats) -> Interval:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high))
