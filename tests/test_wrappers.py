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

from releq_env import ContinuousAction, OneShot, ReLeQEnv, ReLeQError, WithinMask
from releq_env.decision import ACTION_MODES
from releq_env.errors import short
from tests.failing import no_warning
from tests.fakes import FakeSource, bits_of, digits_problem

Make = Callable[..., Any]


@pytest.fixture
def env() -> gym.Env[Any, Any]:
    return gym.make("ReLeQ-v0", problem=digits_problem(bitwidths=[2, 4, 8]))


def test_one_shot_is_the_whole_episode(env: Any) -> None:
    one = OneShot(env)
    assert one.action_space == gym.spaces.MultiDiscrete([3, 3, 3, 3])
    expected: list[Any] = []
    env.reset()
    for action in (0, 1, 2, 1):
        expected = list(env.step(action))
    one.reset()
    observation, reward, terminated, truncated, info = one.step(np.array([0, 1, 2, 1]))
    np.testing.assert_array_equal(observation, expected[0])
    np.testing.assert_equal([reward, terminated, truncated, info], expected[1:])
    assert (type(reward), terminated, truncated) == (float, True, False)
    assert bits_of(info) == (2, 4, 8, 4)
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
    "action",
    [[0, 1, 2], [0, 1, 2, 3], [-1, 0, 0, 0], [0.0] * 4, 1, [[0, 0, 0, 0]], [[0], [0, 1]], None, [0] * 1_000_000],
    ids=short,
)
def test_one_shot_refuses_and_changes_nothing(env: Any, action: object) -> None:
    one = OneShot(env)
    one.reset()
    with pytest.raises(gym.error.InvalidAction, match="MultiDiscrete") as raised:
        one.step(action)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250
    assert bits_of(one.step([1, 1, 1, 1])[4]) == (4, 4, 4, 4)


def test_one_shot_leaves_no_step_taken_where_measuring_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource()
    one = OneShot(ReLeQEnv(digits_problem(source, bitwidths=[2, 4, 8])))
    one.reset()
    with monkeypatch.context() as patch:
        patch.setattr(source, "measure", lambda waiting: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.step([0, 1, 2, 1])
    *_, info = one.step([0, 1, 2, 1])
    assert bits_of(info) == (2, 4, 8, 4)
    assert source.calls == [(2, 4, 8, 4)]


def test_one_shot_of_layers_with_choices_of_their_own() -> None:
    one = OneShot(ReLeQEnv(digits_problem(bitwidths=[[2, 8], [4], [2, 3, 4], [8]])))
    assert one.action_space == gym.spaces.MultiDiscrete([2, 1, 3, 1])
    one.reset()
    assert bits_of(one.step([0, 0, 1, 0])[4]) == (2, 4, 3, 8)


@pytest.mark.parametrize("kwargs", [{"action_mode": "restricted"}, {"evaluate": "step"}, {"evaluate": "gain"}])
def test_one_shot_refuses_other_processes(kwargs: dict[str, str]) -> None:
    env = gym.make("ReLeQ-v0", problem=digits_problem(), **kwargs)
    with pytest.raises(ReLeQError, match="action_mode='flexible' and evaluate='episode'"):
        OneShot(env)


def test_one_shot_refuses_other_environments() -> None:
    with pytest.raises(ReLeQError, match="ReLeQ environment"):
        OneShot(gym.make("CartPole-v1"))


def test_one_shot_refuses_actions_of_another_shape(env: Any) -> None:
    for wrap in (ContinuousAction, OneShot):
        with pytest.raises(ReLeQError, match="OneShot got the action space .* put it right around the env") as raised:
            OneShot(wrap(env))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "bits"),
    [(-1.0, 2), (-0.51, 2), (-0.49, 4), (0.0, 4), (0.49, 4), (0.51, 8), (1.0, 8), (7.0, 8), (-7.0, 2)],
)
def test_continuous_takes_the_nearest_choice(env: Any, value: float, bits: int) -> None:
    continuous = ContinuousAction(env)
    continuous.reset()
    info = continuous.step(np.array([value], dtype=np.float32))[4]
    assert bits_of(info) == (bits, 8, 8, 8)


def test_continuous_space(env: Any) -> None:
    assert ContinuousAction(env).action_space == gym.spaces.Box(-1, 1, (1,), np.float32)
    assert ContinuousAction(OneShot(env)).action_space == gym.spaces.Box(-1, 1, (4,), np.float32)


def test_continuous_around_one_shot(env: Any) -> None:
    both = ContinuousAction(OneShot(env))
    both.reset()
    _, _, terminated, _, info = both.step(np.array([-1, 0, 1, 0.9], dtype=np.float32))
    assert terminated
    assert bits_of(info) == (2, 4, 8, 8)


def test_continuous_reaches_every_assignment(env: Any) -> None:
    both = ContinuousAction(OneShot(env))
    for values, bits in zip(
        itertools.product((-1.0, 0.0, 1.0), repeat=4), itertools.product((2, 4, 8), repeat=4), strict=True
    ):
        both.reset()
        assert bits_of(both.step(np.array(values, dtype=np.float32))[4]) == bits


@given(values=st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=2))
def test_continuous_is_monotone_and_inside(values: list[float]) -> None:
    env = ContinuousAction(gym.make("ReLeQ-v0", problem=digits_problem()))
    low, high = (int(env.action(np.array([value], dtype=np.float32))) for value in sorted(values))
    assert 0 <= low <= high <= 7


