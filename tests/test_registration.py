"""Contracts of every registered id: a new id is tested without a new line here."""

import inspect
import json
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from releq_env.env import ReLeQEnv
from releq_env.errors import ReLeQError
from releq_env.problem import Problem
from releq_env.registration import ENVIRONMENTS, OWN, register_envs
from releq_env.tasks import TASKS
from tests.conftest import shipped
from tests.failing import no_warning
from tests.fakes import bits_of, digits_problem

ARGUMENTS = {
    *inspect.signature(ReLeQEnv).parameters,
    *inspect.signature(Problem.from_task).parameters,
} - {"arguments", "task"}


@pytest.fixture
def make_id(env_id: str, problem_of: Callable[[str], Problem]) -> Callable[..., Any]:
    """Make the id at hand over a problem that stands in for its own, with the same layers."""
    problem = problem_of(env_id)
    return lambda **kwargs: gym.make(env_id, problem=problem, **kwargs)


def episode(env: Any, seed: int) -> list[Any]:
    env.action_space.seed(seed)
    trace: list[Any] = [env.reset(seed=seed)]
    done = False
    while not done:
        trace.append(env.step(env.action_space.sample()))
        done = trace[-1][2] or trace[-1][3]
    return trace


def assert_same(first: list[Any], second: list[Any]) -> None:
    np.testing.assert_equal(first, second)


def test_every_task_has_an_id() -> None:
    assert list(ENVIRONMENTS.values()) == list(TASKS)


def test_id_is_registered_without_a_limit_of_steps(env_id: str) -> None:
    spec = gym.spec(env_id)
    assert spec.max_episode_steps is None
    assert spec.entry_point == "releq_env.env:ReLeQEnv"
    assert spec.nondeterministic is False


def test_registering_twice_says_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register_envs()


def test_spec_is_json(env_id: str) -> None:
    spec = gym.spec(env_id)
    assert EnvSpec.from_json(spec.to_json()) == spec
    assert json.loads(spec.to_json())["kwargs"] == {"problem": ENVIRONMENTS.get(env_id)}


def test_spec_of_a_configured_environment_is_json() -> None:
    env = gym.make("ReLeQ-Digits-v0", bitwidths=[2, 4], cost="energy", max_cost=0.75, cache=None, retrain_images=0)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.problem.choices == ((2, 4),) * 4
    assert again.unwrapped.problem.max_cost == 0.75
    assert_same(episode(env, 0), episode(again, 0))


@no_warning
def test_gymnasiums_checker_has_no_complaint(make_id: Callable[..., Any]) -> None:
    for kwargs in ({}, {"evaluate": "step", "observation": "history"}, {"action_mode": "restricted"}):
        check_env(make_id(**kwargs).unwrapped)


@no_warning
def test_stable_baselines3s_checker_has_no_complaint(make_id: Callable[..., Any]) -> None:
    for kwargs in ({}, {"evaluate": "step", "observation": "history"}, {"action_mode": "restricted"}):
        check_env_sb3(make_id(**kwargs))


@no_warning
def test_checkers_have_no_complaint_of_the_real_thing() -> None:
    kwargs = {"retrain_images": 64}
    check_env(gym.make("ReLeQ-Digits-v0", **kwargs).unwrapped)
    check_env_sb3(gym.make("ReLeQ-Digits-v0", **kwargs))


def test_two_instances_with_one_seed_agree(make_id: Callable[..., Any]) -> None:
    assert_same(episode(make_id(evaluate="step"), 5), episode(make_id(evaluate="step"), 5))


def test_pickled_in_mid_episode_it_goes_on_alike(make_id: Callable[..., Any]) -> None:
    env = make_id(evaluate="step", observation="history")
    env.reset(seed=1)
    env.step(1)
    other = pickle.loads(pickle.dumps(env))
    steps = env.unwrapped.episode_steps - 1
    assert_same([env.step(i % 3) for i in range(steps)], [other.step(i % 3) for i in range(steps)])


def test_an_episode_ends_by_itself(make_id: Callable[..., Any]) -> None:
    env = make_id()
    trace = episode(env, 0)
    assert len(trace) == 1 + env.unwrapped.problem.num_layers
    assert trace[-1][2] is True
    assert "is_success" in trace[-1][4]


@pytest.mark.parametrize("env_id", [env_id for env_id, task in ENVIRONMENTS.items() if shipped(task)])
def test_the_defaults_are_those_of_the_task(env_id: str, problem_of: Callable[[str], Problem]) -> None:
    env: Any = gym.make(env_id, cache=None).unwrapped
    task = TASKS[ENVIRONMENTS[env_id]]
    problem = env.problem
    assert (problem.name, problem.quantizer, problem.reward, problem.cost) == (
        task.name,
        "lsq",
        "constrained",
        "mean_bits",
    )
    assert problem.min_relative_accuracy == task.min_relative_accuracy
    assert problem.choices == (tuple(range(1, 9)),) * problem.num_layers
    assert [layer.name for layer in problem.layers] == [layer.name for layer in problem_of(env_id).layers]
    assert [layer.scales for layer in problem.layers] == [layer.n for layer in problem.layers]


