"""Stable-Baselines3's on-policy family: PPO, and sb3-contrib's RecurrentPPO, the paper's agent."""

import inspect
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from agents.algorithms.base import Progress
from agents.algorithms.sb3 import SB3Agent, Track
from releq_env.env import ReLeQEnv


class OnPolicyAgent(SB3Agent):
    """An on-policy algorithm, whose policy's probabilities are kept.

    `n_steps` is rounded up to whole episodes, and a `batch_size` that is the whole rollout remains so: settings
    fit any number of layers, of passes over them, and of environments.
    """

    def fitted(self, hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Return the hyperparameters fitted to the length of an episode."""
        if "n_steps" in hyperparams:
            rollouts = [hyperparams["n_steps"] * n_envs for n_envs in (self.venv.num_envs, self.written_for)]
            whole = hyperparams.get("batch_size") in rollouts
            hyperparams["n_steps"] = self.whole_episodes(hyperparams["n_steps"])
            if whole:
                hyperparams["batch_size"] = hyperparams["n_steps"] * self.venv.num_envs
        return hyperparams

    def tracker(self, progress: Progress) -> Track:
        """Return the callback that keeps the run informed."""
        return _TrackProbabilities(progress)


class _TrackProbabilities(Track):
    """Tells the run of every step, and of the mean probabilities of every rollout."""

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._seen: dict[int, list[NDArray[np.float32]]] = {}
        venv: Any = self.training_env  # Stable-Baselines3 declares any vector environment; the run makes a ReLeQVecEnv
        self._env: ReLeQEnv = venv.releq_envs[0]
        # A method of actor-critic policies, and of those only: the declared type is a bare module's attribute.
        self._get_distribution = cast(Any, self.model.policy.get_distribution)
        self._arguments = tuple(inspect.signature(self._get_distribution).parameters)

    def _on_step(self) -> bool:
        probabilities = self._distribution()
        if probabilities is not None:  # the environments keep step
            layer = self._env.decision.layer_at((self.n_calls - 1) % self._env.episode_steps)
            self._seen.setdefault(layer, []).append(probabilities.numpy())
        return super()._on_step()

    def _on_rollout_end(self) -> None:
        if len(self._seen) == self._env.decision.num_layers:
            self.progress.probabilities(
                [np.concatenate(self._seen[layer]).mean(axis=0) for layer in sorted(self._seen)]
            )
        self._seen = {}

    def _distribution(self) -> torch.Tensor | None:
        """Return the action probabilities of this step, shape `(n_envs, actions)`; `None` if actions are continuous."""
        states = getattr(self.model, "_last_lstm_states", None)
        known = self.locals | {"obs": self.locals["obs_tensor"], "lstm_states": getattr(states, "pi", None)}
        with torch.no_grad():
            distribution = self._get_distribution(**{name: known[name] for name in self._arguments})
        if isinstance(distribution, tuple):  # recurrent: with the new state
            distribution = distribution[0]
        probabilities: torch.Tensor | None = getattr(getattr(distribution, "distribution", None), "probs", None)
        return probabilities