@pytest.mark.parametrize(
    "action",
    ["a", [[0.0], [0.0, 0.0]], [np.nan], [np.inf], [-np.inf], [0.0, 0.0], [], 0.0, [[0.0]], [0.0] * 1_000_000],
    ids=short,
)
def test_continuous_refuses(env: Any, action: object) -> None:
    continuous = ContinuousAction(env)
    continuous.reset()
    with pytest.raises(gym.error.InvalidAction, match="Box") as raised:
        continuous.step(action)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250


def test_continuous_refuses_other_spaces() -> None:
    with pytest.raises(ReLeQError, match="Discrete or MultiDiscrete"):
        ContinuousAction(gym.make("Pendulum-v1"))


@no_warning
@pytest.mark.parametrize(
    "wrap",
    [OneShot, ContinuousAction, lambda env: ContinuousAction(OneShot(env)), WithinMask],
    ids=["one", "continuous", "both", "within"],
)
def test_checkers_have_no_complaint(env: Any, wrap: Callable[[Any], Any]) -> None:
    check_env_sb3(wrap(env))


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.parametrize("wrap", [OneShot, ContinuousAction, WithinMask], ids=["one", "continuous", "within"])
def test_gymnasiums_checker_passes(env: Any, wrap: Callable[[Any], Any]) -> None:
    check_env(wrap(env), skip_render_check=True)


def test_one_shot_masks_what_cannot_keep_max_cost(make: Callable[..., Any]) -> None:
    env: Any = OneShot(make(bitwidths=[1, 2, 8], max_cost=0.3))
    masks = env.action_masks().reshape(4, 3)
    problem = env.unwrapped.problem
    for layer, bits in itertools.product(range(4), range(3)):
        rest = itertools.product((1, 2, 8), repeat=3)
        options = [(*r[:layer], (1, 2, 8)[bits], *r[layer:]) for r in rest]
        assert masks[layer, bits] == any(problem.keeps_max_cost(option) for option in options)


# Only open actions


@pytest.mark.parametrize("mode", ACTION_MODES)
@pytest.mark.parametrize("cost", ["mean_bits", "energy", "size"])
def test_within_mask_ends_within_max_cost_whatever_the_agent_does(make: Make, mode: str, cost: str) -> None:
    env: Any = WithinMask(make(bitwidths=[2, 3, 5, 8], cost=cost, max_cost=0.45, action_mode=mode))
    problem, random, replaced = env.unwrapped.problem, np.random.default_rng(0), 0
    for episode in range(20):
        env.reset()
        done = False
        while not done:
            masks = env.action_masks()
            np.testing.assert_array_equal(masks, env.unwrapped.action_masks())
            action = env.action_space.n - 1 if episode == 0 else int(random.integers(env.action_space.n))
            *_, done, _, info = env.step(action)
            assert ("replaced_action" in info) == (not masks[action])
            if not masks[action]:
                assert info["replaced_action"] == action
                assert type(info["replaced_action"]) is np.int64
                replaced += 1
        assert problem.keeps_max_cost(bits_of(info))
    assert replaced > 5


def test_within_mask_takes_the_nearest_open_action(make: Make) -> None:
    # Choices of their own: the second layer has two of the five, and no others are open.
    env: Any = WithinMask(make(bitwidths=[[1, 2, 3, 4, 5], [1, 8], [2, 4], [3]], max_cost=0.7))
    env.reset(options={"bitwidths": [5, 8, 4, 3]})
    assert env.action_masks().tolist() == [True] * 5
    *_, info = env.step(4)
    assert "replaced_action" not in info
    assert env.action_masks().tolist() == [True, False, False, False, False]  # 5 + 1 + 2 + 3 of 20, 0.7 is 14
    *_, info = env.step(4)
    assert (bits_of(info), info["replaced_action"]) == ((5, 1, 4, 3), 4)
    *_, info = env.step(np.int64(3))
    assert (bits_of(info), info["replaced_action"]) == ((5, 1, 4, 3), 3)
    *_, info = env.step(0)
    assert "replaced_action" not in info


def test_within_mask_leaves_open_actions_alone(make: Make) -> None:
    env, other = WithinMask(make(bitwidths=[2, 4, 8])), make(bitwidths=[2, 4, 8])
    np.testing.assert_equal(env.reset(), other.reset())
    for action in (0, np.int64(1), 2, np.array([1])):
        np.testing.assert_equal(env.step(action), other.step(action))


def test_within_mask_needs_a_reset_and_an_action_of_the_space(make: Make) -> None:
    env: Any = WithinMask(make(bitwidths=[2, 4, 8], max_cost=0.5))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset()
    for action in (3, -1, 0.5, None, True):
        with pytest.raises(gym.error.InvalidAction, match="whole number from 0 to 2"):
            env.step(action)


def test_within_mask_refuses_what_has_no_masks(env: Any) -> None:
    for other in (gym.make("CartPole-v1"), OneShot(env), ContinuousAction(env)):
        with pytest.raises(ReLeQError, match="put it around a ReLeQ environment") as raised:
            WithinMask(other)
        assert "\n" not in str(raised.value)


def test_wrappers_of_actions_fit_around_within_mask(make: Make) -> None:
    env = ContinuousAction(WithinMask(make(bitwidths=[2, 4, 8], max_cost=0.5)))
    env.reset()
    for _ in range(4):
        *_, info = env.step(np.array([1.0], dtype=np.float32))
    assert bits_of(info) == (8, 4, 2, 2)
    assert info["replaced_action"] == 2
