"""PPO (Stable-Baselines3) and recurrent PPO (sb3-contrib), the paper's agent."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from agents.settings import Settings
from agents.tracking import Tracker
from agents.vec_env import BatchedVecEnv
from releq_env.evaluation import BudgetExhausted

ALGORITHMS: dict[str, type[OnPolicyAlgorithm]] = {"ppo": PPO, "recurrent_ppo": RecurrentPPO}


class PolicyGradientAgent:
    """Trains one of `ALGORITHMS`, and goes on exactly where a checkpoint left off.

    A checkpoint is taken after every update, when all environments are about to begin an episode,
    with the state of the random number generators: a run that was killed repeats the steps since
    then, with the same actions, and so asks for the same assignments.

    Args:
        settings: The run's settings.
        venv: The run's environments.
        checkpoint: Stable-Baselines3 zip file; taken up if it is there.
    """

    def __init__(self, settings: Settings, venv: BatchedVecEnv, checkpoint: Path) -> None:
        algorithm = ALGORITHMS[settings.algo]
        self._settings = settings
        self._checkpoint = checkpoint
        self.model: OnPolicyAlgorithm
        if checkpoint.exists():
            self.model = algorithm.load(checkpoint, env=venv, device="cpu")
            _set_generators(self.model.generators)  # type: ignore[attr-defined]  # kept by save() below
        else:
            hyperparams = dict(settings.hyperparams)
            episode = venv.releq_envs[0].episode_steps
            hyperparams["n_steps"] = -(-hyperparams["n_steps"] // episode) * episode
            hyperparams["batch_size"] = hyperparams["batch_size"] or hyperparams["n_steps"] * venv.num_envs
            self.model = algorithm(env=venv, seed=settings.seed, device="cpu", **hyperparams)
            self.model.episodes = 0  # type: ignore[attr-defined]  # of our own, kept by save()

    @property
    def done(self) -> tuple[int, int]:
        """Time steps and episodes of the checkpoint."""
        return self.model.num_timesteps, self.model.episodes  # type: ignore[attr-defined]

    def learn(self, tracker: Tracker) -> None:
        """Train until the time steps or the budget are used up."""
        left = self._settings.timesteps - self.model.num_timesteps
        if left <= 0:
            return
        callback = _Callback(tracker, self._settings.budget, self._save)
        try:
            self.model.learn(left, callback=callback, reset_num_timesteps=False)
        except BudgetExhausted:
            return
        self._save(tracker.episodes)

    def _save(self, episodes: int) -> None:
        self.model.generators = _get_generators()  # type: ignore[attr-defined]
        self.model.episodes = episodes  # type: ignore[attr-defined]
        partial = self._checkpoint.with_suffix(".part.zip")
        self.model.save(partial)
        partial.replace(self._checkpoint)


class _Callback(BaseCallback):
    def __init__(self, tracker: Tracker, budget: int | None, save: Any) -> None:
        super().__init__()
        self._tracker = tracker
        self._budget = budget
        self._save = save
        self._seen: dict[int, list[np.ndarray[Any, Any]]] = {}
        self._returns = np.zeros(0)

    def _on_rollout_start(self) -> None:
        self._seen = {}
        self._returns = np.zeros(self.training_env.num_envs)
        self._save(self._tracker.episodes)

    def _on_step(self) -> bool:
        envs: list[Any] = self.training_env.releq_envs  # type: ignore[attr-defined]
        steps = self.locals["n_steps"]
        layer = steps % envs[0].episode_steps % len(envs[0].layers)
        self._seen.setdefault(layer, []).append(self._distribution().numpy())
        self._returns += self.locals["rewards"]
        self._tracker.step(len(envs))
        for index, done in enumerate(self.locals["dones"]):
            if done:
                info = self.locals["infos"][index]
                self._tracker.episode(info, float(self._returns[index]), envs[index].episode_steps)
                self._returns[index] = 0.0
        return self._budget is None or envs[0].evaluator.distinct_evaluations < self._budget

    def _on_rollout_end(self) -> None:
        self._tracker.probabilities([np.concatenate(self._seen[layer]).mean(axis=0) for layer in sorted(self._seen)])

    def _distribution(self) -> torch.Tensor:
        """Return the action probabilities of this step, shape `(n_envs, actions)`."""
        arguments = [self.locals["obs_tensor"]]
        if isinstance(self.model, RecurrentPPO):
            states = self.model._last_lstm_states
            assert states is not None
            arguments += [states.pi, self.locals["episode_starts"]]
        with torch.no_grad():
            distribution = self.model.policy.get_distribution(*arguments)  # type: ignore[operator]
        if isinstance(distribution, tuple):  # recurrent: with the new state
            distribution = distribution[0]
        probabilities: torch.Tensor = distribution.distribution.probs
        return probabilities


def _get_generators() -> dict[str, Any]:
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}


def _set_generators(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
