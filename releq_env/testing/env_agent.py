"""What every agent that learns on the environments has to keep to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from releq_env.env import ReLeQEnv
from releq_env.problem import Problem
from releq_env.testing.problems import bounded, plain, uneven
from releq_env.wrappers import ContinuousAction, WithinMask

Assignment = tuple[int, ...]


class Followed:
    """What a run is to an agent: takes up every step, and says when to end.

    Args:
        timesteps: How long the run is.
        ends_after: Time steps after which it says to end.

    Attributes:
        schedule_timesteps: `timesteps`.
        timesteps: Steps taken up so far, over all environments.
        assignments: At the end of each episode.
        told_to_end: Whether it was.
    """

    def __init__(self, timesteps: int, ends_after: int | None = None) -> None:
        self.schedule_timesteps = timesteps
        self.timesteps = 0
        self.assignments: list[Assignment] = []
        self.told_to_end = False
        self._ends_after = ends_after

    def step(self, rewards: Any, dones: Any, infos: Any) -> bool:
        """Take up a step of all environments."""
        assert not self.told_to_end, "it went on after it was told to end"
        assert len(rewards) == len(dones) == len(infos)
        self.timesteps += len(rewards)
        self.assignments += [tuple(infos[index]["bitwidths"].tolist()) for index in np.flatnonzero(dones)]
        self.told_to_end = self._ends_after is not None and self.timesteps >= self._ends_after
        return not self.told_to_end

    def asked(self, assignments: int) -> bool:
        """Count assignments that were asked for beside the environments."""
        return not self.told_to_end

    def probabilities(self, by_layer: Sequence[Sequence[float]]) -> None:
        """Check that they are probabilities."""
        assert np.allclose(np.sum(by_layer, axis=1), 1.0, atol=1e-4)


class EnvAgentContract:
    """Subclass it in a test module under a name that begins with `Test`, and override `make`.

    Attributes:
        masks: Whether the agent keeps `max_cost` by the environments' `action_masks()`.
        continuous: Whether its actions are numbers in [-1, 1].
        n_envs: Environments side by side.
        timesteps: How long it learns.
    """

    masks = False
    continuous = False
    n_envs = 4
    timesteps = 192

    def make(self, venv: Any, seed: int) -> Any:
        """Return a new agent, as `factory(venv, seed)`."""
        raise NotImplementedError("return an agent that learns on the environments")

    def environments(self, problem: Problem, seed: int = 0) -> Any:
        """Return environments side by side, as a run makes them."""
        from releq_env.sb3_vec_env import ReLeQVecEnv

        def make_one() -> gym.Env[Any, Any]:
            env: gym.Env[Any, Any] = ReLeQEnv(problem)
            if problem.max_cost is not None and not self.masks:
                env = WithinMask(env)
            return ContinuousAction(env) if self.continuous else env

        venv = ReLeQVecEnv([make_one] * self.n_envs)
        venv.seed(seed)
        return venv

    def learn(self, problem: Problem, seed: int = 0, ends_after: int | None = None) -> Followed:
        """Let a new agent learn, and return what was seen of it."""
        agent = self.make(self.environments(problem, seed), seed)
        followed = Followed(self.timesteps, ends_after)
        agent.learn(self.timesteps, followed)
        return followed

    @pytest.mark.parametrize("make_problem", [plain, uneven, bounded])
    def test_tells_of_every_step_and_ends(self, make_problem: Any) -> None:
        problem = make_problem()
        followed = self.learn(problem)
        assert 0 < followed.timesteps < 1.5 * self.timesteps  # what was begun may be finished: a rollout, say
        assert followed.assignments
        assert problem.evaluator.distinct_evaluations >= len(set(followed.assignments))

    def test_keeps_max_cost(self) -> None:
        problem = bounded()
        assert all(map(problem.keeps_max_cost, self.learn(problem).assignments))

    def test_ends_when_it_is_told_to(self) -> None:
        followed = self.learn(plain(), ends_after=self.n_envs * 6)
        assert followed.timesteps == self.n_envs * 6

    def test_the_same_seed_does_the_same(self) -> None:
        first, second = (self.learn(plain(), seed=5).assignments for _ in range(2))
        assert first == second

    def test_repeats_itself_with_what_is_remembered(self) -> None:
        """As a run that is resumed does: nothing may depend on whether an accuracy was measured or remembered."""
        problem = plain()
        first, second = (self.learn(problem, seed=5).assignments for _ in range(2))
        assert first == second

    def test_leaves_a_file_if_it_saves(self, tmp_path: Path) -> None:
        agent = self.make(self.environments(plain()), 0)
        if not hasattr(agent, "save"):
            pytest.skip("it keeps nothing")
        agent.learn(self.timesteps, Followed(self.timesteps))
        agent.save(tmp_path / "agent.zip")
        assert list(tmp_path.iterdir())
