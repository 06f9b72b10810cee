"""Callbacks of Stable-Baselines3 that hyperparameter files name under `callback:`."""

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
        # BaseAlgorithm declares no entropy coefficient; those that this is meant for have one.
        self._first: float = self.model.ent_coef  # type: ignore[attr-defined]

    def _on_rollout_end(self) -> None:
        done = min(self.model.num_timesteps / self.model._total_timesteps, 1.0)
        self.model.ent_coef = self._first + done * (self._final - self._first)  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        return True
