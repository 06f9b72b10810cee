"""The rules of the decision process as tables, read by the environments and their wrappers."""

from functools import cached_property
from typing import Any

import numpy as np
from gymnasium.error import InvalidAction
from numpy.typing import ArrayLike, NDArray

from releq_env.errors import ReLeQError, check_choice, short
from releq_env.observation import OBSERVATIONS, Observer
from releq_env.problem import Problem
from releq_env.reward import exceeds

EVALUATE = ("episode", "step", "gain")
ACTION_MODES = ("flexible", "restricted")


def check_rules(evaluate: object, action_mode: object, observation: object) -> None:
    """Raise `ReLeQError` if one of the names is unknown."""
    check_choice("evaluate", evaluate, EVALUATE)
    check_choice("action_mode", action_mode, ACTION_MODES)
    check_choice("observation", observation, OBSERVATIONS)


class Decision:
    """What an action does, where an episode starts and ends, what is shown and what is allowed. Never changes.

    A layer's bitwidth is an index into its choices here. Arrays have one row a layer and, where layers
    differ in how many choices they have, the last choice again in the columns to the right of a
    shorter one's.

    Args:
        problem: Layers, choices and costs.
        evaluate: `"episode"`, `"step"` or `"gain"`: when a reward is paid.
        action_mode: `"flexible"` or `"restricted"`.
        observation: `"paper"` or `"history"`.

    Attributes:
        rules: The three names as given.
        num_layers: How many layers there are.
        numbers: The layers' indices as NumPy scalars.
        num_actions: How many actions there are.
        episode_steps: How many steps an episode has.
        start: The choice of every layer at the beginning, shape `(layers,)`.
        effect: Choice before and action -> choice after, shape `(layers, choices, actions)`.
        bits: Choice -> bitwidth, shape `(layers, choices)`.
        observer: Makes the observations.

    Raises:
        ReLeQError: If a name is unknown.
    """

    def __init__(self, problem: Problem, evaluate: str, action_mode: str, observation: str) -> None:
        check_rules(evaluate, action_mode, observation)
        self.rules = (evaluate, action_mode, observation)
        self.evaluate = evaluate
        self.action_mode = action_mode
        self.num_layers = problem.num_layers
        self._problem = problem
        counts = np.array([len(of_layer) for of_layer in problem.choices])
        last = counts - 1
        columns = np.minimum(np.arange(counts.max()), last[:, None])
        self.bits = np.array([np.take(bits, row) for bits, row in zip(problem.choices, columns, strict=True)])
        if action_mode == "flexible":
            self.num_actions = int(counts.max())
            self.start = last
            self.effect = np.repeat(columns[:, None, :], counts.max(), axis=1)
            passes = 1
        else:
            self.num_actions = 3
            self.start = last // 2
            moved = columns[:, :, None] + np.array([-1, 0, 1])
            self.effect = np.clip(moved, 0, last[:, None, None])
            passes = max(int(np.maximum(self.start, last - self.start).max()), 1)
        self.episode_steps = passes * self.num_layers
        self.observer = Observer(observation, problem.layers, int(self.bits.max()), problem.full_precision_accuracy)
        for table in (self.bits, self.start, self.effect):
            table.flags.writeable = False
        self._terms = problem.cost_terms
        self.numbers = tuple(np.arange(self.num_layers))
        self._each = np.arange(self.num_layers)
        self._first = self._each * self.bits.shape[1]
        self._flat_bits = self.bits.ravel()
        self._effect: list[list[list[int]]] = self.effect.tolist()  # a list's element is quicker to get

    def after(self, step: int, choices: NDArray[np.int64], action: Any) -> NDArray[np.int64]:
        """Return the choices after an action on the layer at hand, a fresh array.

        Args:
            step: Steps taken before.
            choices: Of every layer before, shape `(layers,)`.
            action: The action.

        Raises:
            gymnasium.error.InvalidAction: If it is outside the action space.
        """
        layer, after = step % self.num_layers, choices.copy()
        after[layer] = self._effect[layer][choices[layer]][self.checked_action(action)]
        return after

    def layer_at(self, step: int) -> int:
        """Return the layer at hand after that many steps of an episode: the first before it, the last at its end."""
        if 0 < step < self.episode_steps:
            return step % self.num_layers
        return 0 if step <= 0 else self.num_layers - 1

    def bitwidths(self, choices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the bitwidths of choices, shape `(..., layers)`, a fresh array."""
        bitwidths: NDArray[np.int64] = self._flat_bits.take(self._first + choices)
        return bitwidths

    def described(self, choices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the bitwidths and the cost terms of choices, both fresh; see `bitwidths` and `CostTerms`."""
        rows = self._first + choices
        return self._flat_bits.take(rows), self._terms.at(rows)

    def checked_start(self, options: Any) -> NDArray[np.int64]:
        """Return the choices at the beginning of an episode.

        Args:
            options: Of `reset`: `{"bitwidths": [...]}`, or `None`.

        Raises:
            ReLeQError: If they are something else.
        """
        if options is None or options == {}:
            return self.start
        if not isinstance(options, dict) or set(options) != {"bitwidths"}:
            raise ReLeQError(f'reset got options={short(options)}; give {{"bitwidths": [...]}} or nothing')
        return self._problem.indices(options["bitwidths"])

    def checked_action(self, action: Any) -> int:
        """Return an action as a Python integer.

        Raises:
            gymnasium.error.InvalidAction: If it is outside the action space.
        """
        if type(action) is int and 0 <= action < self.num_actions:
            return action
        value = action.item() if isinstance(action, np.ndarray | np.generic) and action.size == 1 else action
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < self.num_actions:
            raise InvalidAction(
                f"action {short(action)} is outside the action space; "
                f"give a whole number from 0 to {self.num_actions - 1}"
            )
        return value

    def masks(self, steps: ArrayLike, choices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which actions are open: those that have a choice of their own and can still lead within `max_cost`.

        Where the starting state has put `max_cost` out of reach, those that come nearest to it are open.

        Args:
            steps: How many steps of their episodes have been taken, shape `(episodes,)`; below 0 before the first
                reset.
            choices: Where they are, shape `(episodes, layers)`.

        Returns:
            Shape `(episodes, actions)`.
        """
        taken = np.asarray(steps)
        under_way = np.flatnonzero((taken >= 0) & (taken < self.episode_steps))
        masks = np.ones((len(taken), self.num_actions), dtype=np.bool_)
        at = taken[under_way] % self.num_layers
        if self.action_mode == "flexible":
            masks[under_way] = self._has_choice[at]
        if self._problem.max_cost is None or not len(under_way):
            return masks
        left = (self.episode_steps - 1 - taken[under_way])[:, None]  # steps after this one
        visits = (left + (at[:, None] - self._each) % self.num_layers) // self.num_layers
        remainder = self._cheapest[visits, self._each, choices[under_way]]  # shape (episodes, layers)
        rows = np.arange(len(under_way))
        others = remainder.sum(axis=1) - remainder[rows, at]
        after = self.effect[at, choices[under_way, at]]  # shape (episodes, actions)
        ends = others[:, None] + self._cheapest[visits[rows, at][:, None], at[:, None], after]
        ends = np.where(masks[under_way], ends, np.inf) / self._dearest
        nearest = ends <= ends.min(axis=1, keepdims=True) + 1e-12
        within = ~exceeds(ends, self._problem.max_cost)
        masks[under_way] = np.where(within.any(axis=1, keepdims=True), within, nearest)
        return masks

    @cached_property
    def _has_choice(self) -> NDArray[np.bool_]:
        counts = np.array([len(of_layer) for of_layer in self._problem.choices])
        return np.arange(self.num_actions) < counts[:, None]

    @cached_property
    def _dearest(self) -> float:
        return float(self._problem.costs.max(axis=1).sum())

    @cached_property
    def _cheapest(self) -> NDArray[np.float64]:
        """Return the least cost that a layer can end with, shape `(visits left, layers, choices)`."""
        costs = self._problem.costs
        least = [costs]
        for _ in range(self.episode_steps // self.num_layers):
            reached = least[-1][self._each[:, None, None], self.effect]  # shape (layers, choices, actions)
            least.append(reached.min(axis=2))
        return np.array(least)
