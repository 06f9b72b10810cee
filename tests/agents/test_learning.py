"""The agents find what there is to find."""

from collections.abc import Sequence
from functools import partial
from statistics import median

import pytest

from agents.policy_gradient import make_model, schedules
from agents.settings import read_hyperparams
from releq_env import ReLeQEnv, ReLeQVecEnv
from tests.fakes import FunctionEvaluator

NEEDED = (2, 1, 3, 2)


def needs_bits(bitwidths: Sequence[int]) -> float:
    """Accuracy that suffers for every bit below what a layer needs."""
    return 0.98 * (1.0 - 0.03 * sum(max(need - bits, 0) for need, bits in zip(NEEDED, bitwidths, strict=True)))


def search(seed: int) -> tuple[float, float]:
    """Return the best objective that a run of PPO has met, and that of the assignment its policy settled on."""
    hyperparams = read_hyperparams("ppo")
    evaluator = FunctionEvaluator(needs_bits)
    make = partial(ReLeQEnv, evaluator=evaluator, bitwidths=[1, 2, 3, 4])
    venv = ReLeQVecEnv([make] * hyperparams.pop("n_envs"))
    model = make_model("ppo", hyperparams, venv, seed)
    model.learn(4000, callback=schedules(hyperparams))
    observations = venv.reset()
    for _ in NEEDED:
        actions, _ = model.predict(observations, deterministic=True)
        observations, rewards, _, _ = venv.step(actions)
    objective = venv.releq_envs[0].objective
    return max(objective(evaluator.evaluate(assignment)) for assignment in set(evaluator.calls)), float(rewards[0])


def test_ppo_finds_the_known_optimum_and_settles() -> None:
    """Over several seeds: what one of them does hangs on the rounding of the processor."""
    met, settled = zip(*(search(seed) for seed in range(5)), strict=True)
    optimum = 1.0 - (sum(NEEDED) / 16) ** 0.2
    assert max(met) == pytest.approx(optimum)
    assert min(met) > 0.8 * optimum
    assert median(settled) > 0.8 * optimum  # at the optimum or next to it
