"""Many episodes of one ReLeQ environment at once, stepped on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from releq_env.cost import CostTerms
from releq_env.env import ReLeQEnv
from releq_env.errors import ReLeQError, check_choice
from releq_env.evaluation import Evaluation
from releq_env.reward import exceeds
from releq_env.tasks import Task

_Step = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


@dataclass
class _State:
    """Where the episodes stand, a row or an element each."""

    steps: NDArray[np.int64]  # taken in this episode; -1 before the first reset
    choices: NDArray[np.int64]  # every layer's index into the set of bitwidths
    measured: NDArray[np.bool_]  # is there an evaluation yet? If not, the next three say nothing
    accuracy: NDArray[np.float64]
    relative: NDArray[np.float64]  # but 1.0 until measured: that is what the observation shows
    objective: NDArray[np.float64]

    def begin(self, mask: NDArray[np.bool_], start: NDArray[np.int64]) -> None:
        """Begin an episode where the mask is set."""
        self.steps[mask], self.choices[mask] = 0, start
        self.measured[mask], self.relative[mask] = False, 1.0


class ReLeQVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """Several episodes of one `ReLeQEnv` side by side, with one `evaluate_many` a step.

    Gives the trajectories that `gymnasium.vector.SyncVectorEnv` gives over as many `ReLeQEnv` with the
    same actions. They share one evaluator, which gets at once all that a step needs measured. A step
    that fails, for a wrong action or in an evaluation, has not been taken in any of them.

    Args:
        task: As of `ReLeQEnv`.
        num_envs: How many episodes run side by side.
        autoreset_mode: `AutoresetMode.NEXT_STEP` (default), `SAME_STEP` or `DISABLED`, or its value.
        render_mode: As of `ReLeQEnv`; `render` returns a tuple with a picture of each.
        **kwargs: All other arguments of `ReLeQEnv`.

    Raises:
        ReLeQError: In one line, if an argument is not accepted.
    """

    metadata: dict[str, Any] = {**ReLeQEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        task: str | Task = "digits",
        *,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ReLeQError(f"num_envs={num_envs!r} is not accepted; give a whole number from 1")
        mode = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        check_choice("autoreset_mode", mode, [accepted.value for accepted in AutoresetMode])
        # Checks the arguments, holds what the episodes have in common, and draws them one by one.
        self._env = env = ReLeQEnv(task, render_mode=render_mode, **kwargs)
        self.num_envs, self.render_mode = int(num_envs), render_mode
        self.autoreset_mode = AutoresetMode(mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.evaluator, self.layers, self.episode_steps = env.evaluator, env.layers, env.episode_steps
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.observation_space = batch_space(env.observation_space, self.num_envs)
        self.action_space = batch_space(env.action_space, self.num_envs)
        self._bitwidths = np.array(env.bitwidths)
        self._names = np.array([layer.name for layer in env.layers], dtype=object)
        self._start = np.searchsorted(self._bitwidths, env._start)
        steps, choices = np.full(self.num_envs, -1), np.tile(self._start, (self.num_envs, 1))
        zeros = np.zeros(self.num_envs)
        self._state = _State(steps, choices, zeros > 0, accuracy=zeros, relative=zeros + 1.0, objective=zeros)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin all episodes.

        Args:
            seed: Seeds `np_random`, of a list the first; no trajectory depends on it.
            options: `"bitwidths"`: the starting assignment; `"reset_mask"`: which begin, an array of bools.

        Raises:
            ReLeQError: If seeds or options do not fit.
        """
        seeds = seed if isinstance(seed, Sequence) else [seed] * self.num_envs
        if len(seeds) != self.num_envs:
            raise ReLeQError(f"reset got {len(seeds)} seeds; give one number or {self.num_envs}, one an environment")
        mask = np.ones(self.num_envs, dtype=np.bool_)
        if isinstance(options, dict) and "reset_mask" in options:
            options = dict(options)
            mask = options.pop("reset_mask")
            fits = isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (self.num_envs,)
            if not fits or not mask.any():
                raise ReLeQError(f"reset_mask={mask!r} does not fit; give {self.num_envs} NumPy bools, not all False")
        start = self._env._checked_options(options).get("bitwidths")
        choices = self._start if start is None else np.searchsorted(self._bitwidths, self._env._checked(start))
        super().reset(seed=seeds[0])
        self._state.begin(mask, choices)
        return self._described(mask)

    def step(self, actions: Any) -> _Step:
        """Give the layer at hand of every episode its bitwidth.

        Raises:
            gymnasium.error.ResetNeeded: Before the first `reset`; without autoreset, after an end too.
            gymnasium.error.InvalidAction: If the actions are outside the action space.
        """
        before = self._state
        if before.steps.min() < 0:
            raise gym.error.ResetNeeded("step() was called before reset(); call reset() first")
        resetting = before.steps == self.episode_steps
        if self.autoreset_mode is AutoresetMode.DISABLED and resetting.any():
            ended = f"the episodes of environments {np.flatnonzero(resetting).tolist()} have ended"
            raise gym.error.ResetNeeded(f'{ended}; call reset(options={{"reset_mask": ...}}) to begin others')
        rows, after = np.flatnonzero(~resetting), _State(*(array.copy() for array in vars(before).values()))
        moves = self._checked_actions(actions, rows)
        positions = before.steps[rows] % len(self.layers)
        after.choices[rows, positions] = self._moved(before.choices[rows, positions], moves)
        after.steps += 1
        after.begin(resetting, self._start)
        rewards, terminated = np.zeros(self.num_envs), after.steps == self.episode_steps
        measuring = np.flatnonzero(terminated) if self._env.evaluate == "episode" else rows
        if len(measuring):
            rewards[measuring] = self._measure(before, after, measuring)
        self._state = after  # only now: a step whose evaluations fail has not been taken
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and terminated.any():
            final, infos["final_info"] = self._described(terminated)
            infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(terminated):
                infos["final_obs"][index] = final[index]
            infos["_final_info"], infos["_final_obs"] = terminated.copy(), terminated.copy()
            after.begin(terminated, self._start)
        observations, described = self._described(np.ones(self.num_envs, dtype=np.bool_))
        return observations, rewards, terminated, np.zeros(self.num_envs, dtype=np.bool_), infos | described

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions can still lead to an assignment within `max_cost`, shape `(num_envs, actions)`."""
        state, layers, actions = self._state, len(self.layers), np.arange(self._env._actions)
        masks = np.ones((self.num_envs, len(actions)), dtype=np.bool_)
        if self._env.max_cost is None:
            return masks
        rows = np.flatnonzero((state.steps >= 0) & (state.steps < self.episode_steps))
        steps, positions = state.steps[rows], state.steps[rows] % layers
        visits = self.episode_steps // layers - 1 - (steps[:, None] - np.arange(layers)) // layers  # after this step
        ends, each = np.repeat(state.choices[rows, None], len(actions), axis=1), np.arange(len(rows))
        ends[each, :, positions] = self._moved(ends[each, :, positions], actions)
        # Each later visit takes a layer to the smallest bitwidth, or one down.
        down = len(self._bitwidths) if self._env.action_mode == "flexible" else 1
        ends = np.maximum(ends - down * visits[:, None], 0)
        allowed = ~exceeds(self._env._terms(self._bitwidths[ends])[..., 0], self._env.max_cost)
        # If the starting state has put it out of reach, at least go down.
        masks[rows] = np.where(allowed.any(axis=1, keepdims=True), allowed, actions == 0)
        return masks

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each episode, as `ReLeQEnv.render` draws it."""
        if self.render_mode is None:
            return self._env.render()  # warns
        frames, env, state = [], self._env, self._state
        for index, bits in enumerate(self._bitwidths[state.choices].tolist()):
            measured = Evaluation(tuple(bits), float(state.accuracy[index]), float(state.relative[index]), seconds=0.0)
            env._evaluation = measured if state.measured[index] else None
            env._step, env._assignment = int(state.steps[index]), bits
            frames.append(env.render())
        return tuple(frames)

    def close_extras(self, **kwargs: Any) -> None:
        """Release the evaluator's file."""
        self._env.close()

    def _checked_actions(self, actions: Any, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the actions of some episodes; those of the others are not looked at."""
        count = self._env._actions
        try:
            given = np.asarray(actions)
        except (TypeError, ValueError):  # rows of different lengths
            given = np.empty(0)
        if given.shape == (self.num_envs,) and given.dtype.kind in "iu":
            used = given[rows]
            if not len(used) or 0 <= used.min() <= used.max() < count:
                return used.astype(np.int64)
        raise gym.error.InvalidAction(
            f"actions {' '.join(repr(actions).split())} are outside the action space; "
            f"give {self.num_envs} whole numbers from 0 to {count - 1}"
        )

    def _moved(self, choices: NDArray[np.int64], actions: NDArray[np.int64]) -> NDArray[np.int64]:
        moved = np.clip(choices + actions - 1, 0, len(self._bitwidths) - 1)
        return actions if self._env.action_mode == "flexible" else moved

    def _measure(self, before: _State, after: _State, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Evaluate the assignments of some episodes, write the results into `after` and return the rewards."""
        gain = self._env.evaluate == "gain"
        first = rows[~before.measured[rows]] if gain else rows[:0]  # their start counts too, and is not measured yet
        bitwidths = self._bitwidths[np.concatenate([before.choices[first], after.choices[rows]])]
        evaluations = self.evaluator.evaluate_many(list(map(tuple, bitwidths.tolist())))
        relative = [evaluation.relative_accuracy for evaluation in evaluations]
        costs = self._env._terms(bitwidths)[:, 0].tolist()
        objectives = np.array([float(self._env._objective(a, q)) for a, q in zip(relative, costs, strict=True)])
        after.objective[first], values = objectives[: len(first)], objectives[len(first) :]
        rewards: NDArray[np.float64] = values - after.objective[rows] if gain else values
        after.measured[rows], after.objective[rows], after.relative[rows] = True, values, relative[len(first) :]
        after.accuracy[rows] = [evaluation.accuracy for evaluation in evaluations[len(first) :]]
        return rewards

    def _described(self, mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return the observations, and the info of the episodes in the mask in Gymnasium's vector format."""
        if self.render_mode == "human":
            self.render()
        state, layers = self._state, len(self.layers)
        bitwidths = self._bitwidths[state.choices]
        # The layer at hand: the first before an episode, the last at the end of one.
        positions = np.where(state.steps == self.episode_steps, layers - 1, np.maximum(state.steps, 0) % layers)
        terms = np.ascontiguousarray(self._env._terms(bitwidths).T)
        within = ~exceeds(terms[0], self._env.max_cost or 1.0)  # q is never above 1
        success = within & (state.relative >= self._env.min_relative_accuracy)
        assignments = np.fromiter(map(tuple, bitwidths.tolist()), dtype=object, count=self.num_envs)
        measured = mask & state.measured
        infos: dict[str, Any] = {}
        for name, values, present in (
            ("layer", self._names[positions], mask),
            ("bitwidths", assignments, mask),
            *((name, values, mask) for name, values in zip(CostTerms.names, terms, strict=True)),
            ("accuracy", state.accuracy, measured),
            ("relative_accuracy", state.relative, measured),
            ("is_success", success, measured & (state.steps == self.episode_steps)),
        ):
            if present.any():
                # Gymnasium leaves None, zero or False where an environment has no value.
                absent = None if values.dtype == object else values.dtype.type(0)
                infos[name], infos[f"_{name}"] = np.where(present, values, absent), present.copy()
        return self._env._observer.batch(positions, bitwidths, terms[0], state.relative), infos
