"""`--minutes`, `--budget`, `--timesteps` and `--from-table` are the same for every agent."""

import itertools
import json
from pathlib import Path

import pytest

from agents.algorithms.registry import ALGORITHMS
from agents.run.confirmation import unseen_seeds
from agents.run.settings import Options, new_settings, resumed_settings
from agents.train import main
from releq_env import AccuracyTable, Problem, ReLeQError
from releq_env.evaluation.grouped import GroupedSource
from releq_env.searchers import SEARCHERS
from releq_env.tables import TableSource
from tests.agents import problems
from tests.agents.commands import error, rows
from tests.agents.problems import arguments

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a table of 256 assignments and two seeds."""
    assignments = list(itertools.product([1, 2, 3, 4], repeat=4))
    accuracies = [problems.needs_bits(each) - 0.001 * seed for seed in (0, 1) for each in assignments]
    path = tmp_path_factory.mktemp("table") / "small.npz"
    AccuracyTable.from_records(
        assignments * 2, accuracies, seeds=[0] * 256 + [1] * 256, full_precision_accuracy=0.98, layers=problems.LAYERS
    ).save(path)
    return path


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_minutes_end_any_run(algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps a minute an evaluation ends a run of two minutes after the first few."""
    from agents.run import folder

    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            cls.now += 5.0
            return cls.now

    monkeypatch.setattr(folder, "time", Clock)
    hyperparams = problems.needed(algo, "four_layers")
    run = tmp_path / "run"
    main(["--algo", algo, "--minutes", "2", "--log-dir", str(run), *hyperparams, *arguments("four_layers")])
    assert 1 <= len(rows(run)) < 100


