"""The vector environment gives what as many single environments give, on Digits over a fake source."""

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from releq_env.cost import COSTS
from releq_env.decision import ACTION_MODES, EVALUATE
from releq_env.env import ReLeQEnv
from releq_env.errors import ReLeQError, short
from releq_env.evaluation.live import LiveSource
from releq_env.observation import OBSERVATIONS
from releq_env.problem import Problem
from releq_env.reward import REWARDS
from releq_env.vector_env import ReLeQVectorEnv
from tests.conftest import over
from tests.fakes import FakeSource, digits_problem

AUTORESET = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
MakeVector = Callable[..., ReLeQVectorEnv]


@pytest.fixture
def make_vec(fake: FakeSource) -> Iterator[MakeVector]:
    """Make the vector environment of Digits over a fake source."""
    made = []

    def make(num_envs: int = 3, **kwargs: Any) -> Any:
        made.append(gym.make_vec("ReLeQ-v0", num_envs=num_envs, **over(fake, kwargs)))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


def sync(num_envs: int = 3, autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP, **kwargs: Any) -> SyncVectorEnv:
    make = partial(ReLeQEnv, **over(FakeSource(), kwargs))
    return SyncVectorEnv([make] * num_envs, autoreset_mode=autoreset_mode)


def assert_alike(actual: Any, expected: Any) -> None:
    """Equal bit for bit, also in type."""
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert set(actual) == set(expected)
        for key in expected:
            assert_alike(actual[key], expected[key])
    elif isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for first, second in zip(actual, expected, strict=True):
            assert_alike(first, second)
    elif isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        if expected.dtype == object:
            assert_alike(tuple(actual), tuple(expected))
        else:
            assert actual.tobytes() == expected.tobytes()
    else:
        assert actual == expected


def assert_same_trajectories(envs: Any, others: Any, steps: int, seed: int = 0, **reset: Any) -> None:
    random = np.random.default_rng(seed)
    assert_alike(envs.reset(**reset), others.reset(**reset))
    for _ in range(steps):
        np.testing.assert_array_equal(envs.action_masks(), np.array(others.call("action_masks")))
        actions = random.integers(0, envs.single_action_space.n, envs.num_envs)
        *expected, infos = others.step(actions)
        assert_alike(envs.step(actions), (*expected, infos))


# The same as single environments


@pytest.mark.parametrize("autoreset_mode", AUTORESET)
@pytest.mark.parametrize("evaluate", EVALUATE)
@pytest.mark.parametrize("action_mode", ACTION_MODES)
@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("max_cost", [None, 0.625])
def test_the_trajectories_are_those_of_single_environments(
    make_vec: MakeVector,
    autoreset_mode: AutoresetMode,
    evaluate: str,
    action_mode: str,
    observation: str,
    max_cost: float | None,
) -> None:
    kwargs = {"evaluate": evaluate, "action_mode": action_mode, "observation": observation, "max_cost": max_cost}
    kwargs |= {"autoreset_mode": autoreset_mode, "cost": "energy"}
    assert_same_trajectories(make_vec(**kwargs), sync(**kwargs), 40)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("reward", [*REWARDS, lambda a, q: np.float32(3.0) * q])
def test_every_reward_and_cost(make_vec: MakeVector, reward: Any, cost: str) -> None:
    kwargs = {"reward": reward, "cost": cost, "evaluate": "gain", "autoreset_mode": AutoresetMode.SAME_STEP}
    assert_same_trajectories(make_vec(**kwargs), sync(**kwargs), 10)


@pytest.mark.parametrize("bitwidths", [[4], [2, 8], [2, 3, 5, 6, 8]])
@pytest.mark.parametrize("action_mode", ACTION_MODES)
@pytest.mark.parametrize("num_envs", [1, 2, 17])
def test_sets_of_bitwidths_and_numbers_of_environments(
    make_vec: MakeVector, bitwidths: list[int], action_mode: str, num_envs: int
) -> None:
    kwargs: dict[str, Any] = {"num_envs": num_envs, "bitwidths": bitwidths, "action_mode": action_mode}
    kwargs |= {"max_cost": max(0.5, bitwidths[0] / bitwidths[-1]), "evaluate": "step"}
    assert_same_trajectories(make_vec(**kwargs), sync(**kwargs), 20)


