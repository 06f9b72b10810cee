"""PPO (Stable-Baselines3) and recurrent PPO (sb3-contrib), the paper's agent."""

import random
from collections.abc import Mapping
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
from releq_env import ReLeQError, ReLeQVecEnv
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

    def __init__(self, settings: Settings, venv: ReLeQVecEnv, checkpoint: Path) -> None:
        algorithm = ALGORITHMS[settings.algo]
        self._settings = settings
        self._checkpoint = checkpoint
        self.model: OnPolicyAlgorithm
        if checkpoint.exists():
            try:
                self.model = algorithm.load(checkpoint, env=venv, device="cpu")
                _set_generators(self.model.generators)  # type: ignore[attr-defined]  # kept by save() below
            except Exception as error:  # zipfile's, pickle's, torch's: whatever damage leads to
                raise ReLeQError(
                    f"the checkpoint {checkpoint} is damaged ({type(error).__name__}: {error}); delete it and resume: "
                    "the agent begins anew, the evaluations are kept"
                ) from error
        else:
            self.model = make_model(settings.algo, settings.hyperparams, venv, settings.seed)
            self.model.episodes = 0  # type: ignore[attr-defined]  # of our own, kept by save()

    @property
    def done(self) -> tuple[int, int]:
        """Time steps and episodes of the checkpoint."""
        return self.model.num_timesteps, self.model.episodes  # type: ignore[attr-defined]  # of our own

    def learn(self, tracker: Tracker) -> None:
        """Train until the time steps or the budget are used up."""
        left = self._settings.timesteps - self.model.num_timesteps
        if left <= 0:
            return
        track = _Track(tracker, self._settings.budget, self._save)
        try:
            self.model.learn(left, callback=[track, *schedules(self._settings.hyperparams)], reset_num_timesteps=False)
        except BudgetExhausted:
            return
        if self.model.num_timesteps >= self._settings.timesteps:  # not if the budget ended it within a rollout
            self._save(tracker.episodes)

    def _save(self, episodes: int) -> None:
        self.model.generators = _get_generators()  # type: ignore[attr-defined]  # of our own
        self.model.episodes = episodes  # type: ignore[attr-defined]  # of our own
        partial = self._checkpoint.with_suffix(".part.zip")
        self.model.save(partial)
        partial.replace(self._checkpoint)


def make_model(algo: str, hyperparams: Mapping[str, Any], venv: ReLeQVecEnv, seed: int) -> OnPolicyAlgorithm:
    """Return an untrained model.

    Args:
        algo: A name in `ALGORITHMS`.
        hyperparams: As in `agents/hyperparams/`. `n_steps` is rounded up to whole episodes, a
            `batch_size` of `None` is the whole rollout.
        venv: The environments.
        seed: Seeds the agent and the environments.
    """
    own = {name: value for name, value in hyperparams.items() if name != "final_ent_coef"}
    episode = venv.releq_envs[0].episode_steps
    own["n_steps"] = -(-own["n_steps"] // episode) * episode
    own["batch_size"] = own["batch_size"] or own["n_steps"] * venv.num_envs
    return ALGORITHMS[algo](env=venv, seed=seed, device="cpu", **own)


def schedules(hyperparams: Mapping[str, Any]) -> list[BaseCallback]:
    """Return the callbacks that change settings in the course of the training."""
    if "final_ent_coef" not in hyperparams:
        return []
    return [_EntropySchedule(hyperparams["ent_coef"], hyperparams["final_ent_coef"])]


class _EntropySchedule(BaseCallback):
    """Moves the entropy coefficient linearly from its first value to its last."""

    def __init__(self, first: float, last: float) -> None:
        super().__init__()
        self._first, self._last = first, last

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        done = min(self.model.num_timesteps / self.model._total_timesteps, 1.0)
        # BaseAlgorithm declares no entropy coefficient; all in ALGORITHMS have one.
        self.model.ent_coef = self._first + done * (self._last - self._first)  # type: ignore[attr-defined]


class _Track(BaseCallback):
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
        envs: list[Any] = self.training_env.releq_envs  # type: ignore[attr-defined]  # ReLeQVecEnv
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
            # A method of actor-critic policies, and of those only.
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
