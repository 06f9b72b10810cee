"""One run: an agent with a seed on a problem, by the code of `agents.train`, without its folder."""

import time
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from agents.run.bare import BareRun, run_bare
from agents.run.progress import Stopwatch
from agents.run.settings import Options, Settings, new_settings
from benchmarks.compare import curves
from benchmarks.compare.facts import pack_front, unseen_regret
from benchmarks.compare.suite import Entry
from releq_env.errors import ReLeQError
from releq_env.problem import Problem
from releq_env.tables.statistics import hypervolume, nondominated

ENV = "releq_env:ReLeQ-Tabular-v0"


@dataclass(frozen=True)
class Variant:
    """An agent, and how it differs from what `agents.train` would do.

    Attributes:
        label: What it is called.
        algo: Name of the agent.
        hyperparams: `"name=value"` each.
        env_kwargs: Of the environment: `evaluate`, `action_mode`, `observation`.
        decision: Of the problem: `reward`.
    """

    label: str
    algo: str
    hyperparams: tuple[str, ...] = ()
    env_kwargs: tuple[tuple[str, Any], ...] = ()
    decision: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Job:
    """A run to do.

    Attributes:
        entry: The problem, its decision changed as the variant says.
        variant: The agent.
        seed: Of the agent.
        budget: Distinct evaluations at which it ends.
        timesteps: Time steps at which it ends.
    """

    entry: Entry
    variant: Variant
    seed: int
    budget: int
    timesteps: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells runs of one comparison apart."""
        return self.entry.name, self.variant.label, self.seed

    @property
    def settings(self) -> Settings:
        """Return the settings, as `agents.train` has them.

        Raises:
            ReLeQError: If the agent is unknown, or an option is not accepted.
        """
        options = Options(
            algo=self.variant.algo,
            env=ENV,
            timesteps=self.timesteps,
            budget=self.budget,
            seed=self.seed,
            hyperparams=list(self.variant.hyperparams),
        )
        return new_settings(options)

    def described(self) -> dict[str, Any]:
        """Return all that defines the run besides problem, label and seed, JSON-able."""
        settings = self.settings
        return {
            "algo": settings.algo,
            "hyperparams": settings.hyperparams,
            "n_envs": settings.n_envs,
            "env_kwargs": dict(self.variant.env_kwargs),
            "budget": self.budget,
            "timesteps": self.timesteps,
        }


class Row(NamedTuple):
    """What a run has come to; a row of `runs.csv`.

    Attributes:
        env: Name of the problem.
        algo: Label of the variant.
        seed: Of the agent.
        reward: Name of the reward.
        budget: Distinct evaluations at which it would end.
        distinct_evaluations: Those that it asked for.
        timesteps: Time steps that it took.
        seconds: How long it took.
        own_seconds: How long the processor was busy with the agent itself: not with evaluating, nor with stepping
            environments.
        bitwidths: The best assignment, joined by blanks.
        recommended: The one that the agent recommends in its place; else the best.
        relative_accuracy: Of the best, on the seed that was searched.
        state_of_quantization: Of the best.
        average_bits: Of the best.
        recommended_reward: Of the recommended one, on the seed that was searched.
        unseen_regret: Of the recommended one, mean over the seeds that were not searched; empty if there is none.
        unseen_passing: On what share of them it keeps the constraints; empty if there is none.
        hypervolume: Area in cost and relative accuracy that all its evaluations dominate.
        curve: Of the reward of the best so far, packed.
        front: Of all its evaluations, packed; of the first seeds only.
    """

    env: str
    algo: str
    seed: int
    reward: str
    budget: int
    distinct_evaluations: int
    timesteps: int
    seconds: float
    own_seconds: float
    bitwidths: str
    recommended: str
    relative_accuracy: float
    state_of_quantization: float
    average_bits: float
    recommended_reward: float
    unseen_regret: str
    unseen_passing: str
    hypervolume: float
    curve: str
    front: str


FRONTS_OF_SEEDS = 3


def run(job: Job) -> Row:
    """Do a run.

    Raises:
        ReLeQError: If the agent refuses the problem, or has evaluated nothing.
    """
    with threadpool_limits(1):  # so that it does not matter how many run side by side
        settings, problem, elsewhere = job.settings, job.entry.problem(), Stopwatch(time.process_time)  # busy for it
        begun, busy = time.perf_counter(), time.process_time()
        found = run_bare(settings, problem, elsewhere=elsewhere, **dict(job.variant.env_kwargs))
        seconds, own = time.perf_counter() - begun, time.process_time() - busy - elsewhere.seconds
    if not found.evaluations:
        raise ReLeQError(f"{job.variant.label} has evaluated nothing on {job.entry.name}")
    return _row(job, problem, found, seconds, own)


def _row(job: Job, problem: Problem, found: BareRun, seconds: float, own: float) -> Row:
    best_so_far = list(accumulate(found.evaluations, partial(max, key=problem.merit)))  # of equals the first
    best = best_so_far[-1]
    # A model may know that the best was lucky.
    recommended = (found.learner.recommend() if hasattr(found.learner, "recommend") else None) or best.bitwidths
    terms = problem.terms(best.bitwidths)
    of_recommended = problem.evaluator.lookup(recommended)
    assert of_recommended is not None
    unseen = unseen_regret(problem, recommended)
    q = np.array([problem.state_of_quantization(each.bitwidths) for each in found.evaluations])
    a = np.array([each.relative_accuracy for each in found.evaluations])
    front: Any = nondominated(q, a) if job.seed < FRONTS_OF_SEEDS else []
    return Row(
        *job.key,
        str(problem.reward),
        job.budget,
        len(found.evaluations),
        found.timesteps,
        round(seconds, 3),
        round(own, 3),
        " ".join(map(str, best.bitwidths)),
        " ".join(map(str, recommended)),
        round(best.relative_accuracy, 6),
        round(terms["state_of_quantization"], 6),
        round(terms["average_bits"], 6),
        round(problem.objective(of_recommended), 9),
        "" if unseen is None else f"{unseen[0]:.6g}",
        "" if unseen is None else f"{unseen[1]:.4g}",
        round(hypervolume(q, a, (1.0, 0.0)), 6),
        curves.pack(curves.improvements([problem.objective(each) for each in best_so_far])),
        pack_front(zip(q[front].tolist(), a[front].tolist(), strict=True)),
    )
