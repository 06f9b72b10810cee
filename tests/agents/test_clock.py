"""The clock of a resumed run: repeating what was recorded takes no time."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest

from agents.algorithms.registry import ALGORITHMS
from agents.run.folder import RunFolder
from agents.train import main
from releq_env import Problem
from releq_env.evaluation import Evaluation
from tests.agents import problems
from tests.agents.commands import rows
from tests.agents.problems import arguments

pytestmark = pytest.mark.usefixtures("no_pictures")


class Clock:
    """Takes the place of the module `time` in the folder's."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("agents.run.folder.time", clock)
    return clock


@pytest.fixture
def resumed(tmp_path: Path, clock: Clock) -> RunFolder:
    """A run of two evaluations, the last one after 30 s, taken up again."""
    problem = problems.four_layers()
    folder = RunFolder(tmp_path, problem)
    problem.evaluator.listener = folder
    for assignment in ((1, 1, 1, 1), (2, 2, 2, 2)):
        clock.now += 15.0
        problem.evaluator.evaluate(assignment)
    folder = RunFolder(tmp_path, problems.four_layers())
    folder.restore()
    clock.now += 7.0
    return folder


def test_repeating_takes_no_time(resumed: RunFolder, clock: Clock) -> None:
    resumed.reached(1)
    assert (resumed.repeating, resumed.elapsed) == (True, 30.0)
    resumed.reached(2)
    clock.now += 1.0
    assert (resumed.repeating, resumed.elapsed) == (False, 31.0)


def test_time_counts_from_where_the_measuring_of_something_new_began(resumed: RunFolder) -> None:
    evaluation = problems.four_layers().evaluator.evaluate((3, 3, 3, 3))
    resumed.evaluated(Evaluation(evaluation.bitwidths, evaluation.accuracy, 1.0, 4.0), retrained=True)
    assert (resumed.repeating, resumed.elapsed) == (False, 34.0)


def test_another_course_lets_time_count(resumed: RunFolder, clock: Clock) -> None:
    resumed.diverged()
    clock.now += 2.0
    assert (resumed.repeating, resumed.elapsed) == (False, 32.0)


def test_what_repeats_too_long_is_no_repetition(resumed: RunFolder, clock: Clock) -> None:
    clock.now += 100.0
    resumed.reached(1)
    clock.now += 3.0
    assert (resumed.repeating, resumed.elapsed) == (False, 33.0)


class Slow:
    """Thinks for 10 ms, then asks for the next of all assignments."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self._left = itertools.product(*problem.choices)

    def ask(self, n: int) -> list[tuple[int, ...]]:
        time.sleep(0.01)
        return list(itertools.islice(self._left, n))

    def tell(self, evaluations: Any) -> None: ...


def test_a_run_whose_repeating_takes_long_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(ALGORITHMS.maps[0], "slow", Slow)
    run = tmp_path / "run"
    settings = ["--algo", "slow", "--n-envs", "1", "--log-dir", str(run), *arguments("four_layers")]
    main([*settings, "--budget", "60"])  # for 0.6 s at least
    before = len(rows(run))
    minutes = (float(rows(run)[-1]["elapsed"]) + 0.3) / 60.0
    main(["--resume", str(run), "--minutes", str(minutes), "--budget", "250"])
    elapsed = [float(row["elapsed"]) for row in rows(run)]
    assert before < len(elapsed) < 250
    assert elapsed == sorted(elapsed)
    counts = json.loads((run / "report.json").read_text())["counts"]
    assert counts["resumed"]
    assert counts["wall_seconds"] == pytest.approx(minutes * 60.0, abs=0.2)
    assert 0.6 < counts["agent_seconds"] <= counts["part_seconds"]
    assert "s in all parts; the last one took" in (run / "report.md").read_text()
