"""The rules of the decision process, on Digits (four layers) over a fake source, and a few with real retraining."""

import copy
import itertools
import math
import pickle
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env.cost import COSTS
from releq_env.decision import ACTION_MODES, EVALUATE
from releq_env.env import ReLeQEnv
from releq_env.errors import ReLeQError
from releq_env.reward import REWARDS
from releq_env.tasks import TASKS
from tests.fakes import FakeSource, bits_of, digits_problem, smooth_accuracy

WEIGHTS = [144, 4_608, 32_768, 640]
Make = Callable[..., Any]


def rollout(env: Any, actions: Sequence[int], **reset: Any) -> list[tuple[Any, float, bool, bool, dict[str, Any]]]:
    env.reset(**reset)
    return [env.step(action) for action in actions]


def objective(a: float, q: float, least: float = 0.99) -> float:
    return 1 - q**0.2 if a >= least else (a - least) / least


def relative(bits: Sequence[int]) -> float:
    return smooth_accuracy(bits) / 0.98


# Starting state


def test_starts_at_the_largest_bitwidth(make: Make) -> None:
    observation, info = make(bitwidths=[2, 4, 6]).reset()
    assert bits_of(info) == (6, 6, 6, 6)
    assert info["layer"] == 0
    assert info["state_of_quantization"] == 1.0
    assert observation[7] == 1.0


@pytest.mark.parametrize(("bitwidths", "middle"), [([2, 4, 6], 4), ([2, 4, 6, 8], 4), ([3], 3), (None, 4), ([2, 8], 2)])
def test_restricted_starts_in_the_middle(make: Make, bitwidths: list[int] | None, middle: int) -> None:
    _, info = make(bitwidths=bitwidths, action_mode="restricted").reset()
    assert bits_of(info) == (middle,) * 4


def test_start_of_ones_own(make: Make) -> None:
    env = make()
    _, info = env.reset(options={"bitwidths": [1, 3, 5, 7]})
    assert bits_of(info) == (1, 3, 5, 7)
    assert bits_of(env.step(7)[4]) == (8, 3, 5, 7)
    assert bits_of(env.reset()[1]) == (8, 8, 8, 8)
    assert bits_of(env.reset(options={})[1]) == (8, 8, 8, 8)


def test_start_of_numpy_integers(make: Make) -> None:
    _, info = make().reset(options={"bitwidths": np.array([1, 3, 5, 7])})
    assert bits_of(info) == (1, 3, 5, 7)
    assert info["bitwidths"].dtype == np.int64


@pytest.mark.parametrize(
    "start",
    [[], [2, 2, 2], [2] * 5, [2, 2, 2, 3], [0] * 4, 4, "4444", [2.7] * 4, [2.0] * 4, [math.nan] * 4, [None] * 4],
    ids=repr,
)
def test_starts_that_do_not_fit(make: Make, start: object) -> None:
    env = make(bitwidths=[2, 4, 8])
    with pytest.raises(
        ReLeQError, match=r"the assignment .* does not fit; give 4 bitwidths, one a layer, out of \(2, 4, 8\)"
    ):
        env.reset(options={"bitwidths": start})


# Steps and prefixes


def test_default_bitwidths_are_all_of_the_quantizer(make: Make) -> None:
    for quantizer, smallest in (("lsq", 1), ("wrpn", 2)):
        env: Any = gym.make("ReLeQ-Digits-v0", quantizer=quantizer, cache=None).unwrapped
        assert env.problem.choices == (tuple(range(smallest, 9)),) * 4
        assert env.action_space == gym.spaces.Discrete(9 - smallest)


def test_every_prefix_is_an_assignment(make: Make) -> None:
    env = make(bitwidths=[2, 4, 8])
    infos = [step[4] for step in rollout(env, [0, 1, 2, 0])]
    assert [bits_of(info) for info in infos] == [(2, 8, 8, 8), (2, 4, 8, 8), (2, 4, 8, 8), (2, 4, 8, 2)]
    assert [info["layer"] for info in infos] == [1, 2, 3, 3]


