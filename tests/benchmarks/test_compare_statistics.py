import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from benchmarks.compare import curves, statistics
from releq_env.errors import ReLeQError

few = st.integers(-4, 8).map(lambda value: value / 8)  # ties


def scores(problems: int = 3) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, 6), st.just(problems))
    return shapes.flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=few))


@given(scores())
def test_interquartile_mean_is_scipys_trimmed_mean(values):
    assert statistics.interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=None))


@given(scores(), scores())
def test_improvement_is_what_counting_pairs_gives(first, second):
    wins = [
        np.mean([(a > b) + 0.5 * (a == b) for a, b in itertools.product(first[:, problem], second[:, problem])])
        for problem in range(3)
    ]
    assert statistics.improvement(first, second) == pytest.approx(np.mean(wins))
    assert statistics.improvement(first, second) + statistics.improvement(second, first) == pytest.approx(1.0)


def test_improvement_is_mann_and_whitneys():
    generator = np.random.default_rng(3)
    first, second = generator.integers(6, size=(20, 1)) / 6, generator.integers(6, size=(15, 1)) / 6
    u = stats.mannwhitneyu(first[:, 0], second[:, 0]).statistic
    assert statistics.improvement(first, second) == pytest.approx(u / (20 * 15))


@given(scores())
def test_profile_counts(values):
    thresholds = [-1.0, 0.0, 0.25, 2.0]
    expected = [(values > threshold).mean() for threshold in thresholds]
    assert statistics.profile(values, thresholds) == pytest.approx(expected)


@given(scores())
def test_optimality_gap_ignores_what_is_above_the_optimum(values):
    assert statistics.optimality_gap(values) == pytest.approx(np.mean([max(1.0 - min(v, 1.0), 0) for v in values.flat]))
    assert statistics.optimality_gap(np.maximum(values, 1.0)) == 0.0


@given(scores(), st.sampled_from([statistics.interquartile_mean, statistics.mean, statistics.optimality_gap]))
@settings(max_examples=20)
def test_statistics_of_many_samples_are_those_of_each(values, statistic):
    several = np.stack([values, values[::-1] + 0.5])
    assert statistic(several) == pytest.approx([statistic(each) for each in several])


def test_runs_are_drawn_within_their_problem():
    apart = np.tile([0.0, 10.0, 20.0], (5, 1))  # problems differ, runs do not
    interval = statistics.interval(apart, statistics.mean)
    assert interval == pytest.approx((10.0, 10.0, 10.0))


def test_intervals_are_as_wide_as_the_spread_of_means():
    values = np.random.default_rng(0).normal(size=(40, 6))
    interval = statistics.interval(values, statistics.mean)
    error = np.sqrt((values.var(axis=0) / 40).sum()) / 6
    assert interval.low < interval.value < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_intervals_are_a_function_of_the_seed():
    values = np.random.default_rng(0).normal(size=(5, 2))
    assert statistics.interval(values) == statistics.interval(values)
    assert statistics.interval(values) != statistics.interval(values, seed=1)


def test_intervals_of_two():
    generator = np.random.default_rng(0)
    low, high = generator.normal(size=(20, 4)), generator.normal(size=(10, 4)) + 3.0
    better = statistics.improvement_interval(high, low)
    assert 0.9 < better.low <= better.value <= better.high <= 1.0
    apart = statistics.difference_interval(high, low, statistics.mean)
    assert apart.low < 3.0 < apart.high
    alike = statistics.difference_interval(low[:10], low[10:])
    assert alike.low < 0.0 < alike.high


def test_a_band_is_the_interval_of_every_point():
    values = np.random.default_rng(0).normal(size=(8, 3, 5))
    middle, low, high = statistics.band(values, draws=2000)
    for point in range(5):
        interval = statistics.interval(values[:, :, point])
        assert middle[point] == pytest.approx(interval.value)
        assert (low[point], high[point]) == pytest.approx((interval.low, interval.high))


def test_new_runs_are_where_they_are_predicted_to_be():
    generator = np.random.default_rng(2)
    within = []
    for _ in range(60):
        known, new = generator.normal(size=(12, 4)), generator.normal(size=(3, 4))
        predicted = statistics.prediction_interval(known, 3, draws=300)
        within.append(predicted.low <= statistics.interquartile_mean(new) <= predicted.high)
        assert not predicted.low <= statistics.interquartile_mean(new + 3.0) <= predicted.high
    assert np.mean(within) > 0.85


def test_clear_of():
    low, middle, high = (statistics.Interval(v, v - 0.1, v + 0.1) for v in (0.1, 0.25, 0.5))
    assert high.clear_of(low)
    assert not middle.clear_of(low)
    assert not low.clear_of(high)


def test_rliable_agrees():
    metrics = pytest.importorskip("rliable.metrics")
    library = pytest.importorskip("rliable.library")
    generator = np.random.default_rng(1)
    first, second = generator.integers(12, size=(15, 5)) / 10, generator.integers(9, size=(20, 5)) / 10
    assert statistics.interquartile_mean(first) == pytest.approx(metrics.aggregate_iqm(first))
    assert statistics.optimality_gap(first) == pytest.approx(metrics.aggregate_optimality_gap(first))
    assert statistics.improvement(first, second) == pytest.approx(metrics.probability_of_improvement(first, second))
    thresholds = np.linspace(0.05, 1.05, 21)
    profiles, _ = library.create_performance_profile({"first": first}, thresholds, reps=2)
    assert statistics.profile(first, thresholds) == pytest.approx(profiles["first"])
    _, bounds = library.get_interval_estimates(
        {"first": first}, lambda values: np.array([metrics.aggregate_iqm(values)]), reps=4000
    )
    ours = statistics.interval(first)
    assert (ours.low, ours.high) == pytest.approx(bounds["first"][:, 0], abs=0.015)


bests = st.lists(st.integers(-3, 9), min_size=1, max_size=30).map(lambda each: np.maximum.accumulate(each) / 7)


@given(bests)
def test_a_curve_is_what_it_was_made_of(values):
    curve = curves.unpack(curves.pack(curves.improvements(values)))
    numbers = np.arange(1, len(values) + 1)
    assert curves.at(curve, numbers) == pytest.approx(values)
    assert curves.area(curve, len(values)) == pytest.approx(np.mean(values))
    assert curves.area(curve, 40) == pytest.approx(np.mean([*values, *[values[-1]] * (40 - len(values))]))
    for reward in (-1.0, 0.5, 2.0):
        reached = np.flatnonzero(values >= reward)
        assert curves.first_at(curve, reward) == (reached[0] + 1 if len(reached) else None)


@pytest.mark.parametrize("text", ["", "1", "0:1", "2:1 1:2", "1:1 1:2", "a:b", "1:2:3"])
def test_what_is_no_curve(text):
    with pytest.raises(ReLeQError, match="is no curve"):
        curves.unpack(text)