@pytest.mark.parametrize("action_mode", ACTION_MODES)
def test_a_start_of_ones_own(make_vec: MakeVector, action_mode: str) -> None:
    # Out of the bound's reach, for the masks; the episodes that follow begin where they always do.
    kwargs = {"action_mode": action_mode, "max_cost": 0.5, "evaluate": "gain"}
    options = {"bitwidths": [8, 8, 8, 7]}
    assert_same_trajectories(make_vec(**kwargs), sync(**kwargs), 40, options=options)
    assert options == {"bitwidths": [8, 8, 8, 7]}


@pytest.mark.parametrize("autoreset_mode", AutoresetMode)
@pytest.mark.parametrize("evaluate", EVALUATE)
@pytest.mark.parametrize("action_mode", ACTION_MODES)
def test_episodes_out_of_step(
    make_vec: MakeVector, autoreset_mode: AutoresetMode, evaluate: str, action_mode: str
) -> None:
    kwargs = {"autoreset_mode": autoreset_mode, "evaluate": evaluate, "action_mode": action_mode, "max_cost": 0.7}
    envs, others = make_vec(5, **kwargs), sync(5, **kwargs)
    random = np.random.default_rng(0)
    assert_alike(envs.reset(), others.reset())
    ended = np.zeros(5, dtype=np.bool_)
    for _ in range(60):
        mask = random.random(5) < 0.1
        if autoreset_mode is AutoresetMode.DISABLED:
            mask |= ended
        if mask.any():
            assert_alike(envs.reset(options={"reset_mask": mask}), others.reset(options={"reset_mask": mask}))
        np.testing.assert_array_equal(envs.action_masks(), np.array(others.call("action_masks")))
        actions = random.integers(0, envs.single_action_space.n, 5)
        taken = envs.step(actions)
        *expected, infos = others.step(actions)
        assert_alike(taken, (*expected, infos))
        ended = taken[2]


def test_the_last_observation_and_info_are_kept_where_the_step_resets(make_vec: MakeVector) -> None:
    envs = make_vec(2, autoreset_mode="SameStep")
    envs.reset()
    for action in (3, 0, 7):
        envs.step([action, action])
    observations, _, terminated, _, infos = envs.step([1, 0])
    assert terminated.all()
    assert infos["final_info"]["bitwidths"].tolist() == [[4, 1, 8, 2], [4, 1, 8, 1]]
    assert infos["bitwidths"].tolist() == [[8, 8, 8, 8]] * 2
    assert infos["final_obs"][0][0] == 1.0
    assert observations[:, 0].tolist() == [0.0, 0.0]


# Evaluations


@pytest.mark.parametrize("evaluate", EVALUATE)
@pytest.mark.parametrize("autoreset_mode", AUTORESET)
def test_a_step_asks_once_for_what_it_needs(
    make_vec: MakeVector, fake: FakeSource, evaluate: str, autoreset_mode: AutoresetMode, monkeypatch: Any
) -> None:
    envs = make_vec(evaluate=evaluate, autoreset_mode=autoreset_mode, bitwidths=[2, 4, 8])
    envs.reset()
    asked: list[list[tuple[int, ...]]] = []
    ask = envs.evaluator.evaluate_many

    def asking(wanted: Any) -> Any:
        asked.append(wanted)
        return ask(wanted)

    monkeypatch.setattr(envs.evaluator, "evaluate_many", asking)
    next_step = autoreset_mode is AutoresetMode.NEXT_STEP
    for step in range(20):
        position = step % (4 + next_step)  # 4: all begin anew
        expected = {"episode": 3 * (position == 3), "step": 3 * (position < 4)}
        expected["gain"] = expected["step"] + 3 * (position == 0)
        asked.clear()
        infos = envs.step([0, 1, 2])[4]
        assert [len(batch) for batch in asked] == [expected[evaluate]] * (expected[evaluate] > 0)
        if asked:
            after = infos.get("final_info", infos)["bitwidths"].tolist()
            assert list(map(list, asked[0][-3:])) == after
    assert len(fake.calls) == len(set(fake.calls)) == envs.evaluator.distinct_evaluations


