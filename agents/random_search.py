"""Uniform random search: the baseline that any agent has to beat."""

import json
from pathlib import Path

import numpy as np

from agents.settings import Settings
from agents.tracking import Tracker
from releq_env import ReLeQVecEnv
from releq_env.evaluation import BudgetExhausted
from releq_env.files import replace_file


class RandomAgent:
    """Takes uniformly random actions.

    Args:
        settings: The run's settings.
        venv: The run's environments.
        checkpoint: JSON file with the generator's state; taken up if it is there.
    """

    def __init__(self, settings: Settings, venv: ReLeQVecEnv, checkpoint: Path) -> None:
        self._settings = settings
        self._venv = venv
        self._checkpoint = checkpoint.with_suffix(".json")
        self._generator = np.random.default_rng(settings.seed)
        self.done: tuple[int, int] = (0, 0)
        if self._checkpoint.exists():
            saved = json.loads(self._checkpoint.read_text())
            self._generator.bit_generator.state = saved["generator"]
            self.done = (saved["timesteps"], saved["episodes"])

    def learn(self, tracker: Tracker) -> None:
        """Search until the time steps or the budget are used up."""
        envs = self._venv.releq_envs
        self._venv.reset()
        returns = np.zeros(self._venv.num_envs)
        budget = self._settings.budget
        while tracker.timesteps < self._settings.timesteps:
            actions = self._generator.integers(envs[0].action_space.n, size=self._venv.num_envs)
            try:
                _, rewards, dones, infos = self._venv.step(actions)
            except BudgetExhausted:
                return
            returns += rewards
            tracker.step(self._venv.num_envs)
            if dones.all():  # the environments keep step, so episodes end together
                for info, value in zip(infos, returns, strict=True):
                    tracker.episode(info, float(value), envs[0].episode_steps)
                returns[:] = 0.0
                self._save(tracker)
            if budget is not None and envs[0].evaluator.distinct_evaluations >= budget:
                return

    def _save(self, tracker: Tracker) -> None:
        state = {
            "generator": self._generator.bit_generator.state,
            "timesteps": tracker.timesteps,
            "episodes": tracker.episodes,
        }
        replace_file(self._checkpoint, json.dumps(state))
