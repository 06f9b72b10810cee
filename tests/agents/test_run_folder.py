"""What is recorded survives a kill at any moment, a full disk and a number that is none."""

import json
import math
from pathlib import Path

import pytest
from torch import Tensor
from torch.nn.functional import cross_entropy

from agents.run.folder import RunFolder
from agents.train import main
from releq_env import Problem
from releq_env.evaluation import Evaluation
from releq_env.searchers.rows import recorded
from releq_env.tasks import RetrainingRecipe
from tests.agents import problems
from tests.agents.commands import error, rows
from tests.agents.problems import arguments
from tests.tasks import own_problem
from tests.tasks.own_networks import CASES

FULL = Path("/dev/full")
ASKED = [(2, 2, 2, 2), (4, 4, 4, 4), (1, 2, 3, 4)]


@pytest.fixture
def problem() -> Problem:
    return problems.four_layers()


@pytest.fixture
def folder(tmp_path: Path, problem: Problem) -> RunFolder:
    folder = RunFolder(tmp_path, problem)
    problem.evaluator.listener = folder
    problem.evaluator.evaluate_many(ASKED)
    return folder


def test_rows_come_back_as_they_were_and_are_not_paid_again(folder: RunFolder) -> None:
    def refuse(bitwidths: tuple[int, ...]) -> float:
        raise AssertionError("was paid again")

    problem = Problem.from_function(4, [1, 2, 3, 4], refuse, 0.98)
    again = RunFolder(folder.path, problem)
    problem.evaluator.remember(again.restore())
    assert again.rows == folder.rows
    assert again.best == folder.best
    assert problem.evaluator.distinct_evaluations == 0  # they count when they are asked for
    assert problem.evaluator.evaluate_many(ASKED) == [recorded(row) for row in folder.rows]
    assert problem.evaluator.distinct_evaluations == 3


def test_a_line_cut_short_is_dropped(folder: RunFolder, problem: Problem) -> None:
    table = folder.path / "evaluations.csv"
    table.write_text(table.read_text()[:-5])
    again = RunFolder(folder.path, problem)
    again.restore()
    assert again.rows == folder.rows[:2]
    assert table.read_text().endswith("\n")


@pytest.mark.parametrize("cut", [0, 7])
def test_a_header_cut_short_is_begun_anew(folder: RunFolder, problem: Problem, cut: int) -> None:
    table = folder.path / "evaluations.csv"
    table.write_text(table.read_text()[:cut])
    again = RunFolder(folder.path, problem)
    assert again.restore() == []
    again.evaluated(problem.evaluator.evaluate(ASKED[0]), retrained=True)
    assert [evaluation.bitwidths for evaluation in RunFolder(folder.path, problem).restore()] == ASKED[:1]


def test_ties_go_to_the_accuracy(tmp_path: Path) -> None:
    problem = problems.four_layers(reward=lambda a, q: 1.0)
    problem.evaluator.listener = RunFolder(tmp_path, problem)
    results = problem.evaluator.evaluate_many([(1, 1, 1, 1), (4, 4, 4, 4), (2, 2, 2, 2)])
    best = max(results, key=lambda evaluation: evaluation.accuracy)
    assert json.loads((tmp_path / "best.json").read_text())["bitwidths"] == list(best.bitwidths)


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "name", ["evaluations.csv", "0.monitor.csv", "probabilities.csv", "pareto.png", "ReLeQ-v0.zip"]
)
def test_a_full_disk_names_the_file_and_the_run_goes_on_later(name: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(FULL)
    with pytest.raises(SystemExit) as ended:
        main(["--algo", "ppo", "--timesteps", "128", "--log-dir", str(run), *arguments("like_digits")])
    message = str(ended.value)
    assert f"{run / name} cannot be written (No space left on device)" in message
    assert "--resume" in message
    assert "\n" not in message
    (run / name).unlink()
    main(["--resume", str(run)])
    assert (run / "report.md").exists()
    assert (run / name).stat().st_size > 0


def test_a_reward_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--algo", "local", "--timesteps", "320", "--log-dir", str(run), *arguments("sometimes_nan")])
    best = json.loads((run / "best.json").read_text())
    assert math.isfinite(best["reward"])
    assert "nan" in (run / "evaluations.csv").read_text()
    main(["--resume", str(run), "--timesteps", "640"])
    assert json.loads((run / "best.json").read_text())["reward"] >= best["reward"]


def test_learning_from_a_reward_that_is_no_number_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="a reward is NaN"):
        main(["--algo", "ppo", "--log-dir", str(tmp_path / "run"), *arguments("sometimes_nan")])


