"""Several runs on one cache file, and a disk that fills up."""

import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation, EvaluationCache, Evaluator
from releq_env.evaluation.live import live_source
from tests.conftest import ROOT
from tests.fakes import FakeSource, smooth_accuracy

ALL = list(itertools.product((1, 2, 4), (2, 3), (1, 8), (2, 5)))


def cached(path: Path, num_layers: int = 2) -> tuple[Evaluator, FakeSource]:
    source = FakeSource(num_layers=num_layers, fingerprint={"network": "fake"})
    return Evaluator(source, EvaluationCache(path)), source


def digits(cache: str | Path | None, workers: int = 1) -> Evaluator:
    source = live_source("digits", retrain_images=32, workers=workers)
    return Evaluator(source, None if cache is None else EvaluationCache(cache))


RUN = """
import json, sys
from tests.evaluation.test_shared_cache import digits

assignments = [tuple(bits) for bits in json.loads(sys.argv[2])]
evaluator = digits(sys.argv[1])
evaluator.source.retraining.load()
print("ready", flush=True)
sys.stdin.readline()
results = evaluator.evaluate_many(assignments)
accuracies = [(result.bitwidths, result.accuracy) for result in results]
print(json.dumps([accuracies, evaluator.distinct_evaluations, evaluator.retrained]))
evaluator.close()
"""


def start(cache: Path, assignments: Sequence[tuple[int, ...]]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(cache), json.dumps(assignments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_four_runs_on_one_file(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    asked = [random.Random(run).sample(ALL, len(ALL) * 3 // 4) for run in range(4)]
    runs = [start(path, assignments) for assignments in asked]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    answers = []
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    for run in runs:
        output, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
        answers.append(json.loads(output))

    expected = {result.bitwidths: result.accuracy for result in digits(None).evaluate_many(ALL)}
    for (accuracies, distinct, _), assignments in zip(answers, asked, strict=True):
        assert [(tuple(bits), accuracy) for bits, accuracy in accuracies] == [(b, expected[b]) for b in assignments]
        assert distinct == len(assignments)
    wanted = set().union(*asked)
    # What one has finished no other pays for: at worst all begin the same at the same time, and their orders differ.
    assert len(wanted) <= sum(retrained for *_, retrained in answers) < sum(map(len, asked))
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT COUNT(*) FROM evaluations").fetchone() == (len(wanted),)
    connection.close()
    later = digits(path)
    assert {result.accuracy for result in later.evaluate_many(sorted(wanted))} <= set(expected.values())
    assert (later.distinct_evaluations, later.retrained) == (len(wanted), 0)


class Told:
    """Writes down what it is told, and lets another run do the rest at the first evaluation."""

    def __init__(self, other: Evaluator, rest: Sequence[tuple[int, ...]]) -> None:
        self.told: list[tuple[tuple[int, ...], bool]] = []
        self._other, self._rest = other, rest

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        if not self.told:
            self._other.evaluate_many(self._rest)
        self.told.append((evaluation.bitwidths, retrained))

    def diverged(self) -> None: ...


def test_what_another_run_finishes_meanwhile_is_not_paid_for(tmp_path: Path) -> None:
    evaluator, source = cached(tmp_path / "cache.sqlite")
    other, others = cached(tmp_path / "cache.sqlite")
    assignments = [(2, 4), (4, 2), (8, 8), (3, 3)]
    told = evaluator.listener = Told(other, assignments[1:3])
    results = evaluator.evaluate_many(assignments)
    assert [result.accuracy for result in results] == list(map(smooth_accuracy, assignments))
    assert source.calls == [(2, 4), (3, 3)]
    assert others.calls == [(4, 2), (8, 8)]
    assert (evaluator.distinct_evaluations, evaluator.retrained) == (4, 2)
    assert told.told == [((2, 4), True), ((4, 2), False), ((8, 8), False), ((3, 3), True)]


@pytest.mark.processes
def test_nor_by_workers(tmp_path: Path) -> None:
    evaluator, other = digits(tmp_path / "cache.sqlite", workers=2), digits(tmp_path / "cache.sqlite")
    evaluator.listener = Told(other, ALL)
    results = evaluator.evaluate_many(ALL)
    evaluator.close()
    assert [result.accuracy for result in results] == [result.accuracy for result in other.evaluate_many(ALL)]
    # The first, and the one that the other worker had begun by then.
    assert (evaluator.distinct_evaluations, evaluator.retrained) == (len(ALL), 2)
    assert other.retrained == len(ALL)  # nothing is in the file yet when the first is told of


def limit(evaluator: Evaluator, pages: int) -> None:
    """Let the file grow no further than that, as on a full disk."""
    cache: Any = evaluator.cache
    cache._connected().execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_costs_nothing_that_is_finished(tmp_path: Path) -> None:
    evaluator, source = cached(tmp_path / "cache.sqlite", num_layers=3)
    assignments = list(itertools.product(range(1, 9), repeat=3))
    limit(evaluator, 8)
    with pytest.raises(ReLeQError, match=r"cache .*cache\.sqlite failed \(database or disk is full\); free") as raised:
        evaluator.evaluate_many(assignments)
    assert "\n" not in str(raised.value)
    measured = list(source.calls)
    assert 1 < len(measured) < len(assignments)
    # All but the last are in the file, for every run; this one knows that, too.
    later, _ = cached(tmp_path / "cache.sqlite", num_layers=3)
    assert all(later.lookup(assignment) is not None for assignment in measured[:-1])
    assert later.lookup(measured[-1]) is None
    assert evaluator.evaluate(measured[-1]).accuracy == smooth_accuracy(measured[-1])
    assert (evaluator.distinct_evaluations, evaluator.retrained) == (len(measured), len(measured))
    limit(evaluator, 10_000)
    evaluator.evaluate_many(assignments)
    assert source.calls == assignments  # each once
    with sqlite3.connect(tmp_path / "cache.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
