"""Many episodes of one ReLeQ environment at once, stepped on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from releq_env.cost import CostTerms
from releq_env.env import Episode, ReLeQEnv
from releq_env.errors import ReLeQError, check_choice, check_whole, short
from releq_env.evaluation import Evaluation, Evaluator
from releq_env.problem import Problem
from releq_env.reward import exceeds

if TYPE_CHECKING:
    from releq_env.tasks import Task

_Step = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


@dataclass
class _State:
    """Where the episodes stand, a row or an element each."""

    steps: NDArray[np.int64]  # taken in this episode; -1 before the first reset
    choices: NDArray[np.int64]  # of every layer, see `Decision`
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
        problem: As of `ReLeQEnv`.
        num_envs: How many episodes run side by side.
        autoreset_mode: `AutoresetMode.NEXT_STEP` (default), `SAME_STEP` or `DISABLED`, or its value.
        render_mode: As of `ReLeQEnv`; `render` returns a tuple with a picture of each.
        **kwargs: All other arguments of `ReLeQEnv`.

    Attributes:
        problem: The problem of all of them.

    Raises:
        ReLeQError: In one line, if an argument is not accepted.
    """

    metadata: dict[str, Any] = {**ReLeQEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        problem: "Problem | Task | str" = "digits",
        *,
        num_envs: int = 1,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.closed = True  # until it is made: old versions of Gymnasium close what could not be made, too
        whole = check_whole("num_envs", num_envs, 1, "")
        mode = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        check_choice("autoreset_mode", mode, [accepted.value for accepted in AutoresetMode])
        # Checks the arguments, holds what the episodes have in common, and draws them one by one.
        self._env = env = ReLeQEnv(problem, render_mode=None if render_mode == "human" else render_mode, **kwargs)
        self.num_envs, self.render_mode = whole, render_mode
        self.autoreset_mode = AutoresetMode(mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.problem, self.decision, self.episode_steps = env.problem, env.decision, env.episode_steps
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.observation_space = batch_space(env.observation_space, self.num_envs)
        self.action_space = batch_space(env.action_space, self.num_envs)
        steps, choices = np.full(self.num_envs, -1), np.tile(self.decision.start, (self.num_envs, 1))
        zeros = np.zeros(self.num_envs)
        self._state = _State(steps, choices, zeros > 0, accuracy=zeros, relative=zeros + 1.0, objective=zeros)
        self.closed = False

    @property
    def evaluator(self) -> Evaluator:
        """The problem's evaluator."""
        return self.problem.evaluator

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
                raise ReLeQError(
                    f"reset_mask={short(mask)} does not fit; give {self.num_envs} NumPy bools, not all False"
                )
        start = self.decision.checked_start(options)
        super().reset(seed=seeds[0])
        self._state.begin(mask, start)
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
        layers = before.steps[rows] % self.decision.num_layers
        after.choices[rows, layers] = self.decision.effect[layers, before.choices[rows, layers], moves]
        after.steps += 1
        after.begin(resetting, self.decision.start)
        rewards, terminated = np.zeros(self.num_envs), after.steps == self.episode_steps
        measuring = np.flatnonzero(terminated) if self.decision.evaluate == "episode" else rows
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
            after.begin(terminated, self.decision.start)
        observations, described = self._described(np.ones(self.num_envs, dtype=np.bool_))
        return observations, rewards, terminated, np.zeros(self.num_envs, dtype=np.bool_), infos | described

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are open, shape `(num_envs, actions)`: see `ReLeQEnv`, Action Space."""
        return self.decision.masks(self._state.steps, self._state.choices)

    def render(self) -> tuple[Any, ...] | None:
        """Return a picture of each episode, as `ReLeQEnv.render` draws it."""
        if self.render_mode is None:
            return self._env.render()  # warns
        return None if self.render_mode == "human" else tuple(map(self._drawn, range(self.num_envs)))

    def close_extras(self, **kwargs: Any) -> None:
        """Release the evaluator's file and its workers."""
        self._env.close()

    def _drawn(self, index: int) -> Any:
        """Return the picture of one episode."""
        state = self._state
        bitwidths = tuple(self.decision.bitwidths(state.choices[index]).tolist())
        measured = Evaluation(bitwidths, float(state.accuracy[index]), float(state.relative[index]), seconds=0.0)
        evaluation = measured if state.measured[index] else None
        self._env.episode = Episode(int(state.steps[index]), state.choices[index], evaluation)
        return self._env.drawn()

    def _checked_actions(self, actions: Any, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the actions of some episodes; those of the others are not looked at."""
        count = self.decision.num_actions
        try:
            given = np.asarray(actions)
        except (TypeError, ValueError):  # rows of different lengths
            given = np.empty(0)
        if given.shape == (self.num_envs,) and given.dtype.kind in "iu":
            used = given[rows]
            if not len(used) or 0 <= used.min() <= used.max() < count:
                return used.astype(np.int64)
        raise gym.error.InvalidAction(
            f"actions {short(actions)} are outside the action space; "
            f"give {self.num_envs} whole numbers from 0 to {count - 1}"
        )

    def _measure(self, before: _State, after: _State, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Evaluate the assignments of some episodes, write the results into `after` and return the rewards."""
        gain = self.decision.evaluate == "gain"
        first = rows[~before.measured[rows]] if gain else rows[:0]  # their start counts too, and is not measured yet
        choices = np.concatenate([before.choices[first], after.choices[rows]])
        evaluations = self.evaluator.evaluate_many(list(map(tuple, self.decision.bitwidths(choices).tolist())))
        relative = [evaluation.relative_accuracy for evaluation in evaluations]
        costs = self.problem.cost_terms(choices)[:, 0].tolist()
        value = self.problem.value
        objectives = np.array([float(value(a, q)) for a, q in zip(relative, costs, strict=True)])
        after.objective[first], values = objectives[: len(first)], objectives[len(first) :]
        rewards: NDArray[np.float64] = values - after.objective[rows] if gain else values
        after.measured[rows], after.objective[rows], after.relative[rows] = True, values, relative[len(first) :]
        after.accuracy[rows] = [evaluation.accuracy for evaluation in evaluations[len(first) :]]
        return rewards

    def _described(self, mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return the observations, and the info of the episodes in the mask in Gymnasium's vector format."""
        if self.render_mode == "human":
            print("\n".join(map(self._drawn, np.flatnonzero(mask).tolist())))
        state, layers = self._state, self.decision.num_layers
        bitwidths = self.decision.bitwidths(state.choices)
        # The layer at hand: the first before an episode, the last at the end of one.
        positions = np.where(state.steps == self.episode_steps, layers - 1, np.maximum(state.steps, 0) % layers)
        terms = np.ascontiguousarray(self.problem.cost_terms(state.choices).T)
        within = ~exceeds(terms[0], self.problem.max_cost or 1.0)  # q is never above 1
        success = within & (state.relative >= self.problem.min_relative_accuracy)
        measured = mask & state.measured
        filled, tells = np.zeros(self.num_envs, dtype=np.bool_), self.problem.filled
        if tells is not None:
            filled = np.array([tells(assignment) for assignment in map(tuple, bitwidths.tolist())])
        infos: dict[str, Any] = {}
        for name, values, present in (
            ("layer", positions, mask),
            ("bitwidths", bitwidths, mask),
            *((name, values, mask) for name, values in zip(CostTerms.names, terms, strict=True)),
            ("accuracy", state.accuracy, measured),
            ("relative_accuracy", state.relative, measured),
            ("filled", filled, measured & (tells is not None)),
            ("is_success", success, measured & (state.steps == self.episode_steps)),
        ):
            if present.any():
                # Gymnasium leaves zero or False where an environment has no value.
                shown = present if values.ndim == 1 else present[:, None]
                infos[name], infos[f"_{name}"] = np.where(shown, values, values.dtype.type(0)), present.copy()
        return self.decision.observer.batch(positions, bitwidths, terms[0], state.relative), infos