def test_json_stays_json_if_no_reward_is_a_number(tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--algo", "random", "--timesteps", "64", "--log-dir", str(run), *arguments("always_nan")])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for name in ("best.json", "report.json", "config.json"):
        content = json.loads((run / name).read_text(), parse_constant=refuse)
    assert json.loads((run / "best.json").read_text())["reward"] is None
    assert content


def test_another_problem_is_not_mixed_into_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--algo", "random", "--timesteps", "64", "--log-dir", str(run), *arguments("four_layers")])
    before = rows(run)
    others = {
        "min_relative_accuracy": problems.four_layers(min_relative_accuracy=0.5),
        "costs": problems.four_layers(cost="energy"),
        "max_cost": problems.four_layers(max_cost=0.9),
        "reward": problems.four_layers(reward="ratio"),
        "choices, costs": problems.like_digits(),
        "full_precision_accuracy": Problem.from_function(4, [1, 2, 3, 4], problems.needs_bits, 0.9, problems.LAYERS),
        "layers": Problem.from_function(4, [1, 2, 3, 4], problems.needs_bits, 0.98),
    }
    for differing, other in others.items():
        monkeypatch.setattr(problems, "four_layers", lambda other=other: other)
        message = error("--resume", str(run), "--timesteps", "128")
        assert f"its problem had another {differing}; begin a new run" in message
    assert rows(run) == before


def test_other_data_are_not_mixed_into_a_run_whose_metric_has_no_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, training, validation = CASES["signals"].made()

    def share_correct(outputs: Tensor, targets: Tensor) -> float:
        return float((outputs.argmax(1) == targets).float().mean())

    def make_problem(count: int = len(training[0])) -> Problem:
        return Problem.from_network(
            model, tuple(part[:count] for part in training), validation, loss=cross_entropy, metric=share_correct,
            retraining=RetrainingRecipe(images=32, batch_size=16), precision="fp32", workers=1,
        )  # fmt: skip

    monkeypatch.setattr(own_problem, "make_problem", make_problem)
    run, asked = tmp_path / "run", ["--timesteps", "6", "--env-kwargs", "problem=tests.tasks.own_problem:make_problem"]
    main(["--algo", "random", "--log-dir", str(run), "--env", "releq_env:ReLeQ-v0", *asked])
    before = rows(run)
    monkeypatch.setattr(own_problem, "make_problem", lambda: make_problem(40))
    assert "its accuracies depended on another data; begin a new run" in error("--resume", str(run), "--timesteps", "9")
    assert rows(run) == before
    monkeypatch.setattr(own_problem, "make_problem", make_problem)
    capsys.readouterr()
    main(["--resume", str(run), "--timesteps", "9"])
    assert "(cache_key=) to compare" in capsys.readouterr().err
    main(["--resume", str(run)])
    assert "(cache_key=) to compare" not in capsys.readouterr().err  # it is finished
    assert rows(run)[: len(before)] == before


@pytest.mark.parametrize("accuracy", ["1.5", "-0.1", "nan"])
def test_an_accuracy_that_is_none_is_a_damaged_file(accuracy: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--algo", "random", "--timesteps", "64", "--log-dir", str(run), *arguments("four_layers")])
    table = run / "evaluations.csv"
    header, first, *others = table.read_text().splitlines(keepends=True)
    bitwidths, _, *more = first.split(",")
    table.write_text("".join([header, ",".join([bitwidths, accuracy, *more]), *others]))
    message = error("--resume", str(run), "--timesteps", "128")
    assert "evaluations.csv is damaged" in message
    assert "outside [0, 1]" in message


def test_seconds_are_kept_as_they_are(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, problems.four_layers())
    folder.evaluated(Evaluation((1, 1, 1, 1), 0.5, 0.51, 0.0123456789), retrained=True)
    assert RunFolder(tmp_path, problems.four_layers()).restore()[0].seconds == 0.0123456789
