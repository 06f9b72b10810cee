"""Fixtures of all tests. Nothing here or in a test that is not `slow` reads a real data set or the network."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from hypothesis import settings

import releq_env
from releq_env.registration import ENVIRONMENTS
from releq_env.tasks.pretrained import SHIPPED
from releq_env.tasks.task import TASKS
from tests.fakes import FunctionEvaluator

ROOT = Path(releq_env.__file__).parent.parent
_REAL_DATA = os.environ.get("RELEQ_DATA")

# Tests share the machine with their own worker processes; two threads each would wait for one another.
torch.set_num_threads(1)

# Reproducible: the same examples in every run, and no example fails for being slow.
settings.register_profile("releq", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("releq")


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
def fake() -> FunctionEvaluator:
    return FunctionEvaluator()


@pytest.fixture
def make(fake: FunctionEvaluator) -> Iterator[Callable[..., Any]]:
    """Make the Digits environment, without wrappers, over the fake evaluator."""
    made: list[gym.Env[Any, Any]] = []

    def make_env(**kwargs: Any) -> Any:
        env = gym.make("ReLeQ-Digits-v0", **({"evaluator": fake} | kwargs)).unwrapped
        made.append(env)
        return env

    yield make_env
    for env in made:
        env.close()


def shipped(task: str) -> bool:
    """Whether a task can be constructed without pre-training."""
    return (SHIPPED / f"{task}.json").exists()


@pytest.fixture
def constructible(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], bool]:
    """Make every id constructible: where weights are not shipped, an untrained network stands in.

    Call it with an id; it returns whether the weights are the real ones.
    """

    def untrained(task: Any, data_root: object = None, checkpoint: object = None) -> tuple[Any, dict[str, float]]:
        return task.network().eval(), {"validation_accuracy": 0.98}

    def prepare(env_id: str) -> bool:
        real = shipped(ENVIRONMENTS[env_id])
        if not real:
            monkeypatch.setattr("releq_env.tasks.pretraining.pretrain", untrained)
        return real

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


@pytest.fixture(params=list(ENVIRONMENTS))
def env_id(request: pytest.FixtureRequest) -> str:
    """Every registered id."""
    return request.param


@pytest.fixture(params=list(TASKS))
def task_name(request: pytest.FixtureRequest) -> str:
    """Every built-in task."""
    return request.param
