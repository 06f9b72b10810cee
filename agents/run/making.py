"""From settings to environments and agent."""

import copy
import json
import pkgutil
from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym

from agents.algorithms.registry import Agent
from agents.algorithms.searcher import SearcherAgent
from agents.run.progress import Stopwatch
from agents.run.settings import Settings
from releq_env import ContinuousAction, ReLeQEnv, ReLeQError, WithinMask
from releq_env.errors import short
from releq_env.problem import Problem


def make_env(settings: Settings, **more: Any) -> Any:
    """Return the environment of a run.

    Args:
        settings: Of the run.
        **more: Further arguments of `gym.make`.

    Raises:
        ReLeQError: If it is no ReLeQ environment, or an argument is not accepted.
    """
    try:
        env = gym.make(settings.env, **settings.env_kwargs, **more)
    except ModuleNotFoundError as error:
        raise ReLeQError(f"--env {settings.env}: {error}; see the table of ids in the README") from error
    if not isinstance(env.unwrapped, ReLeQEnv):
        raise ReLeQError(f"{settings.env} is not a ReLeQ environment; see the table of ids in the README")
    return env


def make_agent(settings: Settings, agent: Agent, env: Any, elsewhere: Stopwatch | None = None) -> Any:
    """Return the agent, which has a method `learn`.

    Args:
        settings: Of the run.
        agent: How it is made.
        env: The environment; those side by side are copies of it.
        elsewhere: Measures what environments or evaluations take.

    Raises:
        ReLeQError: If it does not take its hyperparameters.
    """
    elsewhere = elsewhere or Stopwatch()
    problem: Problem = env.unwrapped.problem
    hyperparams = json.loads(json.dumps(settings.hyperparams))  # an agent may change what it gets
    wrappers = _wrappers(hyperparams.pop("env_wrapper", None))
    if agent.searches:
        searcher = _made(settings, agent, problem, hyperparams)
        return SearcherAgent(searcher, problem, settings.n_envs, elsewhere(problem.evaluator.evaluate_many))
    from releq_env.sb3_vec_env import ReLeQVecEnv  # only now: searchers need no Stable-Baselines3

    envs = [env, *(copy.deepcopy(env) for _ in range(settings.n_envs - 1))]  # with one evaluator
    if problem.max_cost is not None and (wrappers or not agent.masks):  # behind a wrapper masks may say less
        envs = [WithinMask(each) for each in envs]
    for wrapper in wrappers:
        envs = [wrapper(each) for each in envs]
    if agent.continuous and not isinstance(envs[0].action_space, gym.spaces.Box):
        envs = [ContinuousAction(each) for each in envs]
    venv: Any = ReLeQVecEnv([partial(_itself, each) for each in envs])
    venv.step = elsewhere(venv.step)  # of this object: its time is not the agent's
    venv.seed(settings.seed)
    return _made(settings, agent, venv, hyperparams | ({"written_for": settings.written_for} if agent.fits else {}))


def _made(settings: Settings, agent: Agent, searched: Any, hyperparams: dict[str, Any]) -> Any:
    try:
        made = agent.make(searched, settings.seed, **hyperparams)
        if not hasattr(made, "ask" if agent.searches else "learn"):
            raise ReLeQError(
                f"--algo {settings.algo} has made {short(made)}, which has no method learn; enter a class with ask and "
                "tell (a searcher), or what makes an agent that learns"
            )
        return made
    except ReLeQError:
        raise
    except (TypeError, ValueError) as error:
        raise ReLeQError(f"{settings.algo} does not take its hyperparameters ({error}); see --hyperparams") from error


def _wrappers(named: Any) -> list[Any]:
    """Return wrappers by their paths, as rl-baselines3-zoo has them: one, `{path: arguments}`, or a list of these."""
    wrappers = []
    for each in named if isinstance(named, list) else [named] if named else []:
        for path, arguments in each.items() if isinstance(each, Mapping) else [(each, None)]:
            try:
                wrappers.append(partial(pkgutil.resolve_name(path), **(arguments or {})))
            except (ImportError, AttributeError, TypeError, ValueError) as error:
                raise ReLeQError(
                    f"env_wrapper {path!r} cannot be found ({error}); name a class, as module.name"
                ) from error
    return wrappers


def _itself(env: Any) -> Any:
    return env
