"""Fixtures of all tests. Nothing here or in a test that is not `slow` reads a real data set or the network."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from hypothesis import settings

import releq_env
from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem
from releq_env.quantization import quantizable_layers
from releq_env.registration import ENVIRONMENTS, OWN
from releq_env.tasks.pretrained import SHIPPED
from releq_env.tasks.task import TASKS
from tests.fakes import FULL_PRECISION, FakeSource, digits_problem, smooth_accuracy

ROOT = Path(releq_env.__file__).parent.parent
OF_PROBLEM = ("bitwidths", "reward", "cost", "max_cost", "min_relative_accuracy")
_REAL_DATA = os.environ.get("RELEQ_DATA")

# Tests share the machine with their own worker processes; two threads each would wait for one another.
torch.set_num_threads(1)

# Reproducible: the same examples in every run, and no example fails for being slow.
settings.register_profile("releq", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("releq")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that run a program of their own."""
    if "python" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.processes)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache and a data folder of the test's own, both empty."""
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "releq-cache"))
    monkeypatch.setenv("RELEQ_DATA", str(tmp_path / "releq-data"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no name be resolved, so that a download fails at once."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("the network is off in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def real_data() -> str:
    """The folder of the real data sets, for slow tests."""
    if not _REAL_DATA:
        pytest.skip("RELEQ_DATA does not name a folder with the real data sets")
    return _REAL_DATA


@pytest.fixture
def fake() -> FakeSource:
    return FakeSource()


@pytest.fixture
def make(fake: FakeSource) -> Iterator[Callable[..., Any]]:
    """Make an environment, without wrappers, over the fake source and the layers of Digits.

    It takes the arguments of `ReLeQEnv`, those of its problem included.
    """
    made: list[gym.Env[Any, Any]] = []

    def make_env(**kwargs: Any) -> Any:
        made.append(gym.make(OWN, **over(fake, kwargs)).unwrapped)
        return made[-1]

    yield make_env
    for env in made:
        env.close()


def over(source: FakeSource, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of an environment with those of its problem replaced by one over a source."""
    if "problem" in kwargs:
        return kwargs
    of_problem = {name: value for name, value in kwargs.items() if name in OF_PROBLEM}
    others = {name: value for name, value in kwargs.items() if name not in OF_PROBLEM}
    return others | {"problem": digits_problem(source, **of_problem)}


def shipped(task: str) -> bool:
    """Whether a task can be constructed without pre-training."""
    return (SHIPPED / f"{task}.json").exists()


@cache
def layers_of(task: str) -> tuple[LayerInfo, ...]:
    """Return the layers of a built-in task's network, which need not be trained for that."""
    return quantizable_layers(TASKS[task].untrained(), TASKS[task].dataset.input_shape)


@pytest.fixture
def problem_of() -> Callable[[str], Problem]:
    """Return a problem with the layers of an id's network and no training; an id without a network gets Digits'."""

    def prepare(env_id: str) -> Problem:
        layers = layers_of(ENVIRONMENTS.get(env_id, "digits"))
        return Problem.from_function(len(layers), range(1, 9), smooth_accuracy, FULL_PRECISION, layers)

    return prepare


@pytest.fixture
def python() -> Callable[..., str]:
    """Run Python code in a fresh process that can import the package; return what it prints."""

    def run(code: str, *args: str, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(params=[*ENVIRONMENTS, OWN])
def env_id(request: pytest.FixtureRequest) -> str:
    """Every registered id."""
    return request.param


@pytest.fixture(params=list(TASKS))
def task_name(request: pytest.FixtureRequest) -> str:
    """Every built-in task."""
    return request.param
