"""Names of actions, the clock of a resumed run, and what is not to be mixed, guessed or lost."""

import copy
import csv
import itertools
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

from agents.algorithms.registry import ALGORITHMS, find_agent
from agents.report.plots import _names_of_actions
from agents.run.confirmation import confirm
from agents.run.folder import RunFolder
from agents.run.settings import Options, new_settings, parse_pairs
from agents.train import main
from releq_env import Problem, ReLeQEnv, ReLeQVecEnv
from releq_env.evaluation import Evaluation
from tests.agents import problems
from tests.agents.problems import arguments


def error(*args: str) -> str:
    """Run the command, which must end with one line, and return it."""
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    message = str(ended.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "evaluations.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("choices", [[2, 4], [2, 4, 8], [1, 2, 4, 8]])
def test_actions_are_called_what_they_mean(choices: list[int]) -> None:
    problem = Problem.from_function(2, choices, problems.smooth_accuracy)
    assert _names_of_actions(problem, 0, "restricted") == ["down", "keep", "up"]
    assert _names_of_actions(problem, 0, "flexible") == [f"{bits} bit{'s' * (bits > 1)}" for bits in choices]


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
    monkeypatch.undo()
    config = json.loads((run / "config.json").read_text())
    del config["problem"]  # as an earlier version left it
    (run / "config.json").write_text(json.dumps(config))
    main(["--resume", str(run), "--timesteps", "128"])
    assert len(rows(run)) > len(before)


def test_n_envs_changes_the_batch_of_whole_rollouts_only() -> None:
    dqn = new_settings(Options(algo="dqn", n_envs=4, hyperparams=["n_steps=8"]))
    assert (dqn.hyperparams["batch_size"], dqn.written_for) == (64, 8)
    ppo = new_settings(Options(algo="ppo", n_envs=4))
    venv = made_envs(4)
    model = find_agent("ppo").make(venv, 0, written_for=ppo.written_for, **ppo.hyperparams).model
    assert (model.n_steps, model.batch_size) == (8, 32)
    part = find_agent("ppo").make(venv, 0, written_for=ppo.written_for, **ppo.hyperparams | {"batch_size": 16}).model
    assert part.batch_size == 16


def test_a_run_with_other_n_envs_learns_from_whole_rollouts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--n-envs", "2", "--timesteps", "64", "--log-dir", str(run), *arguments("four_layers")])
    assert PPO.load(run / "ReLeQ-v0.zip", device="cpu").batch_size == 16


def made_envs(n_envs: int) -> ReLeQVecEnv:
    env = ReLeQEnv(problems.four_layers())
    return ReLeQVecEnv([lambda: copy.deepcopy(env)] * n_envs)


def test_an_id_registered_with_arguments_is_searched(tmp_path: Path) -> None:
    gym.register(
        "OwnDigits-v0",
        entry_point="releq_env.env:ReLeQEnv",
        kwargs={"problem": "digits", "cost": "size", "cache": None, "retrain_images": 0, "action_mode": "restricted"},
    )
    try:
        for name in ("first", "again"):
            args = ["--env", "OwnDigits-v0", "--n-envs", "3", "--timesteps", "96", "--workers", "1"]
            main([*args, "--budget", "4", "--log-dir", str(tmp_path / name)])
    finally:
        del gym.registry["OwnDigits-v0"]
    first, again = ([row["bitwidths"] for row in rows(tmp_path / name)] for name in ("first", "again"))
    assert len(first) > 1
    assert first == again


def test_a_mistake_elsewhere_is_not_blamed_on_hyperparameters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(self: Any, seed: int) -> None:
        raise TypeError("a mistake of ours")

    monkeypatch.setattr(ReLeQVecEnv, "seed", broken)
    with pytest.raises(TypeError, match="a mistake of ours"):
        main(["--log-dir", str(tmp_path / "run"), *arguments("four_layers")])


def test_an_algorithm_of_no_family_ends_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(ALGORITHMS.maps[0], "ars", "sb3_contrib:ARS")
    message = error("--algo", "ars", "--log-dir", str(tmp_path / "run"), *arguments("four_layers"))
    assert "OnPolicyAlgorithm, OffPolicyAlgorithm" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e-3", 1e-3), ("-1E5", -1e5), (".5e2", 50.0), ("1.e+3", 1000.0), ("1e", "1e"), ("e5", "e5"), ("7", 7)],
)
def test_numbers_with_an_exponent_are_numbers(text: str, expected: object) -> None:
    read = parse_pairs([f"x={text}"], "--hyperparams", "learning_rate=1e-3")["x"]
    assert read == expected
    assert type(read) is type(expected)


def test_what_a_searcher_lacks_time_steps_for_is_said_in_its_words(tmp_path: Path) -> None:
    args = ["--algo", "random", "--timesteps", "2", "--log-dir", str(tmp_path / "run"), *arguments("four_layers")]
    assert "asks for no assignment" in error(*args)
    assert "side by side" not in error(*args)


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
