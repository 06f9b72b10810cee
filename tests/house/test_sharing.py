"""What environments of one problem share, and what they do not."""

import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest

from releq_env import ReLeQEnv, ReLeQError
from releq_env.problem import Problem
from releq_env.tasks import TASKS
from releq_env.vector_env import ReLeQVectorEnv
from tests.fakes import RandomImages, random_dataset, smooth_accuracy

ID = "releq_env:ReLeQ-v0"
DIGITS = "releq_env:ReLeQ-Digits-v0"
LAYERS = 3


class Asked:
    """An accuracy function that notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, bitwidths: tuple[int, ...]) -> float:
        self.calls.append(bitwidths)
        return smooth_accuracy(bitwidths)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def problem(asked: Asked) -> Problem:
    return Problem.from_function(LAYERS, [2, 4, 8], asked, full_precision_accuracy=0.98)


def play(env: Any, actions: Sequence[int]) -> dict[str, Any]:
    """Play an episode; return its last info."""
    env.reset(seed=0)
    for action in actions:
        *_, info = env.step(action)
    return info


def test_environments_of_a_problem_share_its_evaluator(problem: Problem, asked: Asked) -> None:
    envs: list[Any] = [gym.make(ID, problem=problem, observation=kind) for kind in ("paper", "history")]
    assert play(envs[0], [0, 1, 2])["accuracy"] == play(envs[1], [0, 1, 2])["accuracy"]
    assert asked.calls == [(2, 4, 8)]
    assert envs[0].unwrapped.evaluator is envs[1].unwrapped.evaluator is problem.evaluator
    play(gym.make(ID, problem=problem.replace(cost="energy")), [0, 1, 2])
    assert (len(asked.calls), problem.evaluator.distinct_evaluations) == (1, 1)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda env: gym.make(env.spec)], ids=["deepcopy", "spec"])
def test_a_copy_shares_it_too(problem: Problem, asked: Asked, again: Callable[[Any], Any]) -> None:
    env: Any = gym.make(ID, problem=problem, evaluate="gain")
    play(env, [0, 1, 2])
    calls = len(asked.calls)
    other = again(env)
    play(other, [0, 1, 2])
    assert len(asked.calls) == calls
    assert other.unwrapped is not env.unwrapped
    assert other.unwrapped.evaluator is problem.evaluator


def test_a_deep_copy_goes_its_own_way(problem: Problem) -> None:
    env: Any = gym.make(ID, problem=problem)
    env.reset()
    env.step(0)
    other = copy.deepcopy(env)
    env.step(0)
    *_, info = other.step(2)
    assert info["bitwidths"].tolist() == [2, 8, 8]
    *_, info = env.step(0)
    assert info["bitwidths"].tolist() == [2, 2, 2]


def test_a_deep_copy_reads_no_data_again() -> None:
    images = RandomImages()
    task = replace(
        TASKS["digits"],
        name="random-images",
        dataset=replace(random_dataset(), read=images),
        pretraining=replace(TASKS["digits"].pretraining, epochs=1),
    )
    env = ReLeQEnv(task, retrain_images=32, cache=None, workers=1)
    accuracy = play(env, [0, 1, 2, 3])["accuracy"]
    reads = images.reads
    other = copy.deepcopy(env)
    assert play(other, [0, 1, 2, 3])["accuracy"] == accuracy
    play(other, [3, 2, 1, 0])
    assert images.reads == reads
    assert env.evaluator.retrained == 2


@pytest.mark.parametrize("pickled", ["env", "problem"])
def test_a_pickle_shares_the_file_and_counts_apart(tmp_path: Any, pickled: str) -> None:
    problem = Problem.from_task("digits", retrain_images=64, cache=str(tmp_path / "file.sqlite"), workers=1)
    env = ReLeQEnv(problem)
    accuracy = play(env, [1, 1, 1, 1])["accuracy"]
    payload = pickle.dumps(env if pickled == "env" else problem)
    restored = pickle.loads(payload)
    other = restored if pickled == "env" else ReLeQEnv(restored)
    play(env, [2, 2, 2, 2])
    assert play(other, [1, 1, 1, 1])["accuracy"] == accuracy
    play(other, [2, 2, 2, 2])
    assert other.evaluator is not env.evaluator
    assert (other.evaluator.retrained, env.evaluator.retrained) == (0, 2)
    play(other, [3, 3, 3, 3])
    assert (other.evaluator.retrained, env.evaluator.retrained) == (1, 2)
    assert (other.evaluator.distinct_evaluations, env.evaluator.distinct_evaluations) == (3, 2)


def test_pickled_to_another_process(python: Callable[..., str], tmp_path: Any) -> None:
    env = ReLeQEnv(Problem.from_task("digits", retrain_images=64, cache=str(tmp_path / "file.sqlite"), workers=1))
    accuracy = play(env, [1, 1, 1, 1])["accuracy"]
    env.reset()
    env.step(1)
    path = tmp_path / "env.pickle"
    path.write_bytes(pickle.dumps(env))
    code = """
import pathlib, pickle, sys
env = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
for _ in range(3):
    *_, info = env.step(1)
print(float(info["accuracy"]), env.evaluator.retrained)
"""
    assert python(code, str(path)).split() == [repr(float(accuracy)), "0"]


@pytest.mark.parametrize(
    "argument",
    [
        {"cost": "energy"},
        {"bitwidths": [2, 4]},
        {"reward": "ratio"},
        {"max_cost": 0.5},
        {"min_relative_accuracy": 0.9},
        {"quantizer": "wrpn"},
        {"cache": None},
        {"workers": 1},
        {"evaluator": None},
        {"nonsense": 1},
    ],
    ids=lambda argument: next(iter(argument)),
)
@pytest.mark.parametrize("make", [ReLeQEnv, ReLeQVectorEnv], ids=["single", "vector"])
def test_beside_a_problem_nothing_else_is_accepted(problem: Problem, make: Any, argument: dict[str, Any]) -> None:
    with pytest.raises(ReLeQError) as raised:
        make(problem, **argument)
    message = str(raised.value)
    assert "\n" not in message
    assert next(iter(argument)) in message
    with pytest.raises(ReLeQError):
        gym.make(ID, problem=problem, **argument)


def test_a_problem_takes_the_place_of_an_ids_own(problem: Problem) -> None:
    env: Any = gym.make("releq_env:ReLeQ-SVHN-v0", problem=problem).unwrapped  # there are no data for its own
    assert env.problem is problem


def test_an_id_without_a_problem_says_what_to_give() -> None:
    with pytest.raises(ReLeQError, match="problem") as raised:
        gym.make(ID)
    assert "\n" not in str(raised.value)


def test_gyms_own_copies_of_an_id(tmp_path: Any) -> None:
    env = gym.make(DIGITS, retrain_images=64, cache=str(tmp_path / "file.sqlite"), workers=1)
    accuracy = play(env, [1, 1, 1, 1])["accuracy"]
    assert env.spec is not None
    again: Any = gym.make(env.spec)
    assert play(again, [1, 1, 1, 1])["accuracy"] == accuracy
    assert again.unwrapped.evaluator.retrained == 0
