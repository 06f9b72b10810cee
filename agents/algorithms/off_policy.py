"""Stable-Baselines3's off-policy family: DQN and QR-DQN, and DDPG, TD3 and SAC, whose actions are numbers."""

from typing import Any

import numpy as np
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise

from agents.algorithms.sb3 import SB3Agent
from releq_env.errors import ReLeQError, check_choice

NOISES = {"normal": NormalActionNoise, "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise}


class OffPolicyAgent(SB3Agent):
    """An off-policy algorithm. `train_freq` is rounded up to whole episodes: the reward comes at their end."""

    def fitted(self, hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters fitted to the length of an episode."""
        if isinstance(hyperparams.get("train_freq"), int):
            hyperparams["train_freq"] = self.whole_episodes(hyperparams["train_freq"])
        return hyperparams


class ContinuousAgent(OffPolicyAgent):
    """An off-policy algorithm with actions in [-1, 1], on environments in `ContinuousAction`.

    `noise_type` and `noise_std` are those of rl-baselines3-zoo: noise that is added to the actions in training.
    """

    continuous = True

    def fitted(self, hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters with the noise that they describe."""
        kind, std = hyperparams.pop("noise_type", None), hyperparams.pop("noise_std", None)
        if kind is not None:
            hyperparams["action_noise"] = _noise(kind, std, self.venv.action_space.shape)
        elif std is not None:
            raise ReLeQError(f"noise_std={std} is given without noise_type; give one of {', '.join(NOISES)}")
        return super().fitted(hyperparams)


def _noise(kind: Any, std: Any, shape: Any) -> ActionNoise:
    check_choice("noise_type", kind, NOISES)
    if isinstance(std, bool) or not isinstance(std, int | float) or not std >= 0.0:
        raise ReLeQError(f"noise_std={std!r} is not accepted with noise_type; give a number from 0")
    return NOISES[kind](np.zeros(shape), np.full(shape, float(std)))
