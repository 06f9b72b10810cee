"""The cross-entropy method: a distribution over the actions of each step, moved to the best episode's."""

from pathlib import Path
from typing import Any

import numpy as np

from agents.algorithms.base import Progress
from agents.algorithms.registry import ALGORITHMS


class CrossEntropy:
    def __init__(self, venv: Any, seed: int, rate: float = 0.2) -> None:
        self._venv, self._rate = venv, rate
        self._generator = np.random.default_rng(seed)
        actions = venv.action_space.n
        self.probabilities = np.full((venv.releq_envs[0].episode_steps, actions), 1 / actions)

    def learn(self, timesteps: int, progress: Progress) -> None:
        steps, actions = self.probabilities.shape
        self._venv.reset()
        for _ in range(timesteps // (steps * self._venv.num_envs)):
            taken, returns = [], np.zeros(self._venv.num_envs)
            for row in self.probabilities:
                taken.append(self._generator.choice(actions, size=self._venv.num_envs, p=row))
                _, rewards, dones, infos = self._venv.step(taken[-1])
                returns += rewards
                if not progress.step(rewards, dones, infos):
                    return
            best = np.eye(actions)[np.array(taken)[:, returns.argmax()]]
            self.probabilities += self._rate * (best - self.probabilities)

    def save(self, path: Path) -> None:
        np.save(path.with_suffix(".npy"), self.probabilities)


ALGORITHMS["cross_entropy"] = CrossEntropy