def test_the_last_layer_terminates(make: Make) -> None:
    steps = rollout(make(), [3, 3, 3, 3])
    assert [step[2] for step in steps] == [False, False, False, True]
    assert [step[3] for step in steps] == [False] * 4


def test_types(make: Make) -> None:
    for evaluate in EVALUATE:
        for observation, reward, terminated, truncated, info in rollout(make(evaluate=evaluate), [3, 0, 7, 1]):
            assert type(reward) is float
            assert type(terminated) is bool
            assert type(truncated) is bool
            assert observation.dtype == np.float32
            assert info["bitwidths"].dtype == np.int64
            assert type(info["layer"]) is np.int64
            assert type(info.get("is_success", False)) is bool
            numbers = set(info) - {"bitwidths", "layer", "is_success"}
            assert all(type(info[name]) is np.float64 for name in numbers)


def test_terminal_observation_is_the_last_layer_with_its_bits(make: Make) -> None:
    observation = rollout(make(observation="history"), [3, 0, 7, 1])[-1][0]
    assert observation[0] == 1.0  # index of the last layer
    assert observation[5] == pytest.approx(2 / 8)
    np.testing.assert_allclose(observation[8:], np.array([4, 1, 8, 2]) / 8)
    assert observation[7] == pytest.approx(relative((4, 1, 8, 2)))


def test_observation_describes_the_layer_at_hand(make: Make) -> None:
    env = make(cost="weighted_bits", bitwidths=[2, 4, 8])
    env.reset()
    observation = env.step(0)[0]
    q = (2 * 144 + 8 * sum(WEIGHTS[1:])) / (8 * sum(WEIGHTS))
    np.testing.assert_allclose(observation[[0, 1, 2, 3, 5, 6, 7]], [1 / 3, 0.5, 16 / 512, 1.0, 1.0, q, 1.0], rtol=1e-6)


def test_returned_objects_are_fresh(make: Make) -> None:
    env = make(evaluate="step")
    first, first_info = env.reset()
    kept, kept_info = first.copy(), copy.deepcopy(first_info)
    second, *_, second_info = env.step(0)
    assert not np.shares_memory(first, second)
    assert first_info is not second_info
    second[:] = -5
    second_info["bitwidths"][:] = 99
    second_info.clear()
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_equal(first_info, kept_info)
    observation, *_, info = env.step(0)
    assert env.observation_space.contains(observation)
    assert bits_of(info) == (1, 1, 8, 8)


@pytest.mark.parametrize("evaluate", EVALUATE)
@pytest.mark.parametrize("mode", ACTION_MODES)
@pytest.mark.parametrize("kind", ["paper", "history"])
def test_observation_is_always_inside_the_space(evaluate: str, mode: str, kind: str) -> None:
    # Also at an accuracy of 1, which is more than full precision has.
    for function in (perfect, smooth_accuracy, hopeless):
        problem = digits_problem(FakeSource(function, full_precision=0.984))
        env = ReLeQEnv(problem, evaluate=evaluate, action_mode=mode, observation=kind)
        env.action_space.seed(0)
        for _ in range(5):
            observation, _ = env.reset()
            done = False
            while not done:
                assert env.observation_space.contains(observation)
                observation, _, done, _, _ = env.step(env.action_space.sample())
            assert env.observation_space.contains(observation)


def perfect(bitwidths: Sequence[int]) -> float:
    return 1.0


def hopeless(bitwidths: Sequence[int]) -> float:
    return 0.0


# When the reward is paid


def test_episode_pays_the_objective_at_the_end_for_one_evaluation(make: Make, fake: FakeSource) -> None:
    steps = rollout(make(), [3, 4, 7, 3])
    bits = (4, 5, 8, 4)
    assert fake.calls == [bits]
    assert [step[1] for step in steps[:3]] == [0.0, 0.0, 0.0]
    assert steps[3][1] == pytest.approx(objective(relative(bits), sum(bits) / 32))


