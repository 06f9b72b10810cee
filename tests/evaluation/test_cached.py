import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from releq_env.errors import ReLeQError
from releq_env.evaluation import (
    BudgetExhausted,
    CachedEvaluator,
    Evaluation,
    EvaluationCache,
    Evaluator,
    make_evaluator,
)
from releq_env.tasks import TASKS, load_pretrained
from tests.fakes import FunctionEvaluator, smooth_accuracy


class Measured:
    """Stands in for retraining: counts what is measured."""

    class pretrained:  # noqa: N801
        accuracy = 0.98

    device = torch.device("cpu")

    def __init__(self, seed: int = 0) -> None:
        self.retrain_seed = seed
        self.fingerprint = {"retrain_seed": seed}
        self.measured: list[tuple[int, ...]] = []

    def measure(self, bitwidths: Sequence[int], retrain_seed: int) -> tuple[float, float]:
        self.measured.append(tuple(bitwidths))
        return smooth_accuracy(bitwidths), 2.0


def cached(path: Path | None, seed: int = 0) -> tuple[CachedEvaluator, Measured]:
    live: Any = Measured(seed)
    return CachedEvaluator(live, None if path is None else EvaluationCache(path)), live


def test_all_evaluators_fulfil_the_protocol() -> None:
    assert isinstance(cached(None)[0], Evaluator)
    assert isinstance(FunctionEvaluator(), Evaluator)
    assert not isinstance(Measured(), Evaluator)


@pytest.mark.parametrize("on_disk", [True, False])
def test_remembers_and_counts(on_disk: bool, tmp_path: Path) -> None:
    evaluator, live = cached(tmp_path / "cache.sqlite" if on_disk else None)
    first = evaluator.evaluate((2, 4))
    assert first == Evaluation((2, 4), smooth_accuracy((2, 4)), smooth_accuracy((2, 4)) / 0.98, 2.0)
    assert evaluator.evaluate([2, 4]) == first
    evaluator.evaluate((4, 2))
    assert live.measured == [(2, 4), (4, 2)]
    assert evaluator.distinct_evaluations == evaluator.retrained == 2
    evaluator.close()
    evaluator.close()


def test_a_second_run_retrains_nothing(tmp_path: Path) -> None:
    evaluator, _ = cached(tmp_path / "cache.sqlite")
    expected = evaluator.evaluate((2, 4))
    again, live = cached(tmp_path / "cache.sqlite")
    assert again.evaluate((2, 4)) == expected
    assert live.measured == []
    # The search asked for it all the same.
    assert (again.distinct_evaluations, again.retrained) == (1, 0)


def test_another_fingerprint_is_measured_anew(tmp_path: Path) -> None:
    cached(tmp_path / "cache.sqlite")[0].evaluate((2, 4))
    other, live = cached(tmp_path / "cache.sqlite", seed=1)
    other.evaluate((2, 4))
    assert live.measured == [(2, 4)]


def test_memory_only_is_shared_with_nobody(tmp_path: Path) -> None:
    cached(None)[0].evaluate((2, 4))
    evaluator, live = cached(None)
    evaluator.evaluate((2, 4))
    assert live.measured == [(2, 4)]
    assert not list(tmp_path.rglob("*.sqlite"))


def test_many_in_order_and_repeats_once() -> None:
    evaluator, live = cached(None)
    results = evaluator.evaluate_many([(4, 2), (2, 4), (4, 2)])
    assert [result.bitwidths for result in results] == [(4, 2), (2, 4), (4, 2)]
    assert live.measured == [(4, 2), (2, 4)]
    assert evaluator.evaluate_many([]) == []


def test_a_progress_bar_shows_the_time_left_if_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    evaluator, _ = cached(None)
    evaluator.evaluate_many([(1, 1), (1, 2)])
    assert capsys.readouterr().err == ""
    evaluator.evaluate_many([(1, 1), (2, 4), (4, 2), (2, 4)], progress=True)
    last = capsys.readouterr().err.split("\r")[-1]
    assert re.match(r"retraining: 100%.* 2/2 \[[0-9:]+<[0-9:]+,", last)


