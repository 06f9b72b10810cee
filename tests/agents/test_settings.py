"""From options and hyperparameter files to agents and environments."""

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

from agents.algorithms.registry import ALGORITHMS, find_agent
from agents.run.settings import Options, new_settings, parse_pairs
from agents.train import main
from releq_env import ReLeQEnv, ReLeQVecEnv
from tests.agents import problems
from tests.agents.commands import error, rows
from tests.agents.problems import arguments

pytestmark = pytest.mark.usefixtures("no_pictures")


def made_envs(n_envs: int) -> ReLeQVecEnv:
    env = ReLeQEnv(problems.four_layers())
    return ReLeQVecEnv([lambda: copy.deepcopy(env)] * n_envs)


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
