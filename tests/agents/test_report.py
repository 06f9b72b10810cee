"""What is said and drawn of a run at its end."""

from collections import Counter
from pathlib import Path

import pytest

from agents.run.confirmation import confirm
from agents.run.folder import RunFolder
from agents.train import main
from releq_env import Problem
from releq_env.report.pictures import action_names
from releq_env.report.run import Compared, View
from releq_env.report.verdict import advice, recommended
from tests.agents import problems
from tests.agents.problems import arguments


@pytest.mark.parametrize("choices", [[2, 4], [2, 4, 8], [1, 2, 4, 8]])
def test_actions_are_called_what_they_mean(choices: list[int]) -> None:
    assert action_names(choices, "restricted") == ["down", "keep", "up"]
    assert action_names(choices, "flexible") == [f"{bits} bit{'s' * (bits > 1)}" for bits in choices]


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


def seen(bitwidths: tuple[int, ...], found: float, confirmed: float) -> Compared:
    views = [View(0.98 * each, each, each) for each in (found, confirmed)]
    return Compared("found", bitwidths, True, views[0], (views[1].accuracy,), views[1])


def test_what_was_chosen_by_its_confirmation_says_so() -> None:
    lucky, steady, none = (seen((2, bits), 1.0, confirmed) for bits, confirmed in ((1, 0.9), (2, 0.99), (3, 0.98)))
    said, chosen = recommended([lucky, steady, none], 0.97, None)
    assert chosen == (2, 2)
    assert "is then 2 2. These seeds have chosen it" in said
    assert "have chosen" not in advice([steady, lucky, none], 0.97, None)


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