def test_a_step_whose_evaluation_fails_has_not_been_taken(
    make_vec: MakeVector, monkeypatch: pytest.MonkeyPatch
) -> None:
    envs, others = make_vec(), sync()
    envs.reset()
    others.reset()
    for _ in range(3):
        envs.step([1, 2, 3])
        others.step([1, 2, 3])
    with monkeypatch.context() as patch:
        patch.setattr(envs.evaluator, "evaluate_many", lambda assignments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            envs.step([1, 2, 3])
    *expected, infos = others.step(np.array([1, 2, 3]))
    assert_alike(envs.step([1, 2, 3]), (*expected, infos))


def test_real_retraining() -> None:
    kwargs = {"evaluate": "gain", "retrain_images": 64, "bitwidths": [2, 8], "cache": None, "workers": 1}
    envs = gym.make_vec("ReLeQ-Digits-v0", num_envs=2, **kwargs)
    others = SyncVectorEnv([partial(ReLeQEnv, **kwargs)] * 2)
    assert_same_trajectories(envs, others, 5)


# What is returned


def test_returned_objects_are_fresh(make_vec: MakeVector) -> None:
    envs, others = (make_vec(evaluate="step", observation="history") for _ in range(2))
    for made in (envs, others):
        made.reset()
    for _ in range(12):
        taken = envs.step([1, 0, 2])
        assert_alike(taken, others.step([1, 0, 2]))
        arrays = [*taken[:4], *taken[4].values()]
        for index, array in enumerate(arrays):
            assert not any(np.shares_memory(array, other) for other in arrays[:index])
        for array in arrays:  # spoiling them must change nothing
            array[...] = None if array.dtype == object else 1


def test_spaces(make_vec: MakeVector) -> None:
    envs = make_vec(4, observation="history")
    single = ReLeQEnv(digits_problem(), observation="history")
    assert envs.single_observation_space == single.observation_space
    assert envs.single_action_space == single.action_space
    observations, _ = envs.reset()
    for _ in range(10):
        assert envs.observation_space.contains(observations)
        observations = envs.step(envs.action_space.sample())[0]


@pytest.mark.parametrize("seed", [None, 7, [7, 8, 9], (7, None, 9)], ids=repr)
def test_seeds_change_no_trajectory(make_vec: MakeVector, seed: Any) -> None:
    envs = make_vec()
    assert_same_trajectories(envs, sync(), 10, seed=1)
    assert_alike(envs.reset(seed=seed), make_vec().reset())
    if seed is not None:
        single = ReLeQEnv(digits_problem())
        single.reset(seed=7)
        assert envs.np_random.random() == single.np_random.random()


def test_masks(make_vec: MakeVector) -> None:
    envs = make_vec(2, bitwidths=[2, 4, 8], max_cost=0.375)
    assert envs.action_masks().tolist() == [[True] * 3] * 2  # before reset, as a single environment
    envs.reset()
    envs.step([1, 2])
    masks = envs.action_masks()
    assert masks.dtype == np.bool_
    assert masks.tolist() == [[True, True, False], [True, False, False]]


# Making


def test_every_id_is_made(env_id: str, problem_of: Callable[[str], Problem]) -> None:
    problem = problem_of(env_id)
    for mode in (None, "vector_entry_point"):
        envs = gym.make_vec(
            f"releq_env:{env_id}", num_envs=2, vectorization_mode=mode, problem=problem, evaluate="step"
        )
        assert type(envs) is ReLeQVectorEnv
        assert envs.spec.id == env_id
        single = partial(gym.make, env_id, problem=problem, evaluate="step", disable_env_checker=True)
        others = SyncVectorEnv([single] * 2)
        assert_same_trajectories(envs, others, 10)
        assert envs.problem is problem


def test_the_spec_is_json() -> None:
    envs: Any = gym.make_vec("ReLeQ-Digits-v0", num_envs=2, bitwidths=[2, 4], autoreset_mode="SameStep", cache=None)
    again = gym.make_vec(EnvSpec.from_json(envs.spec.to_json()))
    assert (again.num_envs, again.autoreset_mode) == (2, AutoresetMode.SAME_STEP)
    assert again.single_action_space == gym.spaces.Discrete(2)
    assert json.loads(gym.spec("ReLeQ-Digits-v0").to_json())["vector_entry_point"]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_autoreset_mode_is_in_the_metadata(make_vec: MakeVector, mode: AutoresetMode) -> None:
    assert make_vec().metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert make_vec(autoreset_mode=mode).metadata["autoreset_mode"] is mode
    assert make_vec(autoreset_mode=mode.value).metadata["autoreset_mode"] is mode
    assert ReLeQVectorEnv.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_gymnasiums_wrappers_fit(make_vec: MakeVector) -> None:
    envs = gym.wrappers.vector.RecordEpisodeStatistics(make_vec(2))
    envs.reset(seed=0)
    for _ in range(4):
        infos = envs.step(np.array([1, 7]))[4]
    assert infos["episode"]["l"].tolist() == [4, 4]


def test_close_twice(make_vec: MakeVector, fake: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_vec()
    envs.close()
    envs.close()
    assert fake.closed == 0  # it was given
    closed: list[LiveSource] = []
    monkeypatch.setattr(LiveSource, "close", lambda *source: closed.extend(source))
    envs = gym.make_vec("ReLeQ-Digits-v0", num_envs=2, cache=None)  # type: ignore[assignment]
    envs.close()
    envs.close()
    assert len(closed) == 1


@pytest.mark.parametrize("render_mode", ["ansi", "rgb_array"])
def test_pictures_are_those_of_single_environments(make_vec: MakeVector, render_mode: str) -> None:
    envs, others = make_vec(2, render_mode=render_mode), sync(2, render_mode=render_mode)
    envs.reset()
    others.reset()
    for _ in range(6):
        for frame, expected in zip(envs.render() or (), others.render(), strict=True):
            np.testing.assert_array_equal(frame, expected)
        envs.step([1, 5])
        others.step(np.array([1, 5]))


@pytest.mark.parametrize("autoreset_mode", AUTORESET)
def test_human_mode_prints_each_state_once(
    make_vec: MakeVector, autoreset_mode: AutoresetMode, capsys: pytest.CaptureFixture[str]
) -> None:
    envs = make_vec(2, render_mode="human", autoreset_mode=autoreset_mode)
    envs.reset()
    assert capsys.readouterr().out.count("average bits") == 2
    envs.step([1, 5])
    assert capsys.readouterr().out.count("average bits") == 2
    assert envs.render() is None
    assert capsys.readouterr().out == ""
    envs.reset(options={"reset_mask": np.array([True, False])})
    assert capsys.readouterr().out.count("average bits") == 1
    for _ in range(3):
        envs.step([1, 5])
    # The second ends its episode now; with SAME_STEP another begins at once.
    assert capsys.readouterr().out.count("average bits") == 6 + (autoreset_mode is AutoresetMode.SAME_STEP)


def test_rendering_without_a_mode_says_what_to_do(make_vec: MakeVector) -> None:
    with pytest.warns(UserWarning, match="render_mode"):
        assert make_vec().render() is None


# Wrong use


def test_step_before_reset(make_vec: MakeVector) -> None:
    envs = make_vec()
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        envs.step([0, 0, 0])
    envs.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        envs.step([0, 0, 0])


def test_step_after_the_end_without_autoreset(make_vec: MakeVector) -> None:
    envs = make_vec(autoreset_mode=AutoresetMode.DISABLED)
    envs.reset()
    for _ in range(4):
        envs.step([0, 1, 2])
    with pytest.raises(gym.error.ResetNeeded, match=r"\[0, 1, 2\] have ended.*reset_mask"):
        envs.step([0, 1, 2])


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.uint64])
def test_accepted_actions(make_vec: MakeVector, dtype: Any) -> None:
    envs = make_vec()
    for actions in (np.array([0, 1, 7], dtype=dtype), [dtype(0), dtype(1), dtype(7)], (0, 1, 7)):
        envs.reset()
        assert envs.step(actions)[4]["bitwidths"].tolist() == [[1, 8, 8, 8], [2, 8, 8, 8], [8, 8, 8, 8]]


