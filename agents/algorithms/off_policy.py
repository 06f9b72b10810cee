"""Stable-Baselines3's off-policy family: DQN."""

from typing import Any

from agents.algorithms.sb3 import SB3Agent


class OffPolicyAgent(SB3Agent):
    """An off-policy algorithm. `train_freq` is rounded up to whole episodes: the reward comes at their end."""

    def fitted(self, hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters fitted to the length of an episode."""
        if isinstance(hyperparams.get("train_freq"), int):
            hyperparams["train_freq"] = self.whole_episodes(hyperparams["train_freq"])
        return hyperparams
