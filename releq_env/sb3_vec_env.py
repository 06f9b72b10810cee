"""Environments side by side for Stable-Baselines3, with one `evaluate_many` a step."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from releq_env.env import ReLeQEnv
from releq_env.errors import ReLeQError, short
from releq_env.evaluation import Evaluator
from releq_env.problem import Problem
from releq_env.wrappers import STEPS_THAT_KEEP_THE_ACTION, looks_ahead

try:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
except ModuleNotFoundError as error:
    raise ReLeQError(f'ReLeQVecEnv needs Stable-Baselines3 ({error}); pip install "releq_env[agents]"') from error

STEPS_THAT_KEEP_THE_ACTION.add(Monitor.step)


class ReLeQVecEnv(DummyVecEnv):
    """Several `ReLeQEnv` side by side for Stable-Baselines3, with one `evaluate_many` a step.

    Gives the trajectories that `DummyVecEnv` gives over the same environments. They share one
    evaluator, which gets at once all that a step needs measured; a step that fails there, or for a
    wrong action, has not been taken in any of them.

    A wrapper with a `step` of its own keeps its environment out of this, and the environment measures for
    itself, unless that is known to keep the action (`releq_env.wrappers.STEPS_THAT_KEEP_THE_ACTION`), or the
    wrapper has a method `assignments_of_step` as `ReLeQEnv`, `OneShot`, `ContinuousAction` and `WithinMask` have.

    Example:
        >>> from releq_env import ReLeQVecEnv
        >>> from stable_baselines3 import PPO
        >>> from stable_baselines3.common.env_util import make_vec_env
        >>> venv = make_vec_env("releq_env:ReLeQ-Digits-v0", n_envs=8, vec_env_cls=ReLeQVecEnv, seed=0)
        >>> model = PPO("MlpPolicy", venv, n_steps=64, gamma=1.0).learn(1000)
        >>> venv.evaluator.distinct_evaluations

    Args:
        env_fns: Functions that each make an environment. All get the evaluator of the first, and
            their own is closed, if the `fingerprint` of both says that they measure the same. Those of
            a source without a fingerprint share one only if they were made with one problem.

    Attributes:
        releq_envs: The environments without their wrappers.

    Raises:
        ReLeQError: In one line, if one makes something else, or they do not measure the same.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]]) -> None:
        if not isinstance(env_fns, Sequence) or not env_fns or not all(map(callable, env_fns)):
            raise ReLeQError(
                f"ReLeQVecEnv got {short(env_fns)}; give a list of functions that each make an environment, "
                'such as [lambda: gym.make("releq_env:ReLeQ-Digits-v0")] * 8'
            )
        self.releq_envs: list[ReLeQEnv] = []
        super().__init__([partial(self._made, make) for make in env_fns])
        self._looks_ahead = [looks_ahead(env) for env in self.envs]

    @property
    def problem(self) -> Problem:
        """The problem of the first environment."""
        return self.releq_envs[0].problem

    @property
    def evaluator(self) -> Evaluator:
        """The evaluator of the first environment, which is that of all where a fingerprint tells what they measure."""
        return self.problem.evaluator

    def step_wait(self) -> VecEnvStepReturn:
        """Measure what this step needs, all at once, then take it.

        Raises:
            gymnasium.error.InvalidAction: If the actions do not fit.
        """
        if np.shape(self.actions)[:1] != (self.num_envs,):
            raise gym.error.InvalidAction(
                f"actions {short(self.actions)} do not fit; give {self.num_envs}, one an environment"
            )
        wanted: dict[Evaluator, list[tuple[int, ...]]] = {}
        for assignments_of_step, env, action in zip(self._looks_ahead, self.releq_envs, self.actions, strict=True):
            if assignments_of_step is not None:
                wanted.setdefault(env.evaluator, []).extend(assignments_of_step(action))
        for evaluator, assignments in wanted.items():
            if assignments:
                evaluator.evaluate_many(assignments)  # remembered: the steps below find them
        return super().step_wait()

    def _made(self, make: Callable[[], gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
        """Make the next environment. A second evaluator goes at once, so that networks do not pile up."""
        env = make()
        base = getattr(env, "unwrapped", None)
        if not isinstance(base, ReLeQEnv):
            raise ReLeQError(
                f"ReLeQVecEnv got the environment {env!r}; give functions that each make a ReLeQ environment, "
                "or take stable_baselines3's DummyVecEnv"
            )
        self.releq_envs.append(base)
        own = base.evaluator
        if own is not self.evaluator and self._measure_the_same(self.evaluator, own):
            own.close()
            base.share(self.evaluator)
        return env

    def _measure_the_same(self, first: Evaluator, other: Evaluator) -> bool:
        """Whether two evaluators are known to measure the same; if they are known not to, raise."""
        expected, given = first.fingerprint, other.fingerprint
        if expected is None or given is None:
            return False
        differing = sorted(name for name in {*expected, *given} if expected.get(name) != given.get(name))
        if differing:
            raise ReLeQError(
                f"environments 0 and {len(self.releq_envs) - 1} of ReLeQVecEnv differ in {', '.join(differing)}, which "
                "accuracies depend on; make all with the same arguments, or take stable_baselines3's DummyVecEnv"
            )
        return True