def test_a_budget_ends_new_questions_only() -> None:
    evaluator, live = cached(None)
    evaluator.budget = 2
    evaluator.evaluate((2, 4))
    # What the budget allows is measured before the search is told that it ends.
    with pytest.raises(BudgetExhausted, match="budget of 2"):
        evaluator.evaluate_many([(2, 4), (4, 2), (8, 8)])
    assert live.measured == [(2, 4), (4, 2)]
    assert evaluator.evaluate((4, 2)).bitwidths == (4, 2)
    with pytest.raises(BudgetExhausted):
        evaluator.evaluate((8, 8))
    assert evaluator.distinct_evaluations == 2


def test_an_observer_is_told_of_every_distinct_evaluation_once(tmp_path: Path) -> None:
    cached(tmp_path / "cache.sqlite")[0].evaluate((2, 4))
    evaluator, _ = cached(tmp_path / "cache.sqlite")
    told: list[Any] = []

    class Observer:
        def requested(self, assignments: Sequence[tuple[int, ...]]) -> None:
            told.append(list(assignments))

        def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
            told.append((evaluation.bitwidths, retrained))

    evaluator.listener = Observer()
    evaluator.evaluate_many([(2, 4), (4, 2), (2, 4)])
    evaluator.evaluate((4, 2))
    assert told == [((2, 4), False), [(4, 2)], ((4, 2), True)]


def test_a_resumed_run_remembers() -> None:
    evaluator, live = cached(None)
    evaluator.remember([Evaluation((2, 4), 0.5, 0.51, 1.0), Evaluation((4, 2), 0.6, 0.61, 1.0)], retrained=1)
    assert evaluator.evaluate((2, 4)).accuracy == 0.5
    assert live.measured == []
    assert (evaluator.distinct_evaluations, evaluator.retrained) == (2, 1)


def test_looking_up_does_not_count(tmp_path: Path) -> None:
    evaluator, _ = cached(tmp_path / "cache.sqlite")
    assert evaluator.lookup((2, 4)) is None
    expected = evaluator.evaluate((2, 4))
    other, live = cached(tmp_path / "cache.sqlite")
    assert other.lookup((2, 4)) == expected
    assert other.distinct_evaluations == 0
    assert live.measured == []


def test_an_interrupted_evaluation_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator, live = cached(tmp_path / "cache.sqlite")

    def interrupt(bitwidths: Sequence[int], retrain_seed: int) -> tuple[float, float]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(live, "measure", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evaluator.evaluate((2, 4))
    assert (evaluator.distinct_evaluations, evaluator.retrained) == (0, 0)
    assert evaluator.evaluate((2, 4)).accuracy == smooth_accuracy((2, 4))


@pytest.mark.parametrize("cache", ["auto", "own.sqlite", None])
def test_live_digits(cache: str | None, tmp_path: Path) -> None:
    path = str(tmp_path / cache) if cache == "own.sqlite" else cache
    task = TASKS["digits"]
    pretrained = load_pretrained(task)
    evaluator = make_evaluator(task, pretrained, cache=path, retrain_images=32)
    result = evaluator.evaluate((3, 3, 3, 3))
    assert result.relative_accuracy == result.accuracy / pretrained.accuracy
    assert evaluator.full_precision_accuracy == pretrained.accuracy
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.sqlite")}
    assert files == {"auto": {"releq-cache/evaluations.sqlite"}, "own.sqlite": {"own.sqlite"}, None: set()}[cache]
    # The next run and another process see it.
    again = make_evaluator(task, pretrained, cache=path, retrain_images=32)
    assert again.evaluate((3, 3, 3, 3)).accuracy == result.accuracy
    assert again.retrained == (1 if cache is None else 0)
    copy = pickle.loads(pickle.dumps(evaluator))
    assert copy.evaluate((3, 3, 3, 3)) == result


def test_an_assignment_of_numpy_integers_is_the_same_assignment() -> None:
    import numpy as np

    evaluator, live = cached(None)
    evaluator.evaluate(np.array([2, 4]))
    assert evaluator.evaluate((2, 4)).bitwidths == (2, 4)
    assert live.measured == [(2, 4)]
    assert all(type(bits) is int for bits in live.measured[0])


def test_wrong_arguments_are_refused_before_a_file_is_made(tmp_path: Path) -> None:
    task = TASKS["digits"]
    with pytest.raises(ReLeQError, match="unknown quantizer"):
        make_evaluator(task, load_pretrained(task), cache=str(tmp_path / "cache.sqlite"), quantizer="int8")
    assert not (tmp_path / "cache.sqlite").exists()
