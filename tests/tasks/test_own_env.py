"""A network of one's own behind `gym.make`, the command line, and in other processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

from releq_env import Problem, ReLeQEnv, ReLeQError, search
from releq_env.evaluation import Evaluation
from tests.conftest import ROOT
from tests.tasks.own_networks import CASES
from tests.tasks.own_problem import with_workers
from tests.tasks.test_own import RECIPE

ID = "releq_env:ReLeQ-v0"
BY_NAME = "tests.tasks.own_problem:make_problem"


def arguments(**more: Any) -> dict[str, Any]:
    model, training, validation = CASES["signals"].made()
    given = {"model": model, "train_data": training, "validation_data": validation}
    return given | {"retraining": RECIPE, "workers": 1, "precision": "fp32"} | more


def episode(env: Any, bits: int = 2) -> float:
    env.reset(seed=0)
    for _ in range(env.unwrapped.problem.num_layers):
        *_, info = env.step(bits - 1)
    return float(info["accuracy"])


def test_an_environment_of_a_network() -> None:
    env = gym.make(ID, **arguments(cost="size", observation="history", max_cost=0.9))
    unwrapped: Any = env.unwrapped
    assert unwrapped.problem.cost == "size"
    expected = Problem.from_network(**arguments(cache=None)).evaluator.evaluate((2, 2)).accuracy
    assert episode(env) == expected
    assert env.spec is not None
    again = gym.make(env.spec)
    assert episode(again) == expected
    assert again.unwrapped.evaluator.retrained == 0  # type: ignore[attr-defined]
    check_env(unwrapped, skip_render_check=True)
    vector = gym.make_vec(ID, num_envs=3, **arguments())
    vector.reset(seed=0)
    vector.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"problem": None, "model": None, "train_data": None}, "validation_data= is missing; give model="),
        ({"problem": None, **arguments(nonsense=1)}, "of a network got an unexpected keyword argument 'nonsense'"),
        ({"problem": None}, "problem= is missing.*or a network with model="),
        ({"problem": None, **arguments(retrain_images=5)}, "got an unexpected keyword argument 'retrain_images'"),
    ],
    ids=range(4),
)
def test_what_is_missing_is_said_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        ReLeQEnv(**given)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_worker_processes_measure_the_same() -> None:
    assignments = [(1, 1), (2, 2), (3, 4)]
    problem = with_workers()
    problem.evaluator.cache = None
    try:
        found = problem.evaluator.evaluate_many(assignments)
    finally:
        problem.evaluator.close()
    alone = Problem.from_network(**arguments(cache=None)).evaluator.evaluate_many(assignments)

    def told(evaluations: list[Evaluation]) -> list[tuple[tuple[int, ...], float]]:
        return [(each.bitwidths, each.accuracy) for each in evaluations]

    assert told(found) == told(alone)


@pytest.mark.slow
def test_the_command_line_searches_and_goes_on(tmp_path: Path) -> None:
    def train(*options: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "agents.train", *options],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    folder = str(tmp_path / "run")
    new = ["--algo", "random", "--env", ID, "--env-kwargs", f"problem={BY_NAME}", "--log-dir", folder]
    first = train(*new, "--budget", "3")
    again = train("--resume", folder, "--budget", "5")
    recipes = [line for line in (first + again).splitlines() if "learning rate" in line and "tried" in line]
    assert len(recipes) == 2
    assert recipes[0] == recipes[1]  # it was found once
    assert json.loads((tmp_path / "run" / "best.json").read_text())["distinct_evaluations"] == 5


@pytest.mark.slow
def test_environments_in_processes_of_their_own() -> None:
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv

    kwargs: dict[str, Any] = {"vec_env_cls": SubprocVecEnv, "vec_env_kwargs": {"start_method": "spawn"}}
    expected = episode(gym.make(ID, problem=BY_NAME))
    for given in ({"problem": BY_NAME}, arguments(retraining=None, seconds=0.2)):
        venv = make_vec_env(ID, n_envs=2, env_kwargs=given, **kwargs)
        venv.reset()
        venv.step([1, 1])
        *_, infos = venv.step([1, 1])
        assert [float(info["accuracy"]) for info in infos] == [expected] * 2
        venv.close()


NOTEBOOK = """
import torch
from torch import nn

torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)))

import releq_env
from releq_env.tasks import RetrainingRecipe

x, y = torch.randn(64, 8), torch.randn(64, 8)
problem = releq_env.Problem.from_network(
    Net(), (x, x[:, :3].argmax(1)), (y, y[:, :3].argmax(1)), retraining=RetrainingRecipe(32, 16)
)
problem.evaluator.source._made_pool()._here = [100.0, 100.0]  # as if it were slow
print(len(releq_env.search(problem, budget=4, progress=False).evaluations))
"""


def test_a_network_of_a_notebook_goes_on_in_one_process(python: Callable[..., str]) -> None:
    code = f"""
import warnings
with warnings.catch_warnings(record=True) as said:
    exec({NOTEBOOK!r})
print(said[-1].message)
"""
    printed = python(code, OMP_NUM_THREADS="1").splitlines()
    assert printed[0] == "4"
    assert "going on in this process alone: worker processes cannot import" in printed[1]


def test_a_search_of_a_network_by_name() -> None:
    assert len(search(BY_NAME, budget=2, progress=False).evaluations) == 2
