"""What is said and drawn of a run at its end."""

from collections import Counter
from pathlib import Path

import pytest

from agents.report.plots import names_of_actions
from agents.run.confirmation import confirm
from agents.run.folder import RunFolder
from agents.train import main
from releq_env import Problem
from tests.agents import problems
from tests.agents.problems import arguments


@pytest.mark.parametrize("choices", [[2, 4], [2, 4, 8], [1, 2, 4, 8]])
def test_actions_are_called_what_they_mean(choices: list[int]) -> None:
    problem = Problem.from_function(2, choices, problems.smooth_accuracy)
    assert names_of_actions(problem, 0, "restricted") == ["down", "keep", "up"]
    assert names_of_actions(problem, 0, "flexible") == [f"{bits} bit{'s' * (bits > 1)}" for bits in choices]


def test_uniform_assignments_are_not_measured_again(tmp_path: Path) -> None:
    calls: Counter[tuple[int, ...]] = Counter()

    def accuracy(bitwidths: tuple[int, ...]) -> float:
        calls[bitwidths] += 1
        return problems.smooth_accuracy(bitwidths)

    problem = Problem.from_function(3, [1, 2, 4], accuracy)
    folder = RunFolder(tmp_path, problem)
    problem.evaluator.listener = folder
    problem.evaluator.evaluate_many([(1, 1, 1), (4, 4, 4), (1, 2, 4)])
    problem.evaluator.listener = None
    candidates = confirm(folder, problem)
    assert [each.bitwidths for each in candidates if each.kind == "uniform"] == problem.uniform()
    assert set(calls.values()) == {1}
    assert problem.evaluator.distinct_evaluations == 3


@pytest.mark.parametrize("name", ["report.md", "report.json"])
def test_a_kill_between_the_reports_leaves_a_run_that_goes_on(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--algo", "random", "--timesteps", "64", "--log-dir", str(run), *arguments("four_layers")])
    (run / name).unlink()
    main(["--resume", str(run)])
    assert (run / name).exists()


def test_the_report_that_tells_of_an_end_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run, gone = tmp_path / "run", list[str]()
    main(["--algo", "random", "--timesteps", "64", "--log-dir", str(run), *arguments("four_layers")])
    unlink = Path.unlink

    def noted(self: Path, missing_ok: bool = False) -> None:
        gone.append(self.name)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", noted)
    main(["--resume", str(run), "--timesteps", "128"])
    assert [name for name in gone if name.startswith("report")] == ["report.json", "report.md"]
