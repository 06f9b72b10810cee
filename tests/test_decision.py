"""The tables of the decision process, against what trying everything out gives."""

import itertools
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env.cost import COSTS
from releq_env.decision import ACTION_MODES, Decision
from releq_env.env import ReLeQEnv
from releq_env.errors import ReLeQError
from releq_env.problem import Problem
from tests.fakes import bits_of, digits_problem, smooth_accuracy

CHOICES = st.lists(st.integers(1, 8), min_size=1, max_size=5, unique=True).map(sorted)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Choices that differ by layer, any cost of each, and a bound that some assignment meets."""
    choices = draw(st.lists(CHOICES, min_size=1, max_size=3))
    costs = [draw(st.lists(st.integers(0, 9), min_size=len(c), max_size=len(c))) for c in choices]
    costs[0] = [cost + 1 for cost in costs[0]]  # an assignment has to cost something
    table = {
        f"layer{index}": dict(zip(*pair, strict=True)) for index, pair in enumerate(zip(choices, costs, strict=True))
    }
    with patch.dict(COSTS, {"drawn": lambda layer, bits: table[layer.name][bits]}):
        problem = Problem.from_function(len(choices), choices, smooth_accuracy, cost="drawn")
        bound = problem.state_of_quantization([draw(st.sampled_from(c)) for c in choices])
        return problem.replace(max_cost=draw(st.sampled_from([None, bound, problem.cheapest, 1.0])))


class Trial:
    """Plays by the rules as they are told, one continuation after the other."""

    def __init__(self, problem: Problem, mode: str, steps: int) -> None:
        self.problem, self.mode, self.steps = problem, mode, steps
        self.actions = range(max(map(len, problem.choices)) if mode == "flexible" else 3)
        self.lowest = cache(self._lowest)

    def after(self, bits: tuple[int, ...], step: int, action: int) -> tuple[int, ...]:
        layer = step % len(bits)
        choices = self.problem.choices[layer]
        index = action if self.mode == "flexible" else choices.index(bits[layer]) + action - 1
        return (*bits[:layer], choices[min(max(index, 0), len(choices) - 1)], *bits[layer + 1 :])

    def _lowest(self, bits: tuple[int, ...], step: int) -> float:
        """Return the lowest cost that an episode can end with."""
        if step == self.steps:
            return self.problem.state_of_quantization(bits)
        return min(self.lowest(self.after(bits, step, action), step + 1) for action in self.actions)

    def masks(self, bits: tuple[int, ...], step: int) -> list[bool]:
        choices = self.problem.choices[step % len(bits)]
        own = [self.mode == "restricted" or action < len(choices) for action in self.actions]
        if self.problem.max_cost is None:
            return own
        ends = [self.lowest(self.after(bits, step, action), step + 1) for action in self.actions]
        least = min(self.problem.max_cost, 1.0)
        if not any(o and end <= least + 1e-9 for o, end in zip(own, ends, strict=True)):
            least = min(end for o, end in zip(own, ends, strict=True) if o)
        return [o and end <= least + 1e-9 for o, end in zip(own, ends, strict=True)]


@pytest.mark.parametrize("mode", ACTION_MODES)
@given(problem=problems(), data=st.data())
def test_episodes_and_masks_are_what_trying_everything_out_gives(mode: str, problem: Problem, data: Any) -> None:
    env = ReLeQEnv(problem, action_mode=mode)
    trial = Trial(problem, mode, env.episode_steps)
    ends = st.sampled_from([tuple(choices[end] for choices in problem.choices) for end in (0, -1)])
    start = data.draw(st.none() | ends | st.tuples(*map(st.sampled_from, problem.choices)))  # from ends not all is near
    _, info = env.reset(options=None if start is None else {"bitwidths": start})
    within = trial.lowest(bits_of(info), 0) <= (problem.max_cost or 1.0) + 1e-9
    for step in range(env.episode_steps):
        before = bits_of(info)
        masks = env.action_masks()
        assert masks.tolist() == trial.masks(before, step)
        assert masks.any()
        action = data.draw(st.sampled_from(np.flatnonzero(masks).tolist()))
        *_, terminated, _, info = env.step(action)
        assert bits_of(info) == trial.after(before, step, action)
    assert terminated
    assert problem.keeps_max_cost(bits_of(info)) == within


@pytest.mark.parametrize("mode", ACTION_MODES)
@given(problem=problems(), data=st.data())
def test_masks_of_many_episodes_are_those_of_each(mode: str, problem: Problem, data: Any) -> None:
    decision = Decision(problem, "episode", mode, "paper")
    count = data.draw(st.integers(1, 5))
    steps = np.array(data.draw(st.lists(st.integers(-1, decision.episode_steps), min_size=count, max_size=count)))
    rows = [[data.draw(st.integers(0, len(c) - 1)) for c in problem.choices] for _ in range(count)]
    choices = np.array(rows)
    expected = [decision.masks([step], row[None])[0] for step, row in zip(steps, choices, strict=True)]
    assert decision.masks(steps, choices).tolist() == np.array(expected).tolist()


@given(problem=problems())
def test_an_action_beyond_a_layers_choices_means_its_last(problem: Problem) -> None:
    env = ReLeQEnv(problem)
    assert env.action_space.n == max(map(len, problem.choices))
    env.reset()
    for _ in problem.choices:
        *_, info = env.step(env.action_space.n - 1)
    assert bits_of(info) == tuple(choices[-1] for choices in problem.choices)


@given(problem=problems())
def test_restricted_reaches_either_end_of_every_layer(problem: Problem) -> None:
    env = ReLeQEnv(problem, action_mode="restricted")
    for action, end in ((0, 0), (2, -1)):
        env.reset()
        for _ in range(env.episode_steps):
            *_, info = env.step(action)
        assert bits_of(info) == tuple(choices[end] for choices in problem.choices)


def test_starts_with_choices_that_differ_by_layer() -> None:
    problem = digits_problem(bitwidths=[[2, 4], [1, 2, 3, 4, 5], [8], [3, 6, 7]])
    assert bits_of(ReLeQEnv(problem).reset()[1]) == (4, 5, 8, 7)
    env = ReLeQEnv(problem, action_mode="restricted")
    assert bits_of(env.reset()[1]) == (2, 3, 8, 6)
    assert env.episode_steps == 2 * 4  # two moves to either end of the second layer


def test_the_tables_cannot_be_changed() -> None:
    decision = Decision(digits_problem(), "episode", "flexible", "paper")
    for table in (decision.start, decision.effect, decision.bits, decision.observer.static):
        with pytest.raises(ValueError, match="read-only"):
            table[...] = 0


def test_bitwidths_and_indices_are_each_others_inverse() -> None:
    problem = digits_problem(bitwidths=[[2, 4], [1, 2, 5], [8], [3, 6]])
    decision = Decision(problem, "episode", "flexible", "paper")
    for bits in itertools.product(*problem.choices):
        assert tuple(decision.bitwidths(problem.indices(bits)).tolist()) == bits


def test_the_layer_at_hand() -> None:
    problem = digits_problem(bitwidths=[1, 2, 3, 4, 5])
    for mode, steps in (("flexible", 4), ("restricted", 8)):
        decision = Decision(problem, "episode", mode, "paper")
        layers = [decision.layer_at(step) for step in range(-1, steps + 1)]
        assert layers == [0, *[step % 4 for step in range(steps)], 3]


@pytest.mark.parametrize("rules", [("never", "flexible", "paper"), ("step", "free", "paper"), ("step", "flexible", 1)])
def test_unknown_rules_get_one_line(rules: tuple[Any, Any, Any]) -> None:
    with pytest.raises(ReLeQError, match="unknown .*; choose one of: ") as raised:
        Decision(digits_problem(), *rules)
    assert "\n" not in str(raised.value)
