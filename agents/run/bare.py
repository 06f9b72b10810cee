"""A run that leaves nothing behind: for tuning, comparing and testing."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from agents.algorithms.registry import find_agent
from agents.run.making import make_agent
from agents.run.progress import Stopwatch
from agents.run.settings import Settings
from releq_env.evaluation import BudgetExhausted, Evaluation
from releq_env.problem import Problem

STEPS_AN_EVALUATION = 20
"""A run ends at that many time steps a distinct evaluation of its budget: a converged policy asks nothing new."""


class BareRun(NamedTuple):
    """What a run has come to.

    Attributes:
        evaluations: Each distinct one, in order.
        learner: The agent, as `make_agent` returns it.
        timesteps: Steps over all environments; of a searcher, one a layer and asked assignment.
    """

    evaluations: list[Evaluation]
    learner: Any
    timesteps: int


class _Watched:
    """Counts time steps and takes up evaluations."""

    def __init__(self, problem: Problem, settings: Settings, until: Callable[[Evaluation], bool] | None) -> None:
        self.schedule_timesteps = settings.schedule_timesteps
        self.timesteps = 0
        self.evaluations: list[Evaluation] = []
        self._layers, self._budget, self._until = problem.num_layers, settings.budget, until
        self._found = False

    def step(self, rewards: Any, dones: Any, infos: Any) -> bool:
        return self._count(len(rewards))

    def asked(self, assignments: int) -> bool:
        return self._count(assignments * self._layers)

    def probabilities(self, by_layer: Any) -> None: ...

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        self.evaluations.append(evaluation)
        self._found = self._found or (self._until is not None and self._until(evaluation))

    def diverged(self) -> None: ...

    def _count(self, steps: int) -> bool:
        self.timesteps += steps
        return not self._found and (self._budget is None or len(self.evaluations) < self._budget)


def run_bare(
    settings: Settings,
    problem: Problem,
    until: Callable[[Evaluation], bool] | None = None,
    elsewhere: Stopwatch | None = None,
    **rules: Any,
) -> BareRun:
    """Run an agent on a problem in this process.

    Args:
        settings: Of the run; `env` and `env_kwargs` are not looked at.
        problem: What is searched; its evaluator must be fresh, or its evaluations count.
        until: Says of an evaluation whether to end after it.
        elsewhere: Measures what is not the agent's: what environments and evaluations take.
        **rules: `evaluate`, `action_mode` and `observation` of the environment.

    Raises:
        ReLeQError: If the agent does not take its hyperparameters.
    """
    evaluator, learner, elsewhere = problem.evaluator, None, elsewhere or Stopwatch()
    env: Any = elsewhere(gym.make)("releq_env:ReLeQ-v0", problem=problem, **rules)
    watched = _Watched(problem, settings, until)
    evaluator.listener, evaluator.budget = watched, settings.budget
    try:
        learner = make_agent(settings, find_agent(settings.algo), env, elsewhere)
        learner.learn(settings.timesteps, watched)
    except BudgetExhausted:
        pass
    finally:
        evaluator.listener = evaluator.budget = None
    return BareRun(watched.evaluations, learner, watched.timesteps)


def played(learner: Any, venv: Any, episodes: int = 1, deterministic: bool = True) -> list[dict[str, Any]]:
    """Play episodes by what was learned, and return the last info of each, with its return as `return`.

    Args:
        learner: An agent with a method `act`.
        venv: The environments; episodes that are under way are begun anew.
        episodes: How many.
        deterministic: Whether to take the likeliest actions, not to draw.
    """
    found: list[dict[str, Any]] = []
    observations, state = venv.reset(), None
    begins, returns = np.ones(venv.num_envs, dtype=np.bool_), np.zeros(venv.num_envs)
    while len(found) < episodes:
        masks = np.stack(venv.env_method("action_masks"))
        actions, state = learner.act(observations, state, begins, masks, deterministic)
        observations, rewards, begins, infos = venv.step(actions)
        returns += rewards
        for index in np.flatnonzero(begins):
            found.append({**infos[index], "return": float(returns[index])})
            returns[index] = 0.0
    return found[:episodes]