def test_step_pays_the_objective_of_every_prefix(make: Make, fake: FakeSource) -> None:
    steps = rollout(make(evaluate="step"), [3, 0, 7, 1])
    prefixes = [(4, 8, 8, 8), (4, 1, 8, 8), (4, 1, 8, 8), (4, 1, 8, 2)]
    assert fake.calls == list(dict.fromkeys(prefixes))
    assert [step[1] for step in steps] == pytest.approx([objective(relative(b), sum(b) / 32) for b in prefixes])


@given(actions=st.lists(st.integers(0, 7), min_size=4, max_size=4), start=st.tuples(*[st.integers(1, 8)] * 4))
def test_gain_telescopes(actions: list[int], start: tuple[int, ...]) -> None:
    env = ReLeQEnv(digits_problem(), evaluate="gain")
    steps = rollout(env, actions, options={"bitwidths": start})
    end = bits_of(steps[-1][4])
    expected = objective(relative(end), sum(end) / 32) - objective(relative(start), sum(start) / 32)
    assert sum(step[1] for step in steps) == pytest.approx(expected, abs=1e-12)
    assert end == tuple(action + 1 for action in actions)


def test_gain_pays_nothing_for_no_change_and_forgets_the_last_episode(make: Make) -> None:
    env = make(evaluate="gain")
    rollout(env, [0, 0, 0, 0])
    assert [step[1] for step in rollout(env, [7, 7, 7, 7])] == [0.0] * 4


def test_accuracy_is_shown_once_measured(make: Make) -> None:
    measured = {"accuracy", "relative_accuracy"}
    env = make()
    _, info = env.reset()
    assert not measured & set(info)
    steps = [env.step(3) for _ in range(4)]
    assert [measured <= set(step[4]) for step in steps] == [False, False, False, True]
    assert not measured & set(env.reset()[1])
    for evaluate in ("step", "gain"):
        assert all(measured <= set(step[4]) for step in rollout(make(evaluate=evaluate), [3] * 4))


def test_step_shows_the_accuracy_of_the_prefix_and_reset_forgets_it(make: Make) -> None:
    env = make(evaluate="step")
    steps = rollout(env, [0, 0, 0, 0])
    for observation, _, _, _, info in steps:
        assert info["accuracy"] == smooth_accuracy(info["bitwidths"])
        assert info["relative_accuracy"] == pytest.approx(relative(info["bitwidths"]))
        assert observation[7] == pytest.approx(info["relative_accuracy"])
    assert env.reset()[0][7] == 1.0


@pytest.mark.parametrize("reward", REWARDS)
@pytest.mark.parametrize("cost", COSTS)
def test_every_reward_with_every_cost(make: Make, reward: str, cost: str) -> None:
    env = make(reward=reward, cost=cost)
    *_, info = (last := rollout(env, [3, 4, 7, 3])[-1])
    evaluation = env.evaluator.evaluate((4, 5, 8, 4))
    assert last[1] == env.problem.objective(evaluation)
    assert math.isfinite(last[1])
    assert info["state_of_quantization"] == env.problem.state_of_quantization((4, 5, 8, 4))


def test_a_reward_of_ones_own(make: Make) -> None:
    env = make(reward=lambda a, q: np.float32(3.0) + (a > 0) + q)
    reward = rollout(env, [3, 3, 3, 3])[-1][1]
    assert type(reward) is float
    assert reward == pytest.approx(4.5)


def test_information_by_hand(make: Make) -> None:
    info = rollout(make(bitwidths=[2, 4, 8]), [0, 1, 2, 1])[-1][4]
    bits = [2, 4, 8, 4]
    macs = [144 * 64, 4_608 * 64, 32_768, 640]
    energy = [w * 120 + m for w, m in zip(WEIGHTS, macs, strict=True)]

    def share(weights: list[int]) -> float:
        return float(np.dot(weights, bits) / (8 * sum(weights)))

    assert info["average_bits"] == 4.5
    assert info["state_of_quantization"] == pytest.approx(4.5 / 8)
    assert info["weighted_bits"] == pytest.approx(8 * share(WEIGHTS))
    assert info["bitops"] == pytest.approx(share(macs))
    assert info["energy"] == pytest.approx(share(energy))


