"""Whoever adds one writes one file of under 40 lines outside the package, imports it, and trains with it."""

import importlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

from agents.algorithms.registry import ALGORITHMS
from agents.run.runner import run
from agents.run.settings import Options
from releq_env import ReLeQVecEnv
from releq_env.cost import COSTS
from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem
from releq_env.quantization import QUANTIZERS
from releq_env.reward import REWARDS
from releq_env.searchers import SEARCHERS, Searcher, make_searcher, search_loop
from releq_env.tasks import TASKS
from releq_env.testing import CostContract, EnvAgentContract, SearcherContract
from tests.fakes import smooth_accuracy

HERE = Path(__file__).parent / "third_party"
ADDED = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "__init__")
REGISTRIES: list[Any] = [ALGORITHMS, COSTS, QUANTIZERS, REWARDS, SEARCHERS, TASKS]
ID = "releq_env:ReLeQ-v0"
DIGITS = "releq_env:ReLeQ-Digits-v0"


@pytest.fixture(autouse=True)
def registered(request: pytest.FixtureRequest) -> Iterator[None]:
    """Import what a test is named after; take it out of the registries afterwards."""
    before = [dict(registry) for registry in REGISTRIES]
    for name in ADDED:
        if f"third_{name}" in request.node.name:
            importlib.reload(importlib.import_module(f"tests.house.third_party.{name}"))
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        for name in set(registry) - set(entries):
            registry.pop(name, None)  # ALGORITHMS shows SEARCHERS too


@pytest.fixture
def problem() -> Problem:
    return Problem.from_function(4, range(1, 9), smooth_accuracy, full_precision_accuracy=0.98)


def train(problem: Problem, **decision: Any) -> list[dict[str, Any]]:
    """Let PPO take a few steps; return the infos of all ends of episodes."""
    ends: list[dict[str, Any]] = []

    def seen(known: dict[str, Any], _: object) -> bool:
        ends.extend(info for info, done in zip(known["infos"], known["dones"], strict=True) if done)
        return True

    venv = ReLeQVecEnv([lambda: gym.make(ID, problem=problem, **decision)] * 2)
    steps = 4 * problem.num_layers
    PPO("MlpPolicy", venv, n_steps=steps, batch_size=2 * steps, seed=0, device="cpu").learn(2 * steps, callback=seen)
    assert len(ends) >= 8
    return ends


@pytest.mark.parametrize("name", ADDED)
def test_it_is_short(name: str) -> None:
    assert len((HERE / f"{name}.py").read_text().splitlines()) < 40


def test_a_third_searcher(problem: Problem, tmp_path: Path) -> None:
    searcher = make_searcher("one_parent", problem, seed=0, rate=0.5)
    told = [evaluation for each in search_loop(problem, searcher, budget=40, batch=4) for evaluation in each]
    best = max(map(problem.objective, told))
    assert best > max(map(problem.objective, told[:4]))
    folder = run(Options(algo="one_parent", env=DIGITS, budget=6, env_kwargs=["retrain_images=32"], log_dir=tmp_path))
    assert len(folder.rows) == 6


def test_a_third_env_agent(tmp_path: Path) -> None:
    options = Options(
        algo="cross_entropy",
        timesteps=64,
        n_envs=4,
        hyperparams=["rate=0.5"],
        env_kwargs=["retrain_images=32", "max_cost=0.6"],
        log_dir=tmp_path,
    )
    folder = run(options)
    assert folder.best is not None
    assert folder.best["state_of_quantization"] <= 0.6
    (saved,) = tmp_path.glob("*.npy")
    assert np.load(saved, allow_pickle=False).shape == (4, 8)


def added(name: str) -> Any:
    """Return the file of somebody else; what it registers goes with the test."""
    return importlib.import_module(f"tests.house.third_party.{name}")


