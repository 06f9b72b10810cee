"""From the rows of a comparison to arrays of normalised scores."""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare import curves
from benchmarks.compare.facts import Facts
from benchmarks.compare.results import Results
from benchmarks.compare.run import Row
from benchmarks.compare.statistics import interquartile_mean
from benchmarks.compare.suite import MAIN

Floats = NDArray[np.float64]

FAMILIES: dict[str, tuple[str, ...]] = {
    "model-free RL": (
        "ppo", "recurrent_ppo", "maskable_ppo", "a2c", "trpo", "dqn", "qrdqn", "ddpg", "td3", "sac", "paper",
    ),
    "RL of our own": ("dyna_ppo", "transfer"),
    "model-based": ("gp", "tpe", "fisher_gp"),
    "local and population": ("local", "annealing", "evolution", "nsga2", "greedy"),
    "sensitivities": ("fisher_lp",),
    "bounds": ("random", "exhaustive"),
}  # fmt: skip
"""Which agents belong together in pictures and tables."""


def _number(value: float | str) -> float:
    """Return a number of a row; NaN where the row says nothing."""
    return math.nan if value == "" else float(value)


def family(algo: str) -> str:
    """Return the family of an agent; `"others"` for one of somebody's own."""
    base = algo.partition("/")[0]
    return next((name for name, members in FAMILIES.items() if base in members), "others")


class Scores:
    """What a comparison has come to.

    Args:
        results: Its files.
        envs: The problems that are averaged over. Default: all that are in it.

    Attributes:
        envs: The problems, in the suite's order.
        algos: The agents that have a run on each of them, by falling area under the curve.
        left_out: The others.
    """

    def __init__(self, results: Results, envs: Sequence[str] | None = None) -> None:
        self._results = results
        self._rows = results.rows
        self._seeds: dict[tuple[str, str], list[int]] = {}
        for env, algo, seed in sorted(self._rows):
            self._seeds.setdefault((env, algo), []).append(seed)
        there = list(dict.fromkeys(env for env, _, _ in sorted(self._rows)))
        order = [entry.name for entry in MAIN]
        self.envs = sorted(there, key=lambda env: (order.index(env) if env in order else len(order), env))
        if envs is not None:
            self.envs = [env for env in self.envs if env in envs]
        labels = sorted({algo for env, algo, _ in self._rows if env in self.envs})
        complete = [algo for algo in labels if self.seeds(algo)]
        self.left_out = [algo for algo in labels if algo not in complete]
        self.algos = sorted(complete, key=lambda algo: -float(interquartile_mean(self.column(algo, "auc"))))

    @classmethod
    def read(cls, output: Path) -> "Scores | None":
        """Return what is in a file, `None` if there is none; of one that was just begun there are no agents yet.

        Raises:
            ReLeQError: If it is damaged.
        """
        return cls(Results(output)) if output.exists() else None

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Of every agent."""
        return self._results.settings

    @property
    def machines(self) -> list[dict[str, Any]]:
        """On which the runs were made."""
        return self._results.machines

    @property
    def budget(self) -> int:
        """The largest budget of a run."""
        return max(row.budget for row in self._rows.values())

    def seeds(self, algo: str, env: str | None = None) -> list[int]:
        """Return the seeds of an agent, ascending: on a problem, or those that it has on every one."""
        envs = self.envs if env is None else [env]
        found = [set(self._seeds.get((each, algo), ())) for each in envs]
        return sorted(set.intersection(*found)) if found else []

    def rows(self, algo: str, env: str) -> list[Row]:
        """Return the runs of an agent on a problem, by seed."""
        return [self._rows[env, algo, seed] for seed in self.seeds(algo, env)]

    def facts(self, algo: str, env: str) -> Facts:
        """Return what is known of a problem, as the agent had it."""
        return self._results.of(self.rows(algo, env)[0])

    def uniform(self) -> float:
        """Return the normalised reward of the best uniform assignment, the interquartile mean over the problems."""
        facts = [self.facts(self.algos[0], env) for env in self.envs]
        values = [(each.uniform_reward - each.random_reward) / each.scale for each in facts]
        return float(interquartile_mean(np.array([values])))

    def column(self, algo: str, name: str) -> Floats:
        """Return a normalised column of `comparison.csv`, shape `(seeds, problems)`."""
        return self._stacked(algo, lambda row: float(self._derived[row.env, row.algo, row.seed][name]))

    def raw(self, algo: str, name: str) -> Floats:
        """Return a column of `runs.csv`, shape `(seeds, problems)`; NaN where it is empty."""
        return self._stacked(algo, lambda row: _number(getattr(row, name)))

    def at(self, algo: str, numbers: Sequence[int]) -> Floats:
        """Return the normalised best reward at numbers of evaluations, shape `(seeds, problems, numbers)`."""

        def read(row: Row) -> Floats:
            facts = self._results.of(row)
            found: Floats = (curves.at(curves.unpack(row.curve), numbers) - facts.random_reward) / facts.scale
            return found

        return self._stacked(algo, read)

    def regrets(self, algo: str) -> tuple[Floats, Floats]:
        """Return the normalised regret of what was recommended: on the searched seed, and on the others (or NaN)."""

        def searched(row: Row) -> float:
            facts = self._results.of(row)
            return max(facts.optimum_reward - row.recommended_reward, 0.0) / facts.scale

        def unseen(row: Row) -> float:
            return _number(row.unseen_regret) / self._results.of(row).scale

        return self._stacked(algo, searched), self._stacked(algo, unseen)

    def until_optimum(self, algo: str, env: str) -> list[int | None]:
        """Return for each seed after how many distinct evaluations the optimum was there; `None`: never."""
        optimum = self.facts(algo, env).optimum_reward
        return [curves.first_at(curves.unpack(row.curve), optimum) for row in self.rows(algo, env)]

    def share_of_front(self, algo: str) -> Floats:
        """Return the dominated area over that of the true front, shape `(seeds, problems)`."""
        return self._stacked(algo, lambda row: row.hypervolume / self._results.of(row).hypervolume)

    @cached_property
    def _derived(self) -> dict[tuple[str, str, int], dict[str, Any]]:
        return {key: self._results.derived(row) for key, row in self._rows.items()}

    def _stacked(self, algo: str, read: Any) -> Floats:
        seeds = self.seeds(algo)
        return np.array([[read(self._rows[env, algo, seed]) for env in self.envs] for seed in seeds])
