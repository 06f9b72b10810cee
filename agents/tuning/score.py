"""How good settings are: the area under the curve of the best so far, where the optimum is known."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import mean
from typing import Any

import numpy as np

from agents.run.bare import STEPS_AN_EVALUATION, run_bare
from agents.run.settings import Settings
from releq_env.errors import ReLeQError, check_choice
from releq_env.problem import Problem
from releq_env.testing.landscapes import LANDSCAPES, Landscape, look_at

PROBLEMS: Mapping[str, Callable[[], Problem]] = {**LANDSCAPES, "digits": lambda: Problem.from_table("digits")}
"""What may be tuned on: synthetic landscapes, and of the tables `digits` only. Others are for comparing."""


@cache
def landscape(name: str) -> Landscape:
    """Return a problem with its optimum and mean.

    Raises:
        ReLeQError: If it may not be tuned on, or its table does not come with this version.
    """
    check_choice("problem", name, PROBLEMS)
    return look_at(PROBLEMS[name]())


def area(objectives: Sequence[float], budget: int) -> float:
    """Return the mean over 1 to `budget` evaluations of the best so far; the last best counts to the end.

    Args:
        objectives: Of each distinct evaluation, in order, normalised; NaN counts as nothing found.
        budget: How long the curve is.
    """
    best = np.fmax.accumulate(np.array(objectives[:budget], dtype=float))
    best = np.where(np.isnan(best), 0.0, best)
    return float(np.concatenate([best, np.full(budget - len(best), best[-1])]).mean())


def score(settings: Settings, problems: Sequence[str], seeds: Iterable[int], budget: int) -> dict[str, list[float]]:
    """Return the normalised area of every run, by problem a list over seeds.

    0 is the mean of a random assignment, 1 the optimum from the first evaluation on.

    Args:
        settings: Of the agent; `seed`, `budget` and `timesteps` are set here.
        problems: Names in `PROBLEMS`.
        seeds: Each problem is searched with each of them.
        budget: Distinct evaluations of a run, which has 20 time steps for each.

    Raises:
        ReLeQError: If a run evaluates nothing, or the agent does not take its hyperparameters.
    """
    steps = STEPS_AN_EVALUATION * budget
    found: dict[str, list[float]] = {}
    for name in problems:
        known = landscape(name)
        for seed in seeds:
            problem = known.problem.sharing(known.problem.evaluator.reseeded(0))  # nothing remembered
            of_run = replace(settings, seed=seed, budget=budget, timesteps=steps, schedule_timesteps=steps)
            evaluations = run_bare(of_run, problem).evaluations
            if not evaluations:
                raise ReLeQError(f"{settings.algo} evaluates nothing on {name} within {steps} time steps")
            values = [known.normalised(problem.objective(each)) for each in evaluations]
            found.setdefault(name, []).append(area(values, budget))
    return found


def total(scores: Mapping[str, Sequence[float]]) -> float:
    """Return the mean over problems of the mean over seeds."""
    return mean(mean(of_problem) for of_problem in scores.values())


def with_values(hyperparams: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters with some of them changed; `"policy_kwargs.net_arch"` is one within a dictionary."""
    changed = dict(hyperparams)
    for name, value in values.items():
        outer, _, inner = name.partition(".")
        changed[outer] = {**(changed.get(outer) or {}), inner: value} if inner else value
    return changed
