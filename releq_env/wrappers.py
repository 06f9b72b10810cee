"""Other shapes of the same decision: all layers at once, continuous actions, only open actions."""

from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from releq_env.env import ReLeQEnv
from releq_env.errors import ReLeQError, short

# Any other `step` may change the action, and so the assignment that it leads to.
STEPS_THAT_KEEP_THE_ACTION: set[object] = {
    wrapper.step
    for wrapper in (
        gym.Wrapper,
        gym.ObservationWrapper,
        gym.RewardWrapper,
        gym.wrappers.FrameStackObservation,
        gym.wrappers.HumanRendering,
        gym.wrappers.NormalizeReward,
        gym.wrappers.OrderEnforcing,
        gym.wrappers.PassiveEnvChecker,
        gym.wrappers.RecordEpisodeStatistics,
        gym.wrappers.RecordVideo,
        gym.wrappers.RenderCollection,
        gym.wrappers.TimeAwareObservation,
        gym.wrappers.TimeLimit,
    )
}


def looks_ahead(env: gym.Env[Any, Any]) -> Callable[[Any], list[tuple[int, ...]]] | None:
    """Return what tells the assignments that a step of an environment measures, or `None` if nothing does."""
    while not hasattr(type(env), "assignments_of_step"):
        if type(env).step not in STEPS_THAT_KEEP_THE_ACTION:
            return None
        env = cast(gym.Wrapper[Any, Any, Any, Any], env).env
    return cast(Any, env).assignments_of_step  # ReLeQEnv's, or of a wrapper that translates


