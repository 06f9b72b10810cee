"""The training command as a user runs it, on Digits with next to no retraining."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from agents.run.folder import RunFolder
from agents.train import main
from tests.agents.commands import error

FAST = ["--env-kwargs", "retrain_images=64", "bitwidths=[1, 2, 4, 8]", "cost:weighted_bits"]


def train(run: Path, *args: str) -> None:
    main(["--log-dir", str(run), "--n-envs", "2", "--workers", "1", *args])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished PPO run, made once."""
    run = tmp_path_factory.mktemp("ppo") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELEQ_CACHE", str(run.parent / "cache"))
        main(["--log-dir", str(run), "--n-envs", "2", "--timesteps", "128", "--seed", "1", *FAST])
    return run


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_best_is_the_best_row(finished: Path) -> None:
    rows = read(finished / "evaluations.csv")
    best = json.loads((finished / "best.json").read_text())
    top = max(rows, key=lambda row: (float(row["reward"]), float(row["accuracy"])))
    assert best["bitwidths"] == [int(bits) for bits in top["bitwidths"].split()]
    assert best["reward"] == float(top["reward"])
    assert best["accuracy"] == float(top["accuracy"])
    assert best["distinct_evaluations"] == len(rows) == len({row["bitwidths"] for row in rows})
    assert best["average_bits"] == np.mean(best["bitwidths"])
    assert 0.0 < best["confirmed_accuracy"] <= 1.0
    assert best["keeps_max_cost"] is True
    assert [path.name for path in finished.rglob("best*.json")] == ["best.json"]
    assignment = json.loads((finished / "assignment.json").read_text())
    assert assignment == dict(zip(("conv1", "conv2", "fc1", "fc2"), best["bitwidths"], strict=True))


def test_episodes_are_all_there(finished: Path) -> None:
    lines = (finished / "0.monitor.csv").read_text().splitlines()
    assert lines[0].startswith("#")
    episodes = list(csv.DictReader(lines[1:]))
    assert len(episodes) == 128 // 4
    assert {row["bitwidths"] for row in episodes} == {row["bitwidths"] for row in read(finished / "evaluations.csv")}


def test_probabilities_are_distributions_of_every_layer(finished: Path) -> None:
    rows = read(finished / "probabilities.csv")
    assert {row["layer"] for row in rows} == {"0", "1", "2", "3"}
    for row in rows:
        assert sum(float(row[f"p{action}"]) for action in range(4)) == pytest.approx(1.0, abs=1e-4)


def test_folder_is_read_by_rl_zoo(finished: Path) -> None:
    args = yaml.safe_load((finished / "ReLeQ-Digits-v0" / "args.yml").read_text())
    assert args["env_kwargs"] == {"retrain_images": 64, "bitwidths": [1, 2, 4, 8], "cost": "weighted_bits"}
    assert yaml.safe_load((finished / "ReLeQ-Digits-v0" / "config.yml").read_text())["policy"] == "MlpPolicy"
    assert (finished / "ReLeQ-Digits-v0.zip").exists()


@pytest.mark.parametrize("name", ["episodes.png", "probabilities.png", "pareto.png"])
def test_pictures_show_something(finished: Path, name: str) -> None:
    pixels = np.asarray(Image.open(finished / name).convert("L"))
    assert min(pixels.shape) > 300
    assert (pixels < 200).mean() > 0.005


