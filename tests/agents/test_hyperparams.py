"""The hyperparameter files are rl-baselines3-zoo's: its own reader and its own training take them."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from agents.algorithms.registry import HYPERPARAMS, find_agent, read_hyperparams
from agents.run.making import make_agent
from agents.run.settings import Options, new_settings, parse_pairs
from releq_env import Problem, ReLeQEnv, ReLeQError, ReLeQVecEnv
from releq_env.registration import ENVIRONMENTS
from tests.agents import problems

IDS = [*ENVIRONMENTS, "ReLeQ-v0", "CartPole-v1"]


READER = """
import argparse, json, sys
import releq_env  # as --gym-packages does
from rl_zoo3.exp_manager import ExperimentManager
folder, hyperparams, *ids = sys.argv[1:]
algorithms, ids = ids[: ids.index("--")], ids[ids.index("--") + 1 :]
found = {}
for algo in algorithms:
    for env_id in ids:
        path = f"{hyperparams}/{algo}.yml"
        manager = ExperimentManager(argparse.Namespace(), algo, env_id, folder, config=path)
        read, _ = manager.read_hyperparameters()
        callbacks = manager._preprocess_hyperparams(dict(read))[2] if "policy" in read else []
        found[f"{algo} {env_id}"] = [dict(read), [type(callback).__name__ for callback in callbacks]]
print("\\n" + json.dumps(found))
"""


def test_rl_zoos_reader_reads_what_ours_reads(python: Callable[..., str], tmp_path: Path) -> None:
    # In a process of its own: importing rl_zoo3 replaces Gymnasium's TimeLimit.
    if importlib.util.find_spec("rl_zoo3") is None:
        pytest.skip("rl_zoo3 is not installed")
    algorithms = [path.stem for path in HYPERPARAMS.glob("*.yml")]
    printed = python(READER, str(tmp_path), str(HYPERPARAMS), *algorithms, "--", *IDS)
    found = json.loads(printed.splitlines()[-1])
    assert len(found) == len(algorithms) * len(IDS) > 0
    for case, (read, callbacks) in found.items():
        algo, env_id = case.split()
        assert read == json.loads(json.dumps(read_hyperparams(algo, env_id)))
        assert read["n_timesteps"] == 4000
        assert callbacks == ["EntropySchedule"] * ("callback" in read)


def fitted(algo: str, num_layers: int, n_envs: int, env_id: str = "CartPole-v1", **more: Any) -> Any:
    hyperparams = read_hyperparams(algo, env_id) | more
    hyperparams.pop("n_timesteps")
    hyperparams.pop("n_envs")
    problem = Problem.from_function(num_layers, [2, 4], lambda bitwidths: 0.9)
    return find_agent(algo).make(ReLeQVecEnv([lambda: ReLeQEnv(problem)] * n_envs), 0, **hyperparams).model


@pytest.mark.parametrize(("layers", "steps"), [(1, 8), (3, 9), (8, 8), (21, 21)])
def test_the_default_fits_any_number_of_layers(layers: int, steps: int) -> None:
    ppo = fitted("ppo", layers, 8)
    assert (ppo.n_steps, ppo.batch_size) == (steps, steps * 8)


@pytest.mark.parametrize("algo", ["dqn", "qrdqn", "ddpg", "td3", "sac"])
def test_off_policy_agents_learn_once_an_episode_of_whatever_length(algo: str) -> None:
    settings = new_settings(Options(algo=algo, env="releq_env:ReLeQ-v0"))
    for layers in (1, 4, 5, 21):
        problem = Problem.from_function(layers, [2, 4], lambda bitwidths: 0.9)
        agent = make_agent(settings, find_agent(algo), gym.make("releq_env:ReLeQ-v0", problem=problem))
        assert agent.model.train_freq.frequency == layers


def test_a_batch_that_is_no_whole_rollout_is_kept() -> None:
    assert fitted("ppo", 3, 8, batch_size=24).batch_size == 24


@pytest.mark.parametrize("env_id", list(ENVIRONMENTS))
def test_those_of_an_id_need_no_fitting(env_id: str) -> None:
    layers = {"ReLeQ-CIFAR10-v0": 5, "ReLeQ-SVHN-v0": 8}.get(env_id, 4)
    written = read_hyperparams("ppo", env_id)
    ppo = fitted("ppo", layers, 8, env_id)
    assert (ppo.n_steps, ppo.batch_size) == (written["n_steps"], written["batch_size"])
    dqn = fitted("dqn", layers, 8, env_id)
    assert dqn.train_freq.frequency == layers
    assert read_hyperparams("dqn", env_id)["train_freq"] in (1, layers)  # rl-baselines3-zoo takes it as it stands


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *((algo, algo) for algo in ("ppo", "a2c", "trpo", "dqn", "qrdqn", "ddpg", "td3", "sac")),
        ("ppo_lstm", "recurrent_ppo"),
    ],
)
def test_rl_zoo_trains_with_them(theirs: str, ours: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("rl_zoo3") is None:
        pytest.skip("rl_zoo3 is not installed")
    command = f"-m rl_zoo3.train --algo {theirs} --env ReLeQ-Digits-v0 --gym-packages releq_env -n 64 -f {tmp_path}"
    command += f" --conf-file {HYPERPARAMS / ours}.yml --eval-freq -1 --env-kwargs retrain_images:0"
    done = subprocess.run(
        [sys.executable, *command.split()],
        env=os.environ | {"PYTHONPATH": str(HYPERPARAMS.parents[1])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("ReLeQ-Digits-v0.zip"))


def test_the_entropy_coefficient_ends_at_its_last_value() -> None:
    model = fitted("ppo", 4, 8)
    hyperparams = read_hyperparams("ppo", "ReLeQ-v0")
    venv = ReLeQVecEnv([lambda: ReLeQEnv(problems.four_layers())])
    agent = find_agent("ppo").make(venv, 0, callback=hyperparams["callback"], n_steps=32, batch_size=32, ent_coef=0.1)
    seen = []

    class Progress:
        schedule_timesteps = 128

        def step(self, rewards: Any, dones: Any, infos: Any) -> bool:
            seen.append(agent.model.ent_coef)
            return True

        def probabilities(self, by_layer: Any) -> None: ...

    assert model.ent_coef == 0.1
    agent.learn(192, Progress())
    assert seen[::32] == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0, 0.0])


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("retrain_images=0", {"retrain_images": 0}),
        ("cost:energy", {"cost": "energy"}),
        ("bitwidths=[2, 4]", {"bitwidths": [2, 4]}),
        ("cache=null", {"cache": None}),
        ("data_root=C:/data", {"data_root": "C:/data"}),
        ("problem=module:function", {"problem": "module:function"}),
    ],
)
def test_pairs(pair: str, expected: dict[str, object]) -> None:
    assert parse_pairs([pair], "--env-kwargs", "cost=energy") == expected


@pytest.mark.parametrize("pair", ["cost", "=3", "x=[1,", "x=2020-01-01", "x=.nan"])
def test_pairs_of_another_form(pair: str) -> None:
    with pytest.raises(ReLeQError, match="--env-kwargs got"):
        parse_pairs([pair], "--env-kwargs", "cost=energy")