class TestAThirdSearcher(SearcherContract):
    repeats, is_complete = True, False

    def make(self, problem: Problem, seed: int) -> Searcher:
        return added("searcher").OneParent(problem, seed)


class TestAThirdEnvAgent(EnvAgentContract):
    def make(self, venv: Any, seed: int) -> Any:
        return added("env_agent").CrossEntropy(venv, seed)


class TestAThirdCost(CostContract):
    choices = (1, 2, 4, 8)

    def cost(self, layer: LayerInfo, bits: int) -> float:
        return added("cost").cycles(layer, bits)


def test_an_algorithm_of_stable_baselines3s_as_a_third_env_agent_by_name(tmp_path: Path) -> None:
    ALGORITHMS["another"] = "stable_baselines3:A2C"
    folder = run(
        Options(
            algo="another",
            timesteps=64,
            n_envs=2,
            hyperparams=["n_steps=4"],
            env_kwargs=["retrain_images=32"],
            log_dir=tmp_path,
        )
    )
    assert folder.best is not None
    assert (tmp_path / "ReLeQ-Digits-v0.zip").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_third_quantizer(workers: int) -> None:
    problem = Problem.from_task("digits", quantizer="abs_max", retrain_images=64, cache=None, workers=workers)
    assert problem.choices == (tuple(range(2, 9)),) * 4
    assert [layer.scales for layer in problem.layers] == [1] * 4
    low, high = problem.evaluator.evaluate_many([(2,) * 4, (8,) * 4])
    assert low.accuracy < high.accuracy
    assert high.relative_accuracy > 0.98
    train(problem)
    problem.evaluator.close()


def test_a_third_quantizer_without_a_stacked_form_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="abs_max") as raised:
        Problem.from_task("digits", quantizer="abs_max", cache=None, parallel="stacked")
    assert "\n" not in str(raised.value)


def test_a_third_cost(problem: Problem) -> None:
    problem = problem.replace(cost="cycles")
    assert problem.state_of_quantization((8, 8, 8, 8)) == 1.0
    assert problem.state_of_quantization((5, 6, 7, 8)) == 1.0
    assert problem.state_of_quantization((4, 3, 4, 3)) == 0.5
    assert problem.state_of_quantization((1, 2, 1, 2)) == 0.25
    for info in train(problem):
        assert info["state_of_quantization"] == problem.state_of_quantization(info["bitwidths"].tolist())


def test_a_third_reward(problem: Problem) -> None:
    careful = problem.replace(reward="careful")
    assert careful.objective(careful.evaluator.evaluate((8, 8, 8, 8))) == 0.0
    low = careful.evaluator.evaluate((1, 1, 1, 1))
    assert careful.objective(low) == pytest.approx(0.875 - 10 * (0.99 - low.relative_accuracy))
    train(careful)
    assert train(problem.replace(reward=lambda a, q: a - q))


def test_a_problem_with_a_third_reward_is_pickled_before_and_after_use(problem: Problem) -> None:
    careful = problem.replace(reward="careful")
    evaluation = careful.evaluator.evaluate((4, 4, 4, 4))
    before = pickle.loads(pickle.dumps(careful))
    assert before.objective(evaluation) == careful.objective(evaluation)
    after = pickle.loads(pickle.dumps(careful))
    assert after.objective(evaluation) == careful.objective(evaluation)


def test_a_third_task() -> None:
    env = gym.make("releq_env:ReLeQ-v0", problem="louder", cache=None, workers=1)
    problem: Problem = env.unwrapped.problem  # type: ignore[attr-defined]
    assert [layer.macs for layer in problem.layers] == [8 * 9 * 16, 256]
    assert problem.full_precision_accuracy > 0.9
    train(problem)
    assert problem.evaluator.retrained > 1


def test_registries_are_left_as_they_were() -> None:
    assert not {"one_parent", "cross_entropy", "abs_max", "cycles", "careful", "louder"} & {
        name for registry in REGISTRIES for name in registry
    }