def test_success_is_told_at_the_end_only(make: Make) -> None:
    env = make()
    assert "is_success" not in env.reset()[1]
    for actions, success in (([7] * 4, True), ([0] * 4, False)):
        infos = [step[4] for step in rollout(env, actions)]
        assert not any("is_success" in info for info in infos[:-1])
        assert infos[-1]["is_success"] == success
    restricted = make(action_mode="restricted")
    infos = [step[4] for step in rollout(restricted, [1] * restricted.episode_steps)]
    assert ["is_success" in info for info in infos] == [False] * (len(infos) - 1) + [True]


def test_success_needs_both_constraints(make: Make) -> None:
    assert not rollout(make(max_cost=0.5), [7] * 4)[-1][4]["is_success"]
    assert rollout(make(max_cost=0.75), [5] * 4)[-1][4]["is_success"]
    assert rollout(make(min_relative_accuracy=0.5), [0] * 4)[-1][4]["is_success"]


def test_min_relative_accuracy_is_the_tasks_or_ones_own(make: Make) -> None:
    env: Any = gym.make("ReLeQ-MNIST-v0", cache=None).unwrapped
    assert env.problem.min_relative_accuracy == TASKS["mnist"].min_relative_accuracy == 0.997
    bits = (2, 2, 2, 2)
    assert relative(bits) < 0.99
    assert rollout(make(), [1] * 4)[-1][1] == pytest.approx((relative(bits) - 0.99) / 0.99)
    assert rollout(make(min_relative_accuracy=0.9), [1] * 4)[-1][1] == pytest.approx(1 - 0.25**0.2)


@pytest.mark.parametrize("evaluate", EVALUATE)
def test_what_a_step_will_measure_is_known_beforehand(make: Make, fake: FakeSource, evaluate: str) -> None:
    env = make(evaluate=evaluate, bitwidths=[2, 4, 8])
    env.reset()
    known: set[tuple[int, ...]] = set()
    for action in (0, 2, 1, 0):
        ahead = env.assignments_of_step(action)
        count = len(fake.calls)
        env.step(action)
        # A vector environment that has measured these leaves nothing to be measured in the step.
        known.update(ahead)
        assert set(fake.calls[count:]) <= set(ahead)
        assert set(ahead) <= known
    assert known == set(fake.calls)


# Restricted actions


@pytest.mark.parametrize("bitwidths", [[4], [2, 8], [2, 4, 8], [2, 3, 4, 8], [2, 3, 4, 6, 8], list(range(1, 9))])
def test_restricted_reaches_either_end(make: Make, bitwidths: list[int]) -> None:
    env = make(bitwidths=bitwidths, action_mode="restricted")
    assert env.action_space == gym.spaces.Discrete(3)
    for action, end in ((0, bitwidths[0]), (2, bitwidths[-1])):
        steps = rollout(env, [action] * env.episode_steps)
        assert [step[2] for step in steps] == [False] * (len(steps) - 1) + [True]
        assert bits_of(steps[-1][4]) == (end,) * 4
    assert env.episode_steps % 4 == 0


def test_restricted_needs_no_pass_more(make: Make) -> None:
    # 8 bitwidths, starting at the fourth: four moves to the upper end.
    assert make(action_mode="restricted").episode_steps == 4 * 4
    assert make(action_mode="restricted", bitwidths=[2, 4, 8]).episode_steps == 4


def test_restricted_moves_by_one_in_the_set(make: Make) -> None:
    env = make(bitwidths=[2, 3, 4, 6, 8], action_mode="restricted")
    infos = [step[4] for step in rollout(env, [0, 1, 2, 2, 0, 0, 2, 1])]
    assert [bits_of(info) for info in infos] == [
        (3, 4, 4, 4),
        (3, 4, 4, 4),
        (3, 4, 6, 4),
        (3, 4, 6, 6),
        (2, 4, 6, 6),
        (2, 3, 6, 6),
        (2, 3, 8, 6),
        (2, 3, 8, 6),
    ]
    assert [info["layer"] for info in infos] == [1, 2, 3, 0, 1, 2, 3, 3]