class OneShot(gym.Wrapper[NDArray[np.float32], Any, NDArray[np.float32], Any], gym.utils.RecordConstructorArgs):
    """One step an episode: a `MultiDiscrete` action gives every layer the index of its bitwidth.

    Args:
        env: A ReLeQ environment with `action_mode="flexible"` and `evaluate="episode"`, whose actions no wrapper
            has given another shape.

    Raises:
        ReLeQError: If it is something else.
    """

    def __init__(self, env: gym.Env[NDArray[np.float32], Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, ReLeQEnv) or base.action_mode != "flexible" or base.evaluate != "episode":
            raise ReLeQError(
                f"OneShot got {env}; give a ReLeQ environment with action_mode='flexible' and evaluate='episode'"
            )
        if env.action_space != base.action_space:
            raise ReLeQError(
                f"OneShot got the action space {env.action_space}; put it right around the environment, other "
                "wrappers of actions around it"
            )
        self._base = base
        self.action_space = spaces.MultiDiscrete([len(choices) for choices in base.problem.choices])

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which bitwidths can be part of an assignment within `max_cost`, one layer after the other."""
        problem, masks = self._base.problem, []
        cheapest = problem.costs.argmin(axis=1)
        for layer, choices in enumerate(problem.choices):
            for choice in range(len(choices)):
                chosen = cheapest.copy()
                chosen[layer] = choice
                masks.append(problem.keeps_max_cost(self._base.decision.bitwidths(chosen).tolist()))
        return np.array(masks)

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Give all layers their bitwidths; the episode ends. A step that fails has not been taken.

        Raises:
            gymnasium.error.InvalidAction: If the action is outside the action space.
        """
        indices, before = self._checked(action), self._base.episode
        try:
            for index in indices[:-1]:
                self.env.step(index)
            observation, reward, terminated, truncated, info = self.env.step(indices[-1])
        except BaseException:
            self._base.episode = before
            raise
        return observation, float(reward), terminated, truncated, info

    def assignments_of_step(self, action: Any) -> list[tuple[int, ...]]:
        """Return what `step(action)` would have measured; nothing if a wrapper inside may change actions."""
        indices, base = self._checked(action), self._base
        if looks_ahead(self.env) != base.assignments_of_step:
            return []
        base.assignments_of_step(indices[0])  # raises if a reset is needed
        return [tuple(base.decision.bitwidths(indices).tolist())]

    def _checked(self, action: Any) -> NDArray[np.int64]:
        try:
            indices = np.asarray(action)
        except (TypeError, ValueError):  # rows of different lengths
            indices = np.empty(0)
        if indices.dtype.kind not in "iu" or not self.action_space.contains(indices):
            raise gym.error.InvalidAction(
                f"action {short(action)} is outside the action space; give one of {self.action_space}"
            )
        return indices


class ContinuousAction(
    gym.ActionWrapper[NDArray[np.float32], NDArray[np.float32], Any], gym.utils.RecordConstructorArgs
):
    """A `Box` action in [-1, 1], rounded to the nearest of the discrete choices (DDPG, TD3, SAC).

    -1 is the first action and 1 the last: from the smallest bitwidth to the largest one of any layer (a layer of fewer
    choices has its largest above these), or from down to up with `action_mode="restricted"`. Around `OneShot` the
    action has one element a layer, each over that layer's choices, otherwise one element.

    Args:
        env: An environment with a `Discrete` or `MultiDiscrete` action space.

    Raises:
        ReLeQError: If its action space is something else.
    """

    def __init__(self, env: gym.Env[NDArray[np.float32], Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        space = env.action_space
        if isinstance(space, spaces.Discrete):
            self._choices = np.array([space.n])
        elif isinstance(space, spaces.MultiDiscrete):
            self._choices = space.nvec
        else:
            raise ReLeQError(
                f"ContinuousAction got the action space {space}; give an environment with Discrete or MultiDiscrete"
            )
        self.action_space = spaces.Box(-1.0, 1.0, shape=self._choices.shape, dtype=np.float32)

    def action(self, action: NDArray[np.float32]) -> Any:
        """Return the nearest discrete action.

        Raises:
            gymnasium.error.InvalidAction: If it has another shape or is not finite.
        """
        try:
            values = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError):  # text, or rows of different lengths
            values = np.full(self._choices.shape, np.nan)
        if values.shape != self._choices.shape or not np.isfinite(values).all():
            raise gym.error.InvalidAction(
                f"action {short(action)} is outside the action space; give one of {self.action_space}"
            )
        indices = np.rint((np.clip(values, -1.0, 1.0) + 1.0) / 2.0 * (self._choices - 1)).astype(np.int64)
        return indices if isinstance(self.env.action_space, spaces.MultiDiscrete) else indices[0]

    def assignments_of_step(self, action: NDArray[np.float32]) -> list[tuple[int, ...]]:
        """Return what `step(action)` would have measured; nothing if a wrapper inside may change actions."""
        ahead = looks_ahead(self.env)
        return [] if ahead is None else ahead(self.action(action))


class WithinMask(gym.Wrapper[NDArray[np.float32], Any, NDArray[np.float32], Any], gym.utils.RecordConstructorArgs):
    """Replaces an action that is closed by the nearest one that is open: for agents that cannot mask.

    An episode from the usual start then ends within `max_cost`. A step whose action was replaced has
    the one that was given as `replaced_action` in its `info`.

    Args:
        env: An environment with a `Discrete` action space and a method `action_masks`.

    Raises:
        ReLeQError: If it is something else.
    """

    def __init__(self, env: gym.Env[NDArray[np.float32], Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        if not isinstance(env.unwrapped, ReLeQEnv) or env.action_space != env.unwrapped.action_space:
            raise ReLeQError(
                f"WithinMask got {env}; put it around a ReLeQ environment, other wrappers of actions around it"
            )
        self._base = env.unwrapped

    def action_masks(self) -> NDArray[np.bool_]:
        """Return the environment's masks."""
        return self._base.action_masks()

    def step(self, action: Any) -> tuple[NDArray[np.float32], Any, bool, bool, dict[str, Any]]:
        """Take the step with an open action.

        Raises:
            gymnasium.error.InvalidAction: If the action is outside the action space.
        """
        given = self._base.decision.checked_action(action)
        taken = self._open(given)
        observation, reward, terminated, truncated, info = self.env.step(taken)
        if taken != given:
            info["replaced_action"] = np.int64(given)
        return observation, reward, terminated, truncated, info

    def assignments_of_step(self, action: Any) -> list[tuple[int, ...]]:
        """Return what `step(action)` would have measured; nothing if a wrapper inside may change actions."""
        ahead = looks_ahead(self.env)
        return [] if ahead is None else ahead(self._open(self._base.decision.checked_action(action)))

    def _open(self, given: int) -> int:
        masks = self.action_masks()
        if masks[given]:
            return given
        openings = np.flatnonzero(masks)
        return int(openings[np.abs(openings - given).argmin()])  # of two as near the lower
