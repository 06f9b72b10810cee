"""The agents find what there is to find; the batched environments are the single ones."""

from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import pytest

from agents.policy_gradient import make_model, schedules
from agents.settings import read_hyperparams
from agents.vec_env import BatchedVecEnv
from tests.fakes import FunctionEvaluator

NEEDED = (2, 1, 3, 2)


def needs_bits(bitwidths: Sequence[int]) -> float:
    """Accuracy that suffers for every bit below what a layer needs."""
    return 0.98 * (1.0 - 0.03 * sum(max(need - bits, 0) for need, bits in zip(NEEDED, bitwidths, strict=True)))


def batched(n_envs: int, evaluator: FunctionEvaluator, **kwargs: object) -> BatchedVecEnv:
    return BatchedVecEnv(
        [lambda: gym.make("releq_env:ReLeQ-Digits-v0", evaluator=evaluator, **kwargs)] * n_envs  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_ppo_finds_the_known_optimum_and_settles(seed: int) -> None:
    hyperparams = read_hyperparams("ppo")
    evaluator = FunctionEvaluator(needs_bits)
    venv = batched(hyperparams.pop("n_envs"), evaluator, bitwidths=[1, 2, 3, 4])
    model = make_model("ppo", hyperparams, venv, seed)
    model.learn(4000, callback=schedules(hyperparams))
    observations = venv.reset()
    for _ in NEEDED:
        actions, _ = model.predict(observations, deterministic=True)
        observations, rewards, _, _ = venv.step(actions)
    optimum = 1.0 - (sum(NEEDED) / 16) ** 0.2
    best = max(venv.releq_envs[0].objective(evaluator.evaluate(assignment)) for assignment in set(evaluator.calls))
    assert best == pytest.approx(optimum)
    assert rewards[0] > 0.8 * optimum  # and the policy settled there or next to it


@pytest.mark.parametrize("evaluate", ["episode", "step", "gain"])
@pytest.mark.parametrize("action_mode", ["flexible", "restricted"])
def test_batched_environments_give_the_trajectories_of_single_ones(evaluate: str, action_mode: str) -> None:
    kwargs = {"evaluate": evaluate, "action_mode": action_mode}
    venv = batched(3, FunctionEvaluator(), **kwargs)
    singles = [gym.make("releq_env:ReLeQ-Digits-v0", evaluator=FunctionEvaluator(), **kwargs) for _ in range(3)]
    together = venv.reset()
    np.testing.assert_array_equal(together, [env.reset()[0] for env in singles])
    generator = np.random.default_rng(0)
    for _ in range(40):
        actions = generator.integers(singles[0].action_space.n, size=3)  # type: ignore[attr-defined]
        together, rewards, dones, infos = venv.step(actions)
        for index, env in enumerate(singles):
            observation, reward, terminated, _, info = env.step(actions[index])
            assert rewards[index] == np.float32(reward)
            assert dones[index] == terminated
            assert infos[index]["bitwidths"] == info["bitwidths"]
            if terminated:
                np.testing.assert_array_equal(infos[index]["terminal_observation"], observation)
                observation, _ = env.reset()
            np.testing.assert_array_equal(together[index], observation)


def test_a_step_asks_for_all_assignments_at_once() -> None:
    class Counting(FunctionEvaluator):
        batches: list[int] = []

        def evaluate_many(self, assignments):  # type: ignore[no-untyped-def]
            self.batches.append(len(assignments))
            return super().evaluate_many(assignments)

    venv = batched(5, Counting())
    venv.reset()
    for _ in range(8):
        venv.step(np.arange(5))
    assert Counting.batches == [5, 5]