def test_restricted_keeps_at_either_end(make: Make) -> None:
    env = make(bitwidths=[2, 4, 8], action_mode="restricted")
    steps = rollout(env, [2, 0, 2, 0], options={"bitwidths": [8, 2, 8, 2]})
    assert bits_of(steps[-1][4]) == (8, 2, 8, 2)


# A bound on the cost


def reachable_costs(env: Any, assignment: tuple[int, ...], step: int, action: int) -> float:
    """Lowest cost at the end of the episode after an action, by trying all completions."""
    bitwidths = env.problem.choices[0]

    def moved(bits: int, act: int) -> int:
        if env.action_mode == "flexible":
            return bitwidths[act]
        return bitwidths[min(max(bitwidths.index(bits) + act - 1, 0), len(bitwidths) - 1)]

    @cache
    def lowest(current: tuple[int, ...], at: int) -> float:
        if at == env.episode_steps:
            return env.problem.state_of_quantization(current)
        return min(lowest(after(current, at, act), at + 1) for act in range(env.action_space.n))

    def after(current: tuple[int, ...], at: int, act: int) -> tuple[int, ...]:
        layer = at % len(current)
        return (*current[:layer], moved(current[layer], act), *current[layer + 1 :])

    return lowest(after(assignment, step, action), step + 1)