@pytest.mark.parametrize(
    "actions",
    [
        0,
        None,
        [0] * 1_000_000,
        "012",
        [0, 1],
        [0, 1, 2, 3],
        [0, 1, 8],
        [0, -1, 2],
        [0.0, 1.0, 2.0],
        [True, False, True],
        [0, 1, math.nan],
        [0, 1, None],
        [0, 1, [2]],
        [[0, 1, 2]],
        [0, 1, 2**70],
        np.array([0, 1, 2**63], dtype=np.uint64),
        np.zeros((3, 1), dtype=int),
        np.zeros(3),
    ],
    ids=short,
)
def test_refused_actions_change_nothing(make_vec: MakeVector, fake: FakeSource, actions: object) -> None:
    envs = make_vec(evaluate="gain")
    envs.reset()
    with pytest.raises(gym.error.InvalidAction, match="give 3 whole numbers from 0 to 7") as raised:
        envs.step(actions)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250
    assert fake.calls == []
    assert envs.step([0, 1, 2])[4]["bitwidths"].tolist() == [[1, 8, 8, 8], [2, 8, 8, 8], [3, 8, 8, 8]]


@pytest.mark.parametrize(
    ("reset", "message"),
    [
        ({"seed": [1, 2]}, "got 2 seeds; give one number or 3"),
        ({"options": {"bitwidths": [8, 8, 8]}}, "give 4 bitwidths"),
        ({"options": {"bitwidth": [8, 8, 8, 8]}}, "give"),
        ({"options": [1]}, "give"),
        ({"options": {"reset_mask": [True, False, True]}}, "give 3 NumPy bools"),
        ({"options": {"reset_mask": np.ones(2, dtype=np.bool_)}}, "give 3 NumPy bools"),
        ({"options": {"reset_mask": np.ones(3)}}, "give 3 NumPy bools"),
        ({"options": {"reset_mask": np.zeros(3, dtype=np.bool_)}}, "not all False"),
    ],
    ids=repr,
)
def test_refused_resets_are_one_line_and_change_nothing(
    make_vec: MakeVector, reset: dict[str, Any], message: str
) -> None:
    envs = make_vec()
    envs.reset()
    envs.step([0, 1, 2])
    with pytest.raises(ReLeQError, match=message) as raised:
        envs.reset(**reset)
    assert "\n" not in str(raised.value)
    assert envs.step([0, 1, 2])[4]["bitwidths"].tolist() == [[1, 1, 8, 8], [2, 2, 8, 8], [3, 3, 8, 8]]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "num_envs=0.*whole number from 1"),
        ({"num_envs": 2.5}, "num_envs=2.5"),
        ({"num_envs": True}, "num_envs=True"),
        ({"autoreset_mode": "never"}, "unknown autoreset_mode 'never'.*NextStep, SameStep, Disabled"),
        ({"autoreset_mode": None}, "unknown autoreset_mode None"),
        ({"evaluate": "never"}, "unknown evaluate 'never'"),
        ({"render_mode": "gif"}, "unknown render_mode 'gif'"),
    ],
    ids=repr,
)
def test_wrong_arguments_get_one_line(make_vec: MakeVector, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        make_vec(**kwargs)
    assert "\n" not in str(raised.value)