def test_report_compares_with_every_uniform_assignment(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    uniform = [c["bitwidths"] for c in report["candidates"] if c["kind"] == "uniform"]
    assert uniform == [[bits] * 4 for bits in (1, 2, 4, 8)]
    for candidate in report["candidates"]:
        assert candidate["confirmed_accuracy"] == pytest.approx(np.mean(candidate["confirmed"]))
        assert len(candidate["confirmed"]) == 2
    assert re.search(r"As confirmed, the search's best", (finished / "report.md").read_text())


def test_confirmation_is_outside_the_budget(finished: Path) -> None:
    counts = json.loads((finished / "report.json").read_text())["counts"]
    assert counts["distinct_evaluations"] == len(read(finished / "evaluations.csv"))


def test_resuming_a_finished_run_changes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEQ_CACHE", str(finished.parent / "cache"))
    names = ("evaluations.csv", "best.json", "report.md", "0.monitor.csv", "probabilities.csv")
    before = [(finished / name).read_text() for name in names]
    main(["--resume", str(finished), "--workers", "1"])
    assert [(finished / name).read_text() for name in names] == before


def test_a_larger_budget_goes_on(tmp_path: Path) -> None:
    train(tmp_path / "run", "--timesteps", "400", "--budget", "4", *FAST)
    main(["--resume", str(tmp_path / "run"), "--budget", "9", "--workers", "1"])
    rows = read(tmp_path / "run" / "evaluations.csv")
    assert len(rows) == len({row["bitwidths"] for row in rows}) == 9


def test_resuming_a_run_that_used_up_its_budget_keeps_its_episodes(tmp_path: Path) -> None:
    train(tmp_path / "run", "--timesteps", "400", "--budget", "7", *FAST)
    before = (tmp_path / "run" / "report.json").read_text()
    main(["--resume", str(tmp_path / "run"), "--workers", "1"])
    assert (tmp_path / "run" / "report.json").read_text() == before


def test_a_run_belongs_to_one_process(finished: Path) -> None:
    with RunFolder.held(finished):
        assert "under way in another process" in error("--resume", str(finished))


@pytest.mark.parametrize("name", ["evaluations.csv", "config.json"])
def test_damaged_files_end_in_one_line(name: str, tmp_path: Path) -> None:
    train(tmp_path / "run", "--timesteps", "64", *FAST)
    (tmp_path / "run" / name).write_bytes(b"\xff\xfe\n\x00\n")
    assert "run" in error("--resume", str(tmp_path / "run"), "--timesteps", "128", "--workers", "1")


def test_restricted_actions_and_dense_rewards(tmp_path: Path) -> None:
    train(tmp_path / "run", "--timesteps", "64", *FAST, "action_mode=restricted", "evaluate=gain")
    assert (tmp_path / "run" / "probabilities.png").exists()


def test_one_seed_one_result_whatever_the_cache_holds(tmp_path: Path) -> None:
    for name in ("first", "again"):  # the second time every evaluation comes from the cache
        train(tmp_path / name, "--timesteps", "64", "--seed", "5", *FAST)
    rows = [
        sorted((row["bitwidths"], row["accuracy"]) for row in read(tmp_path / name / "evaluations.csv"))
        for name in ("first", "again")
    ]
    assert rows[0] == rows[1]
    again = read(tmp_path / "again" / "evaluations.csv")
    assert {row["retrained"] for row in again} == {"0"}


def test_wrong_arguments_end_in_one_line(tmp_path: Path, finished: Path) -> None:
    log = ["--log-dir", str(tmp_path / "run")]
    assert "unknown cost 'watts'" in error(*log, "--env-kwargs", "cost=watts")
    assert "choose one of: " in error(*log, "--algo", "ppoo")
    assert "NAME=VALUE" in error(*log, "--env-kwargs", "cost")
    assert "colour" in error(*log, "--env-kwargs", "colour=red")
    assert "ReLeQ-MNITS" in error(*log, "--env", "releq_env:ReLeQ-MNITS-v0")
    assert "not a ReLeQ environment" in error(*log, "--env", "CartPole-v1")
    assert "--timesteps 0" in error(*log, "--timesteps", "0")
    assert "--minutes 0" in error(*log, "--minutes", "0")
    assert "no_such" in error(*log, "--hyperparams", "no_such=1")
    assert "colour" in error(*log, "--algo", "local", "--hyperparams", "colour=1")
    assert "nsga2 does not take" in error(*log, "--algo", "nsga2", "--hyperparams", "population=1")
    assert "population=0 is not accepted" in error(*log, "--algo", "evolution", "--hyperparams", "population=0")
    assert "callback" in error(*log, "--hyperparams", "callback=nowhere.Schedule")
    assert "--n-envs 0" in error(*log, "--n-envs", "0")
    assert "--seed 99999999999" in error(*log, "--seed", "99999999999")
    assert "no episode" in error(*log, "--timesteps", "3")
    assert "nomodule" in error(*log, "--env", "nomodule:Foo-v0")
    for pair in ("evaluator=foo", "max_episode_steps=2", "id=foo", "task=mnist", "data_root=5", "retrain_seed=-1"):
        assert pair.partition("=")[0] in error(*log, "--env-kwargs", pair)
    assert "--workers 0" in error(*log, "--workers", "0")
    assert "--budget -1" in error(*log, "--budget", "-1")
    assert "already holds a run" in error("--log-dir", str(finished))
    assert "holds no run" in error("--resume", str(tmp_path))
    assert not (tmp_path / "run").exists()


def test_resuming_another_run_ends_in_one_line(finished: Path) -> None:
    resume = ["--resume", str(finished)]
    assert "env='releq_env:ReLeQ-Digits-v0'" in error(*resume, "--env", "releq_env:ReLeQ-MNIST-v0")
    assert "algo='ppo'" in error(*resume, "--algo", "random")
    assert "seed=1" in error(*resume, "--seed", "2")
    assert "keeps its hyperparameters" in error(*resume, "--hyperparams", "n_epochs=1")


def test_unwritable_log_folder_ends_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in error("--log-dir", str(tmp_path / "file" / "run"))


def test_changed_conditions_are_not_mixed_into_a_run(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    config = json.loads((run / "config.json").read_text())
    config["accuracy_depends_on"]["weights"] = "others"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit, match="another weights"):
        main(["--resume", str(run)])
