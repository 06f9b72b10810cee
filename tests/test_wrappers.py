import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from releq_env import ContinuousAction, OneShot, ReLeQError
from tests.fakes import FunctionEvaluator

Make = Callable[..., Any]


@pytest.fixture
def env() -> gym.Env[Any, Any]:
    return gym.make("ReLeQ-Digits-v0", bitwidths=[2, 4, 8], evaluator=FunctionEvaluator())


def test_one_shot_is_the_whole_episode(env: Any) -> None:
    one = OneShot(env)
    assert one.action_space == gym.spaces.MultiDiscrete([3, 3, 3, 3])
    expected = []
    env.reset()
    for action in (0, 1, 2, 1):
        expected = env.step(action)
    one.reset()
    observation, reward, terminated, truncated, info = one.step(np.array([0, 1, 2, 1]))
    np.testing.assert_array_equal(observation, expected[0])
    assert (reward, terminated, truncated, info) == tuple(expected[1:])
    assert (type(reward), terminated, truncated) == (float, True, False)
    assert info["bitwidths"] == (2, 4, 8, 4)
    assert env.unwrapped.evaluator.distinct_evaluations == 1


def test_one_shot_needs_a_reset_each_time(env: Any) -> None:
    one = OneShot(env)
    with pytest.raises(gym.error.ResetNeeded):
        one.step(np.zeros(4, dtype=np.int64))
    one.reset()
    one.step(np.zeros(4, dtype=np.int64))
    with pytest.raises(gym.error.ResetNeeded):
        one.step(np.zeros(4, dtype=np.int64))


@pytest.mark.parametrize(
    "action", [[0, 1, 2], [0, 1, 2, 3], [-1, 0, 0, 0], [0.0, 0.0, 0.0, 0.0], 1, [[0, 0, 0, 0]], None], ids=repr
)
def test_one_shot_refuses_and_changes_nothing(env: Any, action: object) -> None:
    one = OneShot(env)
    one.reset()
    with pytest.raises(gym.error.InvalidAction, match="MultiDiscrete") as raised:
        one.step(action)
    assert "\n" not in str(raised.value)
    assert one.step([1, 1, 1, 1])[4]["bitwidths"] == (4, 4, 4, 4)


@pytest.mark.parametrize("kwargs", [{"action_mode": "restricted"}, {"evaluate": "step"}, {"evaluate": "gain"}])
def test_one_shot_refuses_other_processes(kwargs: dict[str, str]) -> None:
    env = gym.make("ReLeQ-Digits-v0", evaluator=FunctionEvaluator(), **kwargs)
    with pytest.raises(ReLeQError, match="action_mode='flexible' and evaluate='episode'"):
        OneShot(env)


def test_one_shot_refuses_other_environments() -> None:
    with pytest.raises(ReLeQError, match="ReLeQ environment"):
        OneShot(gym.make("CartPole-v1"))


@pytest.mark.parametrize(
    ("value", "bits"),
    [(-1.0, 2), (-0.51, 2), (-0.49, 4), (0.0, 4), (0.49, 4), (0.51, 8), (1.0, 8), (7.0, 8), (-7.0, 2)],
)
def test_continuous_takes_the_nearest_choice(env: Any, value: float, bits: int) -> None:
    continuous = ContinuousAction(env)
    continuous.reset()
    info = continuous.step(np.array([value], dtype=np.float32))[4]
    assert info["bitwidths"] == (bits, 8, 8, 8)


def test_continuous_space(env: Any) -> None:
    assert ContinuousAction(env).action_space == gym.spaces.Box(-1, 1, (1,), np.float32)
    assert ContinuousAction(OneShot(env)).action_space == gym.spaces.Box(-1, 1, (4,), np.float32)


def test_continuous_around_one_shot(env: Any) -> None:
    both = ContinuousAction(OneShot(env))
    both.reset()
    _, _, terminated, _, info = both.step(np.array([-1, 0, 1, 0.9], dtype=np.float32))
    assert terminated
    assert info["bitwidths"] == (2, 4, 8, 8)


def test_continuous_reaches_every_assignment(env: Any) -> None:
    both = ContinuousAction(OneShot(env))
    for values, bits in zip(
        itertools.product((-1.0, 0.0, 1.0), repeat=4), itertools.product((2, 4, 8), repeat=4), strict=True
    ):
        both.reset()
        assert both.step(np.array(values, dtype=np.float32))[4]["bitwidths"] == bits


@given(values=st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=2))
def test_continuous_is_monotone_and_inside(values: list[float]) -> None:
    env = ContinuousAction(gym.make("ReLeQ-Digits-v0", evaluator=FunctionEvaluator()))
    low, high = (int(env.action(np.array([value], dtype=np.float32))) for value in sorted(values))
    assert 0 <= low <= high <= 7


@pytest.mark.parametrize("action", [[np.nan], [np.inf], [-np.inf], [0.0, 0.0], [], 0.0, [[0.0]]], ids=repr)
def test_continuous_refuses(env: Any, action: object) -> None:
    continuous = ContinuousAction(env)
    continuous.reset()
    with pytest.raises(gym.error.InvalidAction, match="Box"):
        continuous.step(action)  # type: ignore[arg-type]


def test_continuous_refuses_other_spaces() -> None:
    with pytest.raises(ReLeQError, match="Discrete or MultiDiscrete"):
        ContinuousAction(gym.make("Pendulum-v1"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "wrap", [OneShot, ContinuousAction, lambda env: ContinuousAction(OneShot(env))], ids=["one", "continuous", "both"]
)
def test_checkers_have_no_complaint(env: Any, wrap: Callable[[Any], Any]) -> None:
    check_env_sb3(wrap(env))


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.parametrize("wrap", [OneShot, ContinuousAction], ids=["one", "continuous"])
def test_gymnasiums_checker_passes(env: Any, wrap: Callable[[Any], Any]) -> None:
    check_env(wrap(env), skip_render_check=True)


def test_one_shot_masks_what_cannot_keep_max_cost(make: Callable[..., Any]) -> None:
    env = OneShot(make(bitwidths=[1, 2, 8], max_cost=0.3))
    masks = env.action_masks().reshape(4, 3)
    base = env.unwrapped
    for layer, bits in itertools.product(range(4), range(3)):
        rest = itertools.product(base.bitwidths, repeat=3)
        options = [(*r[:layer], base.bitwidths[bits], *r[layer:]) for r in rest]
        assert masks[layer, bits] == any(base.state_of_quantization(option) <= 0.3 for option in options)
