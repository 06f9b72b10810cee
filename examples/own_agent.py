"""An agent of one's own, in both forms: entered into a registry, it is run, budgeted and recorded like any other.

python -m examples.own_agent
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from agents.algorithms.registry import ALGORITHMS
from agents.train import main
from releq_env import Problem
from releq_env.searchers import SEARCHERS
from releq_env.searchers.moves import within_max_cost


class TwoLayers:
    """A searcher: changes two layers of the best so far. It knows no budget, no files and no environments."""

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self._problem, self._generator = problem, np.random.default_rng(seed)
        self._best: Any = None

    def ask(self, n: int) -> list[tuple[int, ...]]:
        """Return `n` assignments to evaluate."""
        return [within_max_cost(self._problem, self._child(), self._generator) for _ in range(n)]

    def tell(self, evaluations: Any) -> None:
        """Keep the best."""
        known = [*evaluations, *([self._best] if self._best else [])]
        self._best = max(known, key=self._problem.merit)

    def _child(self) -> tuple[int, ...]:
        child = [bits[-1] for bits in self._problem.choices] if self._best is None else list(self._best.bitwidths)
        for layer in self._generator.choice(len(child), size=2):
            child[layer] = int(self._generator.choice(self._problem.choices[layer]))
        return tuple(child)


class Bandit:
    """An env agent: a table of mean returns by step and action, and now and then a random action."""

    def __init__(self, venv: Any, seed: int, explore: float = 0.3) -> None:
        self._venv, self._explore, self._generator = venv, explore, np.random.default_rng(seed)
        self.sums, self.counts = np.zeros((2, venv.releq_envs[0].episode_steps, venv.action_space.n))

    def learn(self, timesteps: int, progress: Any) -> None:
        """Play episodes, all environments alike, until the time steps are used up or the run is to end."""
        self._venv.reset()
        for _ in range(timesteps // (self._venv.num_envs * len(self.sums))):
            actions, returns = [], np.zeros(self._venv.num_envs)
            for step in range(len(self.sums)):
                random = self._generator.integers(self.sums.shape[1], size=self._venv.num_envs)
                best = (self.sums[step] / np.maximum(self.counts[step], 1)).argmax()
                explores = self._generator.random(self._venv.num_envs) < self._explore
                actions.append(np.where(explores, random, best))
                _, rewards, dones, infos = self._venv.step(actions[-1])
                returns += rewards
                if not progress.step(rewards, dones, infos):
                    return
            for step, taken in enumerate(actions):
                np.add.at(self.sums[step], taken, returns)
                np.add.at(self.counts[step], taken, 1)


SEARCHERS["two_layers"] = TwoLayers
ALGORITHMS["bandit"] = Bandit

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own_agent")
    for algo in ("two_layers", "bandit"):
        settings = ["--imports", "examples.own_agent", "--budget", "60", "--n-envs", "4"]
        run = ["--algo", algo, "--env-kwargs", "retrain_images=256", "--log-dir", str(folder / algo)]
        main([*settings, *run])