@pytest.mark.parametrize("mode", ACTION_MODES)
@pytest.mark.parametrize("cost", ["mean_bits", "weighted_bits", "bitops"])
@pytest.mark.parametrize("max_cost", [0.3, 0.375, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("bitwidths", [[2, 4, 8], [2, 3, 5, 6, 8]])
def test_masks_allow_exactly_what_can_still_meet_the_bound(
    make: Make, mode: str, cost: str, max_cost: float, bitwidths: list[int]
) -> None:
    env = make(bitwidths=bitwidths, action_mode=mode, cost=cost, max_cost=max_cost)
    random = np.random.default_rng(0)
    for _ in range(4):
        _, info = env.reset()
        for step in range(env.episode_steps):
            mask = env.action_masks()
            assert mask.dtype == np.bool_
            assert mask.shape == (env.action_space.n,)
            expected = [
                reachable_costs(env, bits_of(info), step, action) <= max_cost + 1e-9
                for action in range(env.action_space.n)
            ]
            assert any(expected)
            assert mask.tolist() == expected
            *_, info = env.step(random.choice(np.flatnonzero(mask)))
        assert info["state_of_quantization"] <= max_cost + 1e-9


def test_masks_without_a_bound_allow_everything(make: Make) -> None:
    env = make(bitwidths=[2, 4, 8])
    env.reset()
    for _ in range(4):
        assert env.action_masks().tolist() == [True] * 3
        env.step(2)


def test_masks_before_and_after_an_episode(make: Make) -> None:
    env = make(bitwidths=[2, 4, 8], max_cost=0.5)
    assert env.action_masks().shape == (3,)
    rollout(env, [0, 0, 0, 0])
    assert env.action_masks().any()


def test_masks_go_down_where_the_bound_is_out_of_reach(make: Make) -> None:
    env = make(bitwidths=[2, 3, 4, 6, 8], action_mode="restricted", max_cost=0.26)
    env.reset(options={"bitwidths": [8, 8, 8, 8]})
    assert env.action_masks().tolist() == [True, False, False]


def test_a_bound_that_is_met_exactly(make: Make) -> None:
    # 5 bits on average out of 8; a sum of floats may be off by one ulp.
    env = make(max_cost=0.625, cost="energy")
    assert rollout(env, [4] * 4)[-1][4]["is_success"]


@pytest.mark.parametrize("reward", [*REWARDS, lambda a, q: 100.0])
def test_above_the_bound_the_reward_is_below_minus_one_and_falls_with_the_cost(make: Make, reward: Any) -> None:
    env, free = (make(reward=reward, bitwidths=[2, 4, 8], max_cost=bound) for bound in (0.5, None))
    for actions in itertools.product(range(3), repeat=4):
        (*_, (_, value, _, _, info)), (*_, (_, without, _, _, _)) = rollout(env, actions), rollout(free, actions)
        above = info["state_of_quantization"] - 0.5
        assert value == (without if above <= 0 else pytest.approx(min(without, -1.0) - above))


# Wrong use


def test_step_before_reset(make: Make) -> None:
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        make().step(0)
    with pytest.raises(gym.error.ResetNeeded):
        gym.make("ReLeQ-v0", problem=digits_problem()).step(0)


def test_step_after_the_end(make: Make) -> None:
    env = make()
    rollout(env, [0, 0, 0, 0])
    with pytest.raises(gym.error.ResetNeeded, match="ended"):
        env.step(0)
    assert bits_of(env.reset()[1]) == (8, 8, 8, 8)


@pytest.mark.parametrize("action", [0, np.int64(0), np.int32(0), np.uint8(0), np.array(0), np.array([0])], ids=repr)
def test_accepted_actions(make: Make, action: object) -> None:
    env = make()
    env.reset()
    assert bits_of(env.step(action)[4]) == (1, 8, 8, 8)


@pytest.mark.parametrize(
    "action",
    [
        8,
        -1,
        1.0,
        0.5,
        math.nan,
        True,
        False,
        "1",
        None,
        [1],
        np.float32(1),
        np.nan,
        np.bool_(True),
        np.array([1, 2]),
        np.array([]),
        np.array(1.0),
        np.int64(8),
        np.zeros((2, 2), dtype=int),
    ],
    ids=repr,
)
def test_refused_actions_change_nothing(make: Make, fake: FakeSource, action: object) -> None:
    env = make(evaluate="gain")
    env.reset()
    with pytest.raises(gym.error.InvalidAction, match="whole number from 0 to 7") as raised:
        env.step(action)
    assert "\n" not in str(raised.value)
    assert fake.calls == []
    assert bits_of(env.step(0)[4]) == (1, 8, 8, 8)


BAD_ARGUMENTS: list[tuple[dict[str, Any], str, str]] = [
    ({"problem": "imagenet"}, "task 'imagenet'", "digits, mnist, fashion-mnist, cifar10, svhn"),
    ({"quantizer": "int8"}, "quantizer 'int8'", "lsq, wrpn, dorefa"),
    ({"reward": "profit"}, "reward 'profit'", "constrained, shaped, ratio, difference, released"),
    ({"reward": None}, "reward None", "constrained"),
    ({"cost": "watts"}, "cost 'watts'", "mean_bits, weighted_bits, energy, bitops, bit_serial, size"),
    ({"precision": "int4"}, "precision 'int4'", "auto, fp32, bf16"),
    ({"evaluate": "never"}, "evaluate 'never'", "episode, step, gain"),
    ({"evaluate": ["step"]}, "evaluate ['step']", "episode, step, gain"),
    ({"action_mode": "free"}, "action_mode 'free'", "flexible, restricted"),
    ({"observation": "pixels"}, "observation 'pixels'", "paper, history"),
    ({"device": "gpu"}, "device 'gpu'", "'cpu', 'cuda'"),
    ({"bitwidths": []}, "bitwidths is empty", "from 1 to 8"),
    ({"bitwidths": [2, 2]}, "(2, 2)", "ascending, distinct integers"),
    ({"bitwidths": [4, 2]}, "(4, 2)", "ascending, distinct integers"),
    ({"bitwidths": [0, 2]}, "0", "from 1 to 8"),
    ({"bitwidths": [2, 9]}, "9", "from 1 to 8"),
    ({"bitwidths": [1, 2], "quantizer": "wrpn"}, "1", "from 2 to 8"),
    ({"bitwidths": [1, 2], "quantizer": "dorefa"}, "1", "from 2 to 8"),
    ({"bitwidths": [2.0, 4.0]}, "2.0", "integers"),
    ({"bitwidths": ["2"]}, "'2'", "integers"),
    ({"bitwidths": "248"}, "'248' is not a list", "integers"),
    ({"bitwidths": 4}, "4", "integers"),
    ({"min_relative_accuracy": 0}, "min_relative_accuracy=0", "(0, 1]"),
    ({"min_relative_accuracy": 1.01}, "1.01", "(0, 1]"),
    ({"min_relative_accuracy": -0.1}, "-0.1", "(0, 1]"),
    ({"min_relative_accuracy": math.nan}, "nan", "(0, 1]"),
    ({"min_relative_accuracy": "high"}, "'high'", "(0, 1]"),
    ({"max_cost": 0}, "max_cost=0", "(0, 1]"),
    ({"max_cost": 1.5}, "1.5", "(0, 1]"),
    ({"max_cost": math.nan}, "nan", "(0, 1]"),
    ({"max_cost": "low"}, "'low'", "(0, 1]"),
    ({"max_cost": [0.5]}, "[0.5]", "(0, 1]"),
    ({"max_cost": 0.1, "bitwidths": [2, 4, 8]}, "max_cost=0.1", "[0.2500, 1]"),
    ({"retrain_images": -1}, "retrain_images=-1", "whole number from 0"),
    ({"retrain_images": 1.5}, "1.5", "whole number from 0"),
    ({"retrain_images": "10"}, "'10'", "whole number from 0"),
    ({"retrain_images": True}, "True", "whole number from 0"),
    ({"retrain_seed": -1}, "retrain_seed=-1", "whole number from 0"),
    ({"retrain_seed": 0.0}, "0.0", "whole number from 0"),
    ({"cache": 5}, "5", "cache="),
]


@pytest.mark.parametrize(("kwargs", "given_text", "accepted"), BAD_ARGUMENTS, ids=lambda value: str(value)[:60])
def test_wrong_arguments_get_one_line(kwargs: dict[str, Any], given_text: str, accepted: str) -> None:
    with pytest.raises(ReLeQError) as raised:
        gym.make("ReLeQ-Digits-v0", **kwargs)
    message = str(raised.value)
    assert "\n" not in message
    assert given_text in message
    assert accepted in message


def test_cuda_without_one_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ReLeQError, match="device='cuda'.*use device='cpu' or 'auto'"):
        gym.make("ReLeQ-Digits-v0", device="cuda")


def test_unknown_render_mode_gets_one_line() -> None:
    with pytest.raises(ReLeQError, match="unknown render_mode 'gif'.*human, ansi, rgb_array"):
        ReLeQEnv(digits_problem(), render_mode="gif")


def test_wrong_input_is_a_value_error_too() -> None:
    with pytest.raises(ValueError):
        gym.make("ReLeQ-Digits-v0", reward="profit")


def test_missing_data_are_reported_at_the_first_evaluation(tmp_path: Any) -> None:
    # Weights are shipped, so the environment can be made and looked at without data.
    env = gym.make("ReLeQ-MNIST-v0", data_root=str(tmp_path / "none"), cache=None)
    env.reset()
    for _ in range(3):
        env.step(1)
    with pytest.raises(ReLeQError, match="MNIST data in .* missing .*RELEQ_DATA") as raised:
        env.step(1)
    assert "\n" not in str(raised.value)


# Life cycle


def test_close_twice_and_a_given_problem_stays_open(make: Make, fake: FakeSource) -> None:
    env = make()
    env.close()
    env.close()
    assert fake.closed == 0
    env.problem.evaluator.close()
    assert fake.closed == 1


def test_reset_in_mid_episode_begins_anew(make: Make, fake: FakeSource) -> None:
    env = make()
    rollout(env, [0, 0])
    steps = rollout(env, [1, 1, 1, 1])
    assert steps[-1][2] is True
    assert fake.calls == [(2, 2, 2, 2)]


@pytest.mark.parametrize("evaluate", EVALUATE)
@pytest.mark.parametrize("mode", ACTION_MODES)
def test_a_pickled_environment_goes_on_alike(make: Make, evaluate: str, mode: str) -> None:
    env = make(evaluate=evaluate, action_mode=mode, observation="history", max_cost=0.75)
    env.reset(seed=3)
    env.step(0)
    env.step(1)
    other = pickle.loads(pickle.dumps(env))
    for action in [0, 2] * ((env.episode_steps - 2) // 2):
        np.testing.assert_array_equal(env.action_masks(), other.action_masks())
        np.testing.assert_equal(env.step(action), other.step(action))
    assert env.np_random.random() == other.np_random.random()


# With real retraining


@pytest.fixture
def live() -> Make:
    return lambda **kwargs: gym.make("ReLeQ-Digits-v0", **({"retrain_images": 96} | kwargs))


def test_the_seed_of_reset_never_changes_an_accuracy(live: Make) -> None:
    accuracies = [rollout(live(cache=None), [1] * 4, seed=seed)[-1][4]["accuracy"] for seed in (0, 1, None)]
    assert len(set(accuracies)) == 1


def test_the_seed_of_retraining_does(live: Make) -> None:
    def accuracies(seed: int) -> list[float]:
        env = live(cache=None, retrain_seed=seed, evaluate="step")
        return [step[4]["accuracy"] for actions in ([0] * 4, [1, 0, 0, 0]) for step in rollout(env, actions)]

    assert accuracies(0) != accuracies(1)
    assert accuracies(0) == accuracies(0)


def test_runs_share_the_cache(live: Make) -> None:
    first, second = live(), live()
    expected = rollout(first, [1] * 4, seed=0)[-1]
    actual = rollout(second, [1] * 4, seed=1)[-1]
    np.testing.assert_equal(actual, expected)
    evaluator = second.unwrapped.evaluator
    assert (evaluator.distinct_evaluations, evaluator.retrained) == (1, 0)


def test_the_evaluator_is_there_to_be_asked(live: Make) -> None:
    env = live()
    evaluation = env.unwrapped.evaluator.evaluate([2, 2, 3, 2])
    assert evaluation.bitwidths == (2, 2, 3, 2)
    assert 0 <= evaluation.accuracy <= 1
    assert rollout(env, [1, 1, 2, 1])[-1][4]["accuracy"] == evaluation.accuracy
    assert env.unwrapped.evaluator.distinct_evaluations == 1


def test_a_live_environment_pickled_in_mid_episode_goes_on_alike(live: Make) -> None:
    env = live(evaluate="step", cache=None)
    env.reset()
    env.step(1)
    other = pickle.loads(pickle.dumps(env))
    for _ in range(3):
        np.testing.assert_equal(env.step(1), other.step(1))


def test_post_training_quantization(live: Make) -> None:
    good = rollout(live(retrain_images=0), [7] * 4)[-1][4]["relative_accuracy"]
    poor = rollout(live(retrain_images=0), [0] * 4)[-1][4]["relative_accuracy"]
    assert good > 0.99 > poor


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("quantizer", ["lsq", "wrpn", "dorefa"])
def test_every_quantizer_and_precision(live: Make, quantizer: str, precision: str) -> None:
    info = rollout(live(quantizer=quantizer, precision=precision), [6] * 4)[-1][4]
    assert info["relative_accuracy"] > 0.8


@pytest.mark.parametrize("evaluate", EVALUATE)
def test_a_step_whose_evaluation_fails_has_not_been_taken(
    make: Make, evaluate: str, fake: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    env, other = make(evaluate=evaluate), make(evaluate=evaluate)
    for each in (env, other):
        rollout(each, [1, 1, 1])
    with monkeypatch.context() as patch:
        patch.setattr(fake, "measure", lambda waiting: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            env.step(2)
    np.testing.assert_equal(env.step(4), other.step(4))


@pytest.mark.parametrize("options", [[1], {"bitwidth": [1, 1, 1, 1]}, "bitwidths"])
def test_unknown_reset_options_are_one_line(make: Callable[..., Any], options: Any) -> None:
    with pytest.raises(ReLeQError, match="options=.*give") as raised:
        make().reset(options=options)
    assert "\n" not in str(raised.value)
