"""Callbacks of Stable-Baselines3 that hyperparameter files name under `callback:`."""

from typing import Any, cast

from stable_baselines3.common.callbacks import BaseCallback


class EntropySchedule(BaseCallback):
    """Moves the entropy coefficient linearly from the model's `ent_coef`: explore early, settle late.

    Args:
        final: Where it ends.
    """

    def __init__(self, final: float = 0.0) -> None:
        super().__init__()
        self._final = final

    def _on_training_start(self) -> None:
        self._algorithm = cast(
            Any, self.model
        )  # BaseAlgorithm declares no entropy coefficient; those with a policy have one
        self._first: float = self._algorithm.ent_coef

    def _on_rollout_end(self) -> None:
        done = min(self._algorithm.num_timesteps / self._algorithm._total_timesteps, 1.0)
        self._algorithm.ent_coef = self._first + done * (self._final - self._first)

    def _on_step(self) -> bool:
        return True
