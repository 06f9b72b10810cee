"""Environments side by side whose evaluations are asked for together."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from releq_env import ReLeQEnv


class BatchedVecEnv(DummyVecEnv):
    """Steps several environments that share one evaluator, with one `evaluate_many` a step.

    Gives the trajectories that the environments give one by one; only the assignments that a step
    measures are measured at once.

    Args:
        env_fns: Make the environments; all have the evaluator of the first.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]]) -> None:
        super().__init__(list(env_fns))
        self.releq_envs: list[ReLeQEnv] = [cast(ReLeQEnv, env.unwrapped) for env in self.envs]
        for env in self.releq_envs[1:]:
            env.evaluator.close()
            env.evaluator = self.releq_envs[0].evaluator

    def step_wait(self) -> VecEnvStepReturn:
        """Measure what this step needs, all at once, then take it."""
        needed = [
            assignment
            for env, action in zip(self.releq_envs, self.actions, strict=True)
            for assignment in env.assignments_of_step(action)
        ]
        if needed:
            self.releq_envs[0].evaluator.evaluate_many(needed)
        return super().step_wait()