@pytest.mark.parametrize("algo", ["ppo", "td3", "random", "tpe"])
def test_from_table_searches_it(algo: str, table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--algo", algo, "--from-table", str(table), "--budget", "12", "--log-dir", str(run)])
    assert len(rows(run)) == 12
    for row in rows(run):
        bits = [int(each) for each in row["bitwidths"].split()]
        assert float(row["accuracy"]) == pytest.approx(problems.needs_bits(bits))
    config = json.loads((run / "config.json").read_text())["settings"]
    assert config["env"] == "releq_env:ReLeQ-Tabular-v0"
    main(["--resume", str(run), "--from-table", str(table), "--budget", "14"])
    assert len(rows(run)) == 14
    assert "env_kwargs" in error("--resume", str(run), "--from-table", "mnist")


def test_from_table_takes_the_arguments_of_a_table(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    more = ["--env-kwargs", "seed=1", "max_cost=0.5"]
    main(["--algo", "random", "--from-table", str(table), "--budget", "6", "--log-dir", str(run), *more])
    bits = [int(each) for each in rows(run)[0]["bitwidths"].split()]
    assert float(rows(run)[0]["accuracy"]) == pytest.approx(problems.needs_bits(bits) - 0.001)
    assert all(float(row["state_of_quantization"]) <= 0.5 for row in rows(run))


@pytest.mark.parametrize(
    ("measured", "searched", "unseen"),
    [
        ((0, 1, 2, 3, 4), 0, [1, 2]),
        ((0, 1, 2, 3, 4), 3, [4, 0]),
        ((0, 1, 2, 3, 4), 4, [0, 1]),
        ((2, 7), 7, [2]),
        ((0,), 0, []),
        ((0, 1), None, []),
    ],
)
def test_what_a_table_confirms_with(measured: tuple[int, ...], searched: int | None, unseen: list[int]) -> None:
    """The seeds after the one that was searched, and round from the last to the first; its mean has seen all."""
    assignments = list(itertools.product([1, 2], repeat=2))
    records = [(each, seed, 0.9 - 0.1 * seed) for seed in measured for each in assignments]
    bitwidths, seeds, accuracies = zip(*records, strict=True)
    table = AccuracyTable.from_records(bitwidths, accuracies, seeds=seeds, full_precision_accuracy=0.98)
    assert unseen_seeds(TableSource(table, searched)) == unseen


def test_the_last_seed_of_a_table_is_confirmed(table: Path, tmp_path: Path) -> None:
    main(["--algo", "random", "--from-table", str(table), "--budget", "6", "--log-dir", str(tmp_path / "run"),
          "--env-kwargs", "seed=1"])  # fmt: skip
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["confirmed_accuracy"] == pytest.approx(best["accuracy"] + 0.001)


def test_names_and_paths() -> None:
    assert new_settings(Options(from_table="mnist")).env_kwargs == {"table": "mnist"}
    path = new_settings(Options(from_table="here.npz")).env_kwargs["table"]
    assert Path(path).is_absolute()
    with pytest.raises(ReLeQError, match="two problems; give one of them"):
        new_settings(Options(from_table="mnist", env="releq_env:ReLeQ-MNIST-v0"))
    assert "there is no table" in error("--from-table", "nowhere.npz")


def test_a_resumed_run_keeps_its_table() -> None:
    earlier = new_settings(Options(from_table="mnist", env_kwargs=["seed=1"]))
    assert resumed_settings(Options(from_table="mnist", resume=Path("run")), earlier) == earlier
    for other in (
        Options(from_table="cifar10", resume=Path("run")),
        Options(env_kwargs=["seed=0"], resume=Path("run")),
    ):
        with pytest.raises(ReLeQError, match="is a run with env_kwargs"):
            resumed_settings(other, earlier)


@pytest.mark.parametrize("algo", [algo for algo in ALGORITHMS if algo in SEARCHERS])
def test_what_is_recommended_is_recorded_beside_the_best(algo: str, tmp_path: Path) -> None:
    hyperparams = problems.needed(algo, "four_layers")
    run = tmp_path / "run"
    main(["--algo", algo, "--budget", "8", "--log-dir", str(run), *hyperparams, *arguments("four_layers")])
    best = json.loads((run / "best.json").read_text())
    assert ("recommended" in best) == algo.endswith("gp")
    recommended = best.get("recommended", best["bitwidths"])
    assert " ".join(map(str, recommended)) in {row["bitwidths"] for row in rows(run)}
    report = json.loads((run / "report.json").read_text())
    assert recommended in [candidate["bitwidths"] for candidate in report["candidates"]]
    counts = report["counts"]
    assert counts["agent_seconds"] + counts["evaluation_seconds"] == pytest.approx(counts["part_seconds"], abs=0.02)


def test_without_retraining_there_are_no_other_seeds() -> None:
    for images, unseen in ((0, []), (32, [1, 2])):
        source = Problem.from_task("digits", retrain_images=images, cache=None, workers=1).evaluator.source
        assert unseen_seeds(source) == unseen
        assert unseen_seeds(GroupedSource(source, [[0, 1], [2, 3]], source.layers)) == unseen


def test_a_bound_holds_behind_a_wrapper(table: Path, tmp_path: Path) -> None:
    """Masks of `OneShot` are a layer's, whatever the others have."""
    wrapper = ["--hyperparams", "env_wrapper=releq_env.OneShot", "n_steps=1"]
    bound = ["--env-kwargs", "max_cost=0.6", "--timesteps", "96", "--n-envs", "4"]
    main(["--algo", "maskable_ppo", "--from-table", str(table), "--log-dir", str(tmp_path / "r"), *wrapper, *bound])
    evaluated = rows(tmp_path / "r")
    assert evaluated
    assert all(float(row["state_of_quantization"]) <= 0.6 for row in evaluated)


def test_of_a_table_nothing_is_said_to_be_retrained(table: Path, tmp_path: Path) -> None:
    main(["--algo", "local", "--from-table", str(table), "--log-dir", str(tmp_path / "r"), "--budget", "5"])
    report = (tmp_path / "r" / "report.md").read_text()
    assert "5 distinct evaluations; " in report
    assert "retrained in this run" not in report