def test_the_id_for_ones_own_problem_needs_one() -> None:
    for kwargs in ({}, {"problem": None}, {"cost": "energy"}):
        with pytest.raises(ReLeQError, match=r"problem= is missing; give a releq_env.Problem") as raised:
            gym.make(OWN, **kwargs)
        assert "\n" not in str(raised.value)


def test_any_id_takes_a_problem_in_place_of_its_own() -> None:
    problem = digits_problem(bitwidths=[2, 4])
    env: Any = gym.make("releq_env:ReLeQ-SVHN-v0", problem=problem).unwrapped
    assert env.problem is problem


@pytest.mark.parametrize(
    "kwargs",
    [
        {"bitwidths": [2, 4, 8]},
        {"quantizer": "wrpn"},
        {"quantizer": "dorefa"},
        {"reward": "shaped"},
        {"reward": max},
        {"cost": "bitops"},
        {"max_cost": 0.5},
        {"min_relative_accuracy": 0.9},
        {"evaluate": "gain"},
        {"action_mode": "restricted"},
        {"observation": "history"},
        {"retrain_images": 0},
        {"retrain_seed": 7},
        {"data_root": "nowhere"},  # Digits come with a library
        {"cache": None},
        {"cache": "own.sqlite"},
        {"device": "cpu"},
        {"precision": "fp32"},
        {"precision": "bf16"},
        {"parallel": "processes"},
        {"workers": 2},
        {"render_mode": "ansi"},
        {"problem": "digits"},
    ],
    ids=str,
)
def test_every_argument(kwargs: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = gym.make("ReLeQ-Digits-v0", **({"retrain_images": 32} | kwargs))
    trace = episode(env, 0)
    assert trace[-1][2] is True
    assert np.isfinite(trace[-1][1])
    if kwargs.get("cache") == "own.sqlite":
        assert (tmp_path / "own.sqlite").exists()
    env.close()


def test_every_argument_is_tested_and_documented() -> None:
    marks = [mark for mark in test_every_argument.pytestmark if mark.name == "parametrize"]
    assert {name for kwargs in marks[0].args[1] for name in kwargs} == ARGUMENTS
    documentation = inspect.getdoc(ReLeQEnv) or ""
    arguments = documentation.split("Args:")[1].split("Raises:")[0]
    assert set(re.findall(r"^    (\w+): ", arguments, re.MULTILINE)) == ARGUMENTS


def test_every_id_is_documented(env_id: str) -> None:
    assert f"`{env_id}`" in (inspect.getdoc(ReLeQEnv) or "")


def test_the_documentation_has_gymnasiums_sections() -> None:
    titles = re.findall(r"^## (.+)$", inspect.getdoc(ReLeQEnv) or "", re.MULTILINE)
    assert titles == [
        "Description",
        "Action Space",
        "Observation Space",
        "Starting State",
        "Rewards",
        "Episode End",
        "Information",
        "Arguments",
        "Registered Configurations",
        "Version History",
    ]


@pytest.mark.processes
@pytest.mark.parametrize("start_method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_subprocesses(start_method: str, tmp_path: Any) -> None:
    kwargs = {"retrain_images": 64, "cache": str(tmp_path / "cache.sqlite")}
    env = make_vec_env(
        "releq_env:ReLeQ-Digits-v0",
        n_envs=2,
        seed=0,
        env_kwargs=kwargs,
        vec_env_cls=SubprocVecEnv,
        vec_env_kwargs={"start_method": start_method},
    )
    try:
        env.reset()
        for action in (1, 1, 2):
            _, rewards, dones, _ = env.step(np.array([action, action]))
            assert not dones.any()
        _, rewards, dones, infos = env.step(np.array([1, 1]))
    finally:
        env.close()
    assert dones.all()
    assert bits_of(infos[0]) == (2, 2, 3, 2)
    local = gym.make("ReLeQ-Digits-v0", retrain_images=64, cache=None)
    local.reset()
    for action in (1, 1, 2, 1):
        *_, reward, _, _, info = local.step(action)
    assert [worker["accuracy"] for worker in infos] == [info["accuracy"]] * 2
    assert rewards.tolist() == pytest.approx([reward] * 2, rel=1e-6)


@pytest.mark.slow
def test_the_real_thing(env_id: str, real_data: str) -> None:
    if env_id == OWN:
        pytest.skip("it has no task")
    task = TASKS[ENVIRONMENTS[env_id]]
    if not shipped(task.name):
        pytest.skip(f"no weights of {task.name} are shipped")
    env = gym.make(env_id, data_root=real_data, retrain_images=1280, bitwidths=[2, 8])
    env.reset(seed=0)
    try:
        for _ in env.unwrapped.problem.layers:
            *_, terminated, _, info = env.step(1)
    except ReLeQError as error:
        if "downloading it failed" in str(error):
            pytest.skip(f"the data of {task.name} are not in RELEQ_DATA")
        raise
    assert terminated
    assert info["relative_accuracy"] > 0.97
