"""What is measured once, counted, remembered, told and kept, over a source that trains nothing."""

import copy
import pickle
import re
import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from releq_env.errors import ReLeQError
from releq_env.evaluation import BudgetExhausted, Evaluation, EvaluationCache, Evaluator, FunctionSource, Source
from releq_env.evaluation.cache import Keys
from releq_env.evaluation.live import LiveSource, live_source
from releq_env.problem import Problem
from releq_env.workers.waiting import Assignment, Measured, Waiting
from tests.fakes import FULL_PRECISION, FakeSource, smooth_accuracy


def evaluator_of(path: Path | None, **fingerprint: object) -> tuple[Evaluator, FakeSource]:
    """Return an evaluator of two layers with a file, or without one."""
    source = FakeSource(num_layers=2, fingerprint={"retrain_seed": 0} | fingerprint)
    return Evaluator(source, None if path is None else EvaluationCache(path)), source


def evaluation(bitwidths: Assignment, accuracy: float | None = None) -> Evaluation:
    known = smooth_accuracy(bitwidths) if accuracy is None else accuracy
    return Evaluation(bitwidths, known, known / FULL_PRECISION, 2.0)


class Told:
    """A listener that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        self.told.append((evaluation.bitwidths, retrained))

    def diverged(self) -> None:
        self.told.append("diverged")


def test_all_sources_fulfil_the_protocol() -> None:
    assert isinstance(FakeSource(), Source)
    assert isinstance(FunctionSource(smooth_accuracy, 0.98, 2), Source)
    assert isinstance(live_source("digits"), Source)
    assert not isinstance(evaluator_of(None)[0], Source)


# Remembering and counting


@pytest.mark.parametrize("on_disk", [True, False])
def test_remembers_and_counts(on_disk: bool, tmp_path: Path) -> None:
    evaluator, source = evaluator_of(tmp_path / "cache.sqlite" if on_disk else None)
    first = evaluator.evaluate((2, 4))
    assert first == evaluation((2, 4))
    assert evaluator.evaluate([2, 4]) == first
    evaluator.evaluate((4, 2))
    assert source.calls == [(2, 4), (4, 2)]
    assert evaluator.distinct_evaluations == evaluator.retrained == 2
    evaluator.close()
    evaluator.close()
    assert evaluator.evaluate((2, 4)) == first


def test_a_second_run_retrains_nothing(tmp_path: Path) -> None:
    expected = evaluator_of(tmp_path / "cache.sqlite")[0].evaluate((2, 4))
    again, source = evaluator_of(tmp_path / "cache.sqlite")
    assert again.evaluate((2, 4)) == expected
    assert source.calls == []
    # The search asked for it all the same.
    assert (again.distinct_evaluations, again.retrained) == (1, 0)


def test_another_fingerprint_is_measured_anew(tmp_path: Path) -> None:
    evaluator_of(tmp_path / "cache.sqlite")[0].evaluate((2, 4))
    other, source = evaluator_of(tmp_path / "cache.sqlite", retrain_seed=1)
    other.evaluate((2, 4))
    assert source.calls == [(2, 4)]


def test_memory_only_is_shared_with_nobody(tmp_path: Path) -> None:
    evaluator_of(None)[0].evaluate((2, 4))
    evaluator, source = evaluator_of(None)
    evaluator.evaluate((2, 4))
    assert source.calls == [(2, 4)]
    assert not list(tmp_path.rglob("*.sqlite"))


def test_a_source_without_a_fingerprint_is_kept_in_memory_only(tmp_path: Path) -> None:
    cache = EvaluationCache(tmp_path / "cache.sqlite")
    evaluator = Evaluator(FakeSource(num_layers=2), cache)
    evaluator.evaluate_many([(2, 4), (4, 2)])
    assert evaluator.evaluate((2, 4)) == evaluation((2, 4))
    assert len(cache) == 0
    other = FakeSource(num_layers=2)
    assert Evaluator(other, cache).lookup((2, 4)) is None
    Evaluator(other, cache).evaluate((2, 4))
    assert other.calls == [(2, 4)]


def test_many_in_order_and_repeats_once() -> None:
    evaluator, source = evaluator_of(None)
    results = evaluator.evaluate_many([(4, 2), (2, 4), (4, 2)])
    assert [result.bitwidths for result in results] == [(4, 2), (2, 4), (4, 2)]
    assert source.batches == [[(4, 2), (2, 4)]]
    assert evaluator.evaluate_many([]) == []
    assert evaluator.evaluate_many([(2, 4), (8, 8), (4, 2)])[1].bitwidths == (8, 8)
    assert source.batches[1:] == [[(8, 8)]]


def test_results_are_in_order_whatever_is_ready_first() -> None:
    class Backwards(FakeSource):
        def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
            yield from reversed(list(super().measure(waiting)))

    evaluator = Evaluator(Backwards(num_layers=2))
    wanted = [(2, 4), (4, 2), (8, 8)]
    assert evaluator.evaluate_many(wanted) == list(map(evaluation, wanted))


def test_a_progress_bar_shows_the_time_left_if_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    evaluator, _ = evaluator_of(None)
    evaluator.evaluate_many([(1, 1), (1, 2)])
    assert capsys.readouterr().err == ""
    evaluator.evaluate_many([(1, 1), (2, 4), (4, 2), (2, 4)], progress=True)
    last = capsys.readouterr().err.split("\r")[-1]
    assert re.match(r"retraining: 100%.* 2/2 \[[0-9:]+<[0-9:]+,", last)


def test_looking_up_does_not_count(tmp_path: Path) -> None:
    evaluator, _ = evaluator_of(tmp_path / "cache.sqlite")
    assert evaluator.lookup((2, 4)) is None
    expected = evaluator.evaluate((2, 4))
    other, source = evaluator_of(tmp_path / "cache.sqlite")
    assert other.lookup([2, 4]) == expected
    assert (other.distinct_evaluations, source.calls) == (0, [])


def test_an_interrupted_evaluation_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, source = evaluator_of(tmp_path / "cache.sqlite")

    def interrupted(waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
        yield (8, 8), Measured(0.5, 1.0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(source, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate_many([(8, 8), (2, 4)])
    # What was ready is there, here and in the file; the other one is not.
    assert (evaluator.distinct_evaluations, evaluator.retrained) == (1, 1)
    assert evaluator_of(tmp_path / "cache.sqlite")[0].evaluate((8, 8)).accuracy == 0.5
    assert evaluator.lookup((2, 4)) is None
    assert evaluator.evaluate((2, 4)) == evaluation((2, 4))


def test_an_assignment_of_numpy_integers_is_the_same_assignment() -> None:
    evaluator, source = evaluator_of(None)
    evaluator.evaluate(np.array([2, 4]))
    assert evaluator.evaluate((np.int64(2), np.int8(4))).bitwidths == (2, 4)
    assert source.calls == [(2, 4)]
    assert all(type(bits) is int for bits in source.calls[0])


@pytest.mark.parametrize(
    ("bitwidths", "message"),
    [
        ((2,), r"\(2,\) does not fit; give 2 bitwidths"),
        ((2, 4, 8), r"\(2, 4, 8\) does not fit; give 2 bitwidths"),
        ((), r"\(\) does not fit"),
        ((2.0, 4.0), "is not a list of integers"),
        (["2", "4"], "is not a list of integers"),
        ("24", "is not a list of integers"),
        (24, "is not a list of integers"),
        (None, "is not a list of integers"),
        ((2, None), "is not a list of integers"),
        ((2, [4]), "is not a list of integers"),
        (np.array([2.0, 4.0]), "is not a list of integers"),
        ([2] * 1_000_000, "does not fit; give 2 bitwidths"),
        (["2"] * 1_000_000, "is not a list of integers"),
    ],
    ids=range(13),
)
def test_what_is_no_assignment_gets_one_line(bitwidths: Any, message: str) -> None:
    evaluator, source = evaluator_of(None)
    for ask in (evaluator.evaluate, lambda wrong: evaluator.evaluate_many([(2, 4), wrong])):
        with pytest.raises(ReLeQError, match=message) as raised:
            ask(bitwidths)
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 250
    assert source.calls == []  # not even the one that fits


@pytest.mark.parametrize("bitwidths", [(2, 2, 2), (9, 2, 2, 2), (0, 2, 2, 2), (2.0, 2.0, 2.0, 2.0)])
def test_what_cannot_be_trained_gets_one_line_before_anything_is(bitwidths: Any) -> None:
    evaluator = Problem.from_task("digits", cache=None, retrain_images=32).evaluator
    with pytest.raises(ReLeQError) as raised:
        evaluator.evaluate_many([(2, 2, 2, 2), bitwidths])
    assert "\n" not in str(raised.value)
    assert evaluator.retrained == 0


@pytest.mark.parametrize("accuracy", [1.2, -0.1, float("nan"), None, "0.9", True])
def test_a_function_that_gives_no_accuracy_gets_one_line(accuracy: Any) -> None:
    evaluator = Evaluator(FunctionSource(lambda bitwidths: accuracy, 1.0, 2))
    with pytest.raises(ReLeQError, match=r"the accuracy function returned .* for \(2, 4\); return a number in \[0, 1"):
        evaluator.evaluate((2, 4))
    assert evaluator.distinct_evaluations == 0


# The budget


def test_a_budget_ends_new_questions_only() -> None:
    evaluator, source = evaluator_of(None)
    evaluator.budget = 2
    evaluator.evaluate((2, 4))
    # What the budget allows is measured before the search is told that it ends.
    with pytest.raises(BudgetExhausted, match="budget of 2"):
        evaluator.evaluate_many([(2, 4), (4, 2), (8, 8)])
    assert source.calls == [(2, 4), (4, 2)]
    assert evaluator.evaluate((4, 2)).bitwidths == (4, 2)
    with pytest.raises(BudgetExhausted):
        evaluator.evaluate((8, 8))
    assert evaluator.distinct_evaluations == 2
    evaluator.budget = None
    evaluator.evaluate((8, 8))
    assert evaluator.distinct_evaluations == 3


def test_what_the_cache_knows_counts_against_the_budget_too(tmp_path: Path) -> None:
    evaluator_of(tmp_path / "cache.sqlite")[0].evaluate_many([(2, 4), (4, 2)])
    evaluator, source = evaluator_of(tmp_path / "cache.sqlite")
    evaluator.budget = 1
    evaluator.evaluate((2, 4))
    with pytest.raises(BudgetExhausted):
        evaluator.evaluate((4, 2))
    assert (evaluator.distinct_evaluations, source.calls) == (1, [])


# The listener


def test_a_listener_is_told_of_every_distinct_evaluation_once(tmp_path: Path) -> None:
    evaluator_of(tmp_path / "cache.sqlite")[0].evaluate((2, 4))
    evaluator, _ = evaluator_of(tmp_path / "cache.sqlite")
    told = evaluator.listener = Told()
    evaluator.evaluate_many([(2, 4), (4, 2), (2, 4)])
    evaluator.evaluate((4, 2))
    assert told.told == [((2, 4), False), ((4, 2), True)]


def test_a_listener_is_told_before_the_cache(tmp_path: Path) -> None:
    evaluator, _ = evaluator_of(tmp_path / "cache.sqlite")
    assert evaluator.cache is not None
    kept = []

    class Looks(Told):
        def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
            kept.append(len(EvaluationCache(tmp_path / "cache.sqlite")))

    evaluator.listener = Looks()
    evaluator.evaluate_many([(2, 4), (4, 2)])
    assert kept == [0, 1]
    assert len(evaluator.cache) == 2


def test_a_listener_that_fails_loses_nothing(tmp_path: Path) -> None:
    class Fails(Told):
        def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
            raise OSError("no space left on device")

    evaluator, source = evaluator_of(tmp_path / "cache.sqlite")
    evaluator.listener = Fails()
    with pytest.raises(OSError, match="no space"):
        evaluator.evaluate((2, 4))
    evaluator.listener = None
    assert evaluator.evaluate((2, 4)) == evaluation((2, 4))
    assert evaluator_of(tmp_path / "cache.sqlite")[0].lookup((2, 4)) == evaluation((2, 4))
    assert source.calls == [(2, 4)]


# A run that is repeated from its records


def test_what_was_recorded_costs_nothing_and_counts_when_it_is_asked_for() -> None:
    evaluator, source = evaluator_of(None)
    told = evaluator.listener = Told()
    evaluator.remember([evaluation((2, 4), 0.5), evaluation((4, 2), 0.6)])
    assert evaluator.distinct_evaluations == 0
    assert evaluator.lookup((4, 2)) == evaluation((4, 2), 0.6)
    assert evaluator.evaluate((2, 4)).accuracy == 0.5
    assert evaluator.distinct_evaluations == 1
    assert evaluator.evaluate_many([(2, 4), (4, 2), (8, 8)])[1].accuracy == 0.6
    assert (evaluator.distinct_evaluations, evaluator.retrained) == (3, 1)
    assert source.calls == [(8, 8)]
    assert told.told == [((8, 8), True)]  # of what is new only


def test_what_an_earlier_part_recorded_counts_against_the_budget_when_it_is_asked_for() -> None:
    evaluator, source = evaluator_of(None)
    evaluator.budget = 3
    evaluator.remember([evaluation((2, 4)), evaluation((4, 2))])
    with pytest.raises(BudgetExhausted):
        evaluator.evaluate_many([(2, 4), (4, 2), (8, 8), (1, 1)])
    assert (evaluator.distinct_evaluations, source.calls) == (3, [(8, 8)])


def test_a_run_that_takes_another_course_is_told_so_once_and_pays_for_both() -> None:
    evaluator, source = evaluator_of(None)
    told = evaluator.listener = Told()
    evaluator.remember([evaluation((2, 4)), evaluation((4, 2)), evaluation((3, 3))])
    evaluator.evaluate((2, 4))
    evaluator.evaluate((8, 8))  # where the record has (4, 2)
    assert evaluator.distinct_evaluations == 4
    evaluator.evaluate((1, 1))
    evaluator.evaluate((3, 3))  # counted, and free
    assert (evaluator.distinct_evaluations, evaluator.retrained) == (5, 2)
    assert source.calls == [(8, 8), (1, 1)]
    assert told.told == ["diverged", ((8, 8), True), ((1, 1), True)]


def test_a_run_that_takes_another_course_keeps_its_budget() -> None:
    evaluator, source = evaluator_of(None)
    evaluator.budget = 4
    evaluator.remember([evaluation((2, 4)), evaluation((4, 2)), evaluation((3, 3))])
    with pytest.raises(BudgetExhausted):
        evaluator.evaluate_many([(8, 8), (8, 7), (8, 6), (8, 5)])
    assert source.calls == [(8, 8)]
    assert evaluator.distinct_evaluations == 4


def test_a_batch_that_was_recorded_in_part_is_no_other_course() -> None:
    # Workers finish in any order, and a kill comes when it comes.
    evaluator, source = evaluator_of(None)
    told = evaluator.listener = Told()
    evaluator.remember([evaluation((1, 1)), evaluation((3, 3))])
    evaluator.evaluate((1, 1))
    evaluator.evaluate_many([(2, 2), (3, 3), (4, 4)])
    assert source.calls == [(2, 2), (4, 4)]
    assert told.told == [((2, 2), True), ((4, 4), True)]


def test_a_kill_between_the_record_and_the_cache_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    resumed, source = evaluator_of(path)
    resumed.remember([evaluation((2, 4)), evaluation((4, 2))], resumed.fingerprint)  # its record has them, no file
    assert resumed.evaluate_many([(2, 4), (4, 2), (8, 8)]) == list(map(evaluation, [(2, 4), (4, 2), (8, 8)]))
    assert source.calls == [(8, 8)]
    # Another run finds all of them.
    other, source = evaluator_of(path)
    other.evaluate_many([(2, 4), (4, 2), (8, 8)])
    assert (other.distinct_evaluations, source.calls) == (3, [])


def test_what_was_recorded_under_another_fingerprint_is_not_served_to_others(tmp_path: Path) -> None:
    evaluator, _ = evaluator_of(tmp_path / "cache.sqlite")
    evaluator.remember([evaluation((2, 4), 0.5)], {"retrain_seed": 7})
    evaluator.remember([evaluation((4, 2), 0.5)])
    other, source = evaluator_of(tmp_path / "cache.sqlite")
    other.evaluate_many([(2, 4), (4, 2)])
    assert source.calls == [(2, 4), (4, 2)]
    assert evaluator_of(tmp_path / "cache.sqlite", retrain_seed=7)[0].lookup((2, 4)) == evaluation((2, 4), 0.5)


# Threads, copies, processes


def test_two_threads_measure_each_assignment_once() -> None:
    class Slow(FakeSource):
        inside = 0

        def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
            self.inside += 1
            assert self.inside == 1, "two threads measure at once"
            for result in super().measure(waiting):
                time.sleep(0.002)
                yield result
            self.inside -= 1

    source = Slow(num_layers=2)
    evaluator = Evaluator(source)
    evaluator.listener = told = Told()
    wanted = [(a, b) for a in range(1, 5) for b in range(1, 5)]
    barrier = threading.Barrier(4)

    def run(order: Sequence[Assignment]) -> list[Evaluation]:
        barrier.wait()
        return [evaluator.evaluate(order[0]), *evaluator.evaluate_many(order[1:])]

    orders = [wanted, wanted[::-1], wanted[8:] + wanted[:8], wanted]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, orders))
    for order, result in zip(orders, results, strict=True):
        assert result == list(map(evaluation, order))
    assert sorted(source.calls) == wanted
    assert evaluator.distinct_evaluations == evaluator.retrained == len(told.told) == 16


def test_the_listener_may_ask() -> None:
    evaluator, source = evaluator_of(None)

    class Asks(Told):
        def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
            super().evaluated(evaluation, retrained)
            if len(self.told) == 1:
                evaluator.evaluate((8, 8))

    evaluator.listener = told = Asks()
    evaluator.evaluate_many([(2, 4), (8, 8)])
    assert source.calls == [(2, 4), (8, 8)]
    assert told.told == [((2, 4), True), ((8, 8), True)]


def test_a_deep_copy_is_the_evaluator_itself() -> None:
    evaluator, _ = evaluator_of(None)
    assert copy.deepcopy({"evaluator": [evaluator]})["evaluator"][0] is evaluator


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_pickle_counts_apart_and_shares_the_file(on_disk: bool, tmp_path: Path) -> None:
    evaluator, source = evaluator_of(tmp_path / "cache.sqlite" if on_disk else None)
    evaluator.budget, evaluator.listener = 5, Told()
    evaluator.evaluate((2, 4))
    other = pickle.loads(pickle.dumps(evaluator))
    assert (other.distinct_evaluations, other.retrained, other.budget, other.listener) == (0, 0, 5, None)
    assert other.evaluate((2, 4)) == evaluation((2, 4))
    assert (other.distinct_evaluations, other.retrained) == (1, 0 if on_disk else 1)
    other.evaluate((8, 8))
    assert evaluator.distinct_evaluations == 1
    evaluator.evaluate((8, 8))
    assert (evaluator.retrained, source.calls) == ((1, [(2, 4)]) if on_disk else (2, [(2, 4), (8, 8)]))


def test_reseeded_has_counters_of_its_own_and_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    evaluator = Evaluator(live_source("digits", retrain_images=32, workers=1), EvaluationCache(path))
    first = evaluator.evaluate((1, 1, 1, 1))
    other = evaluator.reseeded(1)
    assert (other.distinct_evaluations, other.source.retrain_seed) == (0, 1)
    again = [other.evaluate((1, 1, 1, 1)), other.reseeded(0).evaluate((1, 1, 1, 1))]
    assert again[0].accuracy != first.accuracy
    assert again[1].accuracy == first.accuracy
    assert (other.retrained, evaluator.distinct_evaluations) == (1, 1)
    assert len(EvaluationCache(path)) == 2


# With real retraining


@pytest.mark.parametrize("cache", ["auto", "own.sqlite", None])
def test_live_digits(cache: str | None, tmp_path: Path) -> None:
    path = str(tmp_path / cache) if cache == "own.sqlite" else cache

    def made() -> Evaluator:
        return Problem.from_task("digits", cache=path, retrain_images=32).evaluator

    evaluator = made()
    result = evaluator.evaluate((3, 3, 3, 3))
    assert isinstance(evaluator.source, LiveSource)
    assert evaluator.full_precision_accuracy == evaluator.source.retraining.pretrained.accuracy
    assert result.relative_accuracy == result.accuracy / evaluator.full_precision_accuracy
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.sqlite")}
    assert files == {"auto": {"releq-cache/evaluations.sqlite"}, "own.sqlite": {"own.sqlite"}, None: set()}[cache]
    # The next run and another process see it.
    again = made()
    assert again.evaluate((3, 3, 3, 3)).accuracy == result.accuracy
    assert again.retrained == (1 if cache is None else 0)
    other = pickle.loads(pickle.dumps(evaluator)).evaluate((3, 3, 3, 3))
    assert other.accuracy == result.accuracy
    assert cache is None or other == result


def test_wrong_arguments_are_refused_before_a_file_is_made(tmp_path: Path) -> None:
    for kwargs, message in (
        ({"quantizer": "int8"}, "unknown quantizer"),
        ({"bitwidths": [9]}, "from 1 to 8"),
        ({"cost": "watts"}, "unknown cost"),
        ({"max_cost": 0.01}, "max_cost=0.01"),
    ):
        with pytest.raises(ReLeQError, match=message):
            Problem.from_task("digits", cache=str(tmp_path / "cache.sqlite"), **kwargs)
    assert not (tmp_path / "cache.sqlite").exists()


def test_a_damaged_row_is_measured_again_and_mended(tmp_path: Path) -> None:
    evaluator, source = evaluator_of(tmp_path / "cache.sqlite")
    expected = evaluator.evaluate((2, 4))
    assert evaluator.fingerprint is not None
    key = Keys(evaluator.fingerprint)((2, 4))
    with sqlite3.connect(tmp_path / "cache.sqlite") as connection:
        connection.execute("UPDATE evaluations SET accuracy = 7.5 WHERE key = ?", (key,))
    connection.close()
    for measured in ([(2, 4)], []):
        again, source = evaluator_of(tmp_path / "cache.sqlite")
        assert again.evaluate((2, 4)) == expected
        assert source.calls == measured


@pytest.mark.parametrize("accuracy", [97.3, -0.1, float("nan")])
def test_an_accuracy_of_a_source_of_ones_own_is_checked(accuracy: float) -> None:
    class Percent(FakeSource):
        def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
            while (assignment := waiting.take()) is not None:
                yield assignment, Measured(accuracy, 0.0)

    with pytest.raises(ReLeQError, match=r"the source has given the accuracy .* \(2, 4\); let it give one in \[0, 1\]"):
        Evaluator(Percent(num_layers=2)).evaluate((2, 4))


def test_a_source_that_leaves_something_out_is_named() -> None:
    class Lazy(FakeSource):
        def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
            yield from ()

    with pytest.raises(ReLeQError, match=r"the source has not measured \(2, 4\)"):
        Evaluator(Lazy(num_layers=2)).evaluate((2, 4))
