"""Plays cases and notes down what an agent sees, the same way when recording and when replaying.

A row is what one call of `reset` or `step` returns, for each of the environments that run side by side:

| field | meaning | where there is none |
|---|---|---|
| observations | of the state after the call | |
| rewards, terminated, truncated | of the step | NaN, -1, -1 after a `reset` |
| masks | `action_masks()` after the call | |
| layer, bitwidths, is_success | infos of the same state | -1, 0, -1 |
| terms, accuracy, relative_accuracy | likewise | NaN |
| final_... | observation and infos of the episode that the step has ended and already reset | as above |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from releq_env import ReLeQVecEnv

FULL_PRECISION = 0.98
MIN_RELATIVE_ACCURACY = 0.99
EPISODES = 2
FORMS = ("single", "next_step", "same_step", "sb3")
TERMS = ("state_of_quantization", "average_bits", "weighted_bits", "energy", "bitops")
INFOS = {"layer", "bitwidths", *TERMS, "accuracy", "relative_accuracy", "is_success"}
SB3_INFOS = {"TimeLimit.truncated", "terminal_observation"}

Rows = dict[str, NDArray[Any]]
Choose = Callable[[int, NDArray[np.bool_]], NDArray[np.int64]]


def accuracy(bitwidths: Any) -> float:
    """Rises with the bits, a later layer mattering more; shaken a little, and now and then diverged."""
    bits = [int(number) for number in bitwidths]
    if sum(bits) % 7 == 0:
        return 0.25
    loss = sum((index + 1) * 4.0**-number for index, number in enumerate(bits))
    shaken = (37 * sum((index + 1) * number**2 for index, number in enumerate(bits)) % 11 - 5) / 2000
    return FULL_PRECISION * (1.0 - loss / sum(range(1, len(bits) + 1))) + shaken


@dataclass(frozen=True)
class Case:
    """One way to make the environment and to use it.

    Attributes:
        form: One of `FORMS`.
        bitwidths: The set to choose from.
        start: What `reset(options={"bitwidths": ...})` is told, or `None`.
        evaluate, action_mode, observation, reward, cost, max_cost: As of `gym.make`.
    """

    form: str
    bitwidths: tuple[int, ...]
    start: tuple[int, ...] | None
    evaluate: str
    action_mode: str
    observation: str
    reward: str
    cost: str
    max_cost: float | None = None

    def __str__(self) -> str:
        start = "default" if self.start is None else "".join(map(str, self.start))
        names = (self.form, self.evaluate, self.action_mode, self.observation, self.reward, self.cost)
        return "-".join([*names, "".join(map(str, self.bitwidths)), start, str(self.max_cost or "unbounded")])

    @property
    def num_envs(self) -> int:
        return 1 if self.form == "single" else 2

    @property
    def options(self) -> dict[str, Any] | None:
        return None if self.start is None else {"bitwidths": list(self.start)}


class Maker:
    """Makes the environments of a case.

    Attributes:
        id: Id of the environment.
    """

    id: str

    def arguments(self, case: Case) -> dict[str, Any]:
        """Return the arguments of `gym.make`."""
        raise NotImplementedError

    def single(self, case: Case) -> gym.Env[Any, Any]:
        return gym.make(self.id, **self.arguments(case))

    def vector(self, case: Case, autoreset_mode: gym.vector.AutoresetMode) -> gym.vector.VectorEnv[Any, Any, Any]:
        return gym.make_vec(
            self.id,
            num_envs=case.num_envs,
            vectorization_mode="vector_entry_point",
            autoreset_mode=autoreset_mode,
            **self.arguments(case),
        )

    def sb3(self, case: Case) -> Any:
        """Return a `ReLeQVecEnv`."""
        arguments = self.arguments(case)
        return ReLeQVecEnv([lambda: gym.make(self.id, **arguments)] * case.num_envs)


class Notes:
    """Rows while they are played.

    Args:
        case: What is played.
        layers: How many layers there are.
        layer: Info's `layer` -> index of the layer.
    """

    def __init__(self, case: Case, layers: int, layer: Callable[[Any], int]) -> None:
        self._case, self._layers, self._layer = case, layers, layer
        self._rows: list[Rows] = []

    def add(
        self,
        observations: NDArray[np.float32],
        infos: list[Mapping[str, Any]],
        masks: NDArray[np.bool_],
        step: tuple[Any, Any, Any] | None = None,
        final: list[tuple[NDArray[np.float32], Mapping[str, Any]] | None] | None = None,
    ) -> None:
        """Add a row.

        Args:
            observations: One an environment.
            infos: Likewise, as a single environment gives them.
            masks: Likewise.
            step: rewards, terminated and truncated; `None` after a `reset`.
            final: Of each environment the terminal observation and infos, if its episode has ended in this step
                and the next has begun.
        """
        envs = self._case.num_envs
        rewards, terminated, truncated = step or ([np.nan] * envs, [-1] * envs, [-1] * envs)
        row: Rows = {
            "observations": np.array(observations, dtype=np.float32),
            "rewards": np.array(rewards, dtype=np.float64),
            "terminated": np.array(terminated, dtype=np.int8),
            "truncated": np.array(truncated, dtype=np.int8),
            "masks": np.array(masks, dtype=np.bool_),
        }
        row |= self._described(infos)
        if self._case.form in {"same_step", "sb3"}:
            absent: NDArray[np.float32] = np.full(row["observations"].shape[1:], np.nan, dtype=np.float32)
            ends = final or [None] * envs
            row["final_observations"] = np.array([absent if end is None else end[0] for end in ends])
            ended = self._described([{} if end is None else end[1] for end in ends])
            row |= {f"final_{name}": values for name, values in ended.items()}
        self._rows.append(row)

    def rows(self) -> Rows:
        return {name: np.stack([row[name] for row in self._rows]) for name in self._rows[0]}

    def _described(self, infos: list[Mapping[str, Any]]) -> Rows:
        assert set().union(*infos) <= INFOS | SB3_INFOS
        none = np.zeros(self._layers, dtype=np.int8)
        return {
            "layer": np.array([self._layer(info["layer"]) if "layer" in info else -1 for info in infos], dtype=np.int8),
            "bitwidths": np.array([info.get("bitwidths", none) for info in infos], dtype=np.int8),
            "terms": np.array([[info.get(name, np.nan) for name in TERMS] for info in infos], dtype=np.float64),
            "accuracy": np.array([info.get("accuracy", np.nan) for info in infos], dtype=np.float64),
            "relative_accuracy": np.array([info.get("relative_accuracy", np.nan) for info in infos], dtype=np.float64),
            "is_success": np.array([info.get("is_success", -1) for info in infos], dtype=np.int8),
        }


def play(case: Case, steps: int, choose: Choose, maker: Maker, layers: int, layer: Callable[[Any], int]) -> Rows:
    """Play a case.

    Args:
        case: What is played.
        steps: How many steps.
        choose: Number of the step and masks, shape `(envs, actions)` -> actions, shape `(envs,)`.
        maker: Makes its environments.
        layers: How many layers there are.
        layer: Info's `layer` -> index of the layer.
    """
    notes = Notes(case, layers, layer)
    if case.form == "single":
        _play_single(case, steps, choose, maker.single(case), notes)
    elif case.form == "sb3":
        _play_sb3(case, steps, choose, maker.sb3(case), notes)
    else:
        mode = gym.vector.AutoresetMode[case.form.upper()]
        _play_vector(case, steps, choose, maker.vector(case, mode), notes)
    return notes.rows()


def _play_single(case: Case, steps: int, choose: Choose, env: Any, notes: Notes) -> None:
    ended = True
    for step in range(steps):
        if ended:
            observation, info = env.reset(options=case.options)
            notes.add(observation[None], [info], env.unwrapped.action_masks()[None])
        (action,) = choose(step, env.unwrapped.action_masks()[None])
        observation, reward, ended, truncated, info = env.step(action)
        assert type(ended) is bool and truncated is False and type(reward) is float
        notes.add(observation[None], [info], env.unwrapped.action_masks()[None], ([reward], [ended], [truncated]))
    env.close()


def _play_vector(case: Case, steps: int, choose: Choose, venv: Any, notes: Notes) -> None:
    observations, infos = venv.reset(options=case.options)
    notes.add(observations, split(infos, case.num_envs), venv.action_masks())
    for step in range(steps):
        if step == 2:  # from here on the two are not at the same layer
            options = {"reset_mask": np.array([False, True])} | (case.options or {})
            observations, infos = venv.reset(options=options)
            notes.add(observations, split(infos, case.num_envs), venv.action_masks())
        observations, rewards, terminated, truncated, infos = venv.step(choose(step, venv.action_masks()))
        final = None
        if "final_info" in infos:
            ends = split(infos["final_info"], case.num_envs)
            assert (infos["_final_info"] == terminated).all() and (infos["_final_obs"] == terminated).all()
            pairs = zip(infos["final_obs"], ends, terminated, strict=True)
            final = [(observation, info) if ended else None for observation, info, ended in pairs]
        notes.add(
            observations,
            split(infos, case.num_envs),
            venv.action_masks(),
            (rewards, terminated, truncated),
            final,
        )
    venv.close()


def _play_sb3(case: Case, steps: int, choose: Choose, venv: Any, notes: Notes) -> None:
    if case.options is not None:
        venv.set_options(case.options)
    observations = venv.reset()
    notes.add(observations, venv.reset_infos, np.array(venv.env_method("action_masks")))
    for step in range(steps):
        moves = choose(step, np.array(venv.env_method("action_masks")))
        observations, rewards, ended, infos = venv.step(moves)
        final = [
            (info["terminal_observation"], info) if done else None for info, done in zip(infos, ended, strict=True)
        ]
        notes.add(
            observations,
            [after if done else info for info, after, done in zip(infos, venv.reset_infos, ended, strict=True)],
            np.array(venv.env_method("action_masks")),
            (rewards, ended, [info["TimeLimit.truncated"] for info in infos]),
            final,
        )
    venv.close()


def split(infos: Mapping[str, Any], envs: int) -> list[Mapping[str, Any]]:
    """Return one environment's infos after the other's, from Gymnasium's vector format."""
    names = [name for name in infos if not name.startswith(("_", "final_"))]
    assert {f"_{name}" for name in names} <= set(infos)
    return [{name: infos[name][index] for name in names if infos[f"_{name}"][index]} for index in range(envs)]
