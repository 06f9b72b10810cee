"""ReLeQVecEnv gives what Stable-Baselines3's DummyVecEnv gives, on Digits, with one `evaluate_many` a step."""

import gc
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecMonitor, VecNormalize

from releq_env import ContinuousAction, OneShot, ReLeQEnv, ReLeQError, ReLeQVecEnv
from releq_env.decision import ACTION_MODES, EVALUATE
from releq_env.errors import short
from releq_env.evaluation import Evaluation, Evaluator
from releq_env.evaluation.live import LiveSource
from releq_env.tasks.datasets import Dataset
from tests.conftest import over
from tests.fakes import FakeSource, bits_of, digits_problem

ID = "releq_env:ReLeQ-v0"
DIGITS = "releq_env:ReLeQ-Digits-v0"


class Asked(Evaluator):
    """Notes what it is asked for together, and what environments measure for themselves."""

    def __init__(self, source: FakeSource) -> None:
        super().__init__(source)
        self.batches: list[list[tuple[int, ...]]] = []
        self.alone: list[tuple[int, ...]] = []

    def evaluate_many(self, assignments: Sequence[Sequence[int]], progress: bool = False) -> list[Evaluation]:
        self.batches.append([tuple(assignment) for assignment in assignments])
        return super().evaluate_many(assignments, progress)

    def evaluate(self, bitwidths: Sequence[int]) -> Evaluation:
        together = len(self.batches)
        evaluation = super().evaluate(bitwidths)
        self.alone += [assignment for batch in self.batches[together:] for assignment in batch]
        del self.batches[together:]
        return evaluation


def step_problem(source: FakeSource) -> dict[str, Any]:
    """Return arguments of an environment that measures every prefix by a source."""
    return {"problem": digits_problem(source), "evaluate": "step"}


class OtherWay(gym.Wrapper[Any, Any, Any, Any]):
    """Changes the action, but not the space of actions."""

    def step(self, action: Any) -> Any:
        return self.env.step(self.env.action_space.n - 1 - action)  # type: ignore[attr-defined]


class LooksAhead(OtherWay):
    def assignments_of_step(self, action: Any) -> list[tuple[int, ...]]:
        base: Any = self.env.unwrapped
        return base.assignments_of_step(base.action_space.n - 1 - action)


class Forwarding(OtherWay):
    """As wrappers did in older versions of Gymnasium."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)


class MonitorOfAnotherAction(Monitor):
    def step(self, action: Any) -> Any:
        return super().step(0 * action)


def both(n_envs: int = 3, **kwargs: Any) -> tuple[Any, Any, Asked, FakeSource]:
    """Return ReLeQVecEnv and DummyVecEnv as `make_vec_env` makes them; evaluator of the one, source of the other."""
    wrapper = kwargs.pop("wrapper_class", None)
    batched, single = Asked(FakeSource()), FakeSource()
    arguments = over(single, kwargs)
    venvs = [
        make_vec_env(
            ID,
            n_envs,
            seed=0,
            wrapper_class=wrapper,
            env_kwargs=arguments | {"problem": problem},
            vec_env_cls=vec_env_cls,
        )
        for problem, vec_env_cls in (
            (arguments["problem"].sharing(batched), ReLeQVecEnv),
            (arguments["problem"], DummyVecEnv),
        )
    ]
    return venvs[0], venvs[1], batched, single


def timeless(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return infos without the clock times that Monitor adds."""
    return [
        info | ({"episode": {k: v for k, v in info["episode"].items() if k != "t"}} if "episode" in info else {})
        for info in infos
    ]


def assert_same_trajectories(venv: Any, other: Any, steps: int) -> None:
    for env in (venv, other):
        env.action_space.seed(0)
    np.testing.assert_array_equal(venv.reset(), other.reset())
    for _ in range(steps):
        actions = np.array([venv.action_space.sample() for _ in range(venv.num_envs)])
        taken, expected = venv.step(actions), other.step(actions)
        for array, wanted in zip(taken[:3], expected[:3], strict=True):
            assert array.dtype == wanted.dtype
            np.testing.assert_array_equal(array, wanted)
        np.testing.assert_equal(timeless(taken[3]), timeless(expected[3]))  # with the terminal observations
        np.testing.assert_equal(venv.reset_infos, other.reset_infos)


# The same as single environments


@pytest.mark.parametrize("evaluate", EVALUATE)
@pytest.mark.parametrize("action_mode", ACTION_MODES)
def test_the_trajectories_are_those_of_single_environments(evaluate: str, action_mode: str) -> None:
    venv, other, batched, single = both(evaluate=evaluate, action_mode=action_mode, observation="history")
    assert_same_trajectories(venv, other, 40)
    assert {assignment for batch in batched.batches for assignment in batch} == set(single.calls)


def test_seeds_and_options_reach_the_environments() -> None:
    venv, other, _, _ = both()
    options = [{"bitwidths": [bits] * 4} for bits in (2, 3, 4)]
    for each in (venv, other):
        each.seed(7)
        each.set_options(options)
    np.testing.assert_array_equal(venv.reset(), other.reset())
    assert list(map(bits_of, venv.reset_infos)) == [(2,) * 4, (3,) * 4, (4,) * 4]
    draws = [[env.unwrapped.np_random.random() for env in each.envs] for each in (venv, other)]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 3


def test_training_ends_with_the_same_weights_as_on_single_environments() -> None:
    venv, other, batched, _ = both(4, evaluate="gain")
    first, second = (
        PPO("MlpPolicy", each, n_steps=16, batch_size=32, seed=0, device="cpu").learn(128).policy.state_dict()
        for each in (venv, other)
    )
    assert all((first[name] == second[name]).all() for name in first)
    assert len(batched.batches) == 128 // 4


# Evaluations


@pytest.mark.parametrize("evaluate", EVALUATE)
def test_a_step_asks_once_for_what_it_needs(evaluate: str) -> None:
    venv, _, batched, _ = both(evaluate=evaluate, bitwidths=[2, 4, 8])
    venv.reset()
    for step in range(8):
        batched.batches.clear()
        infos = venv.step(np.array([0, 1, 1]))[3]
        if evaluate == "episode" and step % 4 < 3:
            assert batched.batches == []
            continue
        (batch,) = batched.batches
        assert set(map(bits_of, infos)) <= set(batch)
    assert batched.alone == []  # nothing is measured by the environments themselves


@pytest.mark.parametrize("evaluate", EVALUATE)
def test_real_evaluators_become_one(evaluate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[LiveSource]] = []
    asked, reads = [], []
    construct, ask, read = LiveSource.__init__, Evaluator.evaluate_many, Dataset.load

    def constructing(self: LiveSource, *args: Any, **kwargs: Any) -> None:
        made.append(weakref.ref(self))
        construct(self, *args, **kwargs)

    def asking(self: Evaluator, assignments: Any, **kwargs: Any) -> list[Evaluation]:
        asked.append(assignments)
        return ask(self, assignments, **kwargs)

    def reading(self: Dataset, *args: Any) -> Any:
        reads.append(self)
        return read(self, *args)

    kwargs = {"evaluate": evaluate, "retrain_images": 64, "bitwidths": [2, 8], "workers": 1}
    other = DummyVecEnv([partial(gym.make, DIGITS, cache=None, **kwargs)] * 3)  # type: ignore[list-item]
    monkeypatch.setattr(LiveSource, "__init__", constructing)
    monkeypatch.setattr(Dataset, "load", reading)
    venv = ReLeQVecEnv([partial(gym.make, DIGITS, **kwargs)] * 3)  # type: ignore[list-item]
    gc.collect()
    assert len(made) == 3
    assert sum(reference() is not None for reference in made) == 1
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "evaluate_many", asking)
        venv.reset()
        for _ in range(4):
            venv.step(np.array([0, 1, 0]))
    assert len(asked) == (1 if evaluate == "episode" else 4)
    assert len(reads) == 1
    assert_same_trajectories(venv, other, 8)
    evaluator = venv.evaluator
    assert all(env.evaluator is env.problem.evaluator is evaluator for env in venv.releq_envs)
    assert evaluator.distinct_evaluations == evaluator.retrained > 1
    venv.close()
    venv.close()


def test_evaluators_with_the_same_fingerprint_are_one_and_the_others_closed() -> None:
    sources = [FakeSource(fingerprint={"quantizer": "lsq", "data": [1, 2]}) for _ in range(3)]
    venv = ReLeQVecEnv([partial(ReLeQEnv, **step_problem(source)) for source in sources])
    assert [source.closed for source in sources] == [0, 1, 1]
    venv.reset()
    venv.step(np.array([0, 1, 2]))
    assert [len(source.batches) for source in sources] == [1, 0, 0]
    assert len(sources[0].batches[0]) == venv.evaluator.distinct_evaluations == 3


def test_environments_that_share_an_evaluator_keep_what_else_they_were_made_with() -> None:
    problems = [
        digits_problem(FakeSource(fingerprint={"data": 1}), cost=cost, max_cost=max_cost, bitwidths=[2, 8])
        for cost, max_cost in (("mean_bits", None), ("energy", 0.5))
    ]
    venv = ReLeQVecEnv([partial(ReLeQEnv, problem, observation="history") for problem in problems])
    venv.reset()
    for _ in range(3):
        *_, infos = venv.step(np.array([1, 1]))
    for problem, env, info in zip(problems, venv.releq_envs, infos, strict=True):
        assert env.evaluator is problems[0].evaluator
        assert info["state_of_quantization"] == problem.state_of_quantization(bits_of(info))
        assert env.problem.max_cost == problem.max_cost
    masks = [env.action_masks().tolist() for env in venv.releq_envs]
    assert masks == [[True, True], [True, False]]


def test_evaluators_that_cannot_be_compared_are_kept() -> None:
    sources = [FakeSource(), FakeSource(lambda _: 0.49), FakeSource(fingerprint={"quantizer": "lsq"})]
    problems = [step_problem(source) for source in sources]
    venv = ReLeQVecEnv([partial(ReLeQEnv, **problems[i]) for i in (0, 1, 2, 1)])
    venv.reset()
    infos = venv.step(np.array([0, 0, 0, 1]))[3]
    assert [info["relative_accuracy"] == 0.5 for info in infos] == [False, True, False, True]
    ones, twos = (1, 8, 8, 8), (2, 8, 8, 8)
    assert [source.batches for source in sources] == [[[ones]], [[ones, twos]], [[ones]]]
    assert [source.closed for source in sources] == [0, 0, 0]


def test_a_step_whose_evaluation_fails_has_not_been_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    venv, other, batched, _ = both(evaluate="step")
    venv.reset()
    other.reset()
    with monkeypatch.context() as patch:
        patch.setattr(batched.source, "measure", lambda waiting: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            venv.step(np.array([1, 2, 3]))
    np.testing.assert_equal(venv.step(np.array([4, 5, 6]))[3], other.step(np.array([4, 5, 6]))[3])


def test_a_wrapper_sees_the_evaluators_counters_within_a_step() -> None:
    counts: list[int] = []

    class Counting(gym.RewardWrapper[Any, Any]):
        def reward(self, reward: Any) -> Any:
            counts.append(self.unwrapped.evaluator.distinct_evaluations)  # type: ignore[attr-defined]
            return reward

    venv, _, batched, _ = both(wrapper_class=Counting, evaluate="step")
    venv.reset()
    venv.step(np.array([1, 2, 3]))
    assert counts == [3] * 3
    assert len(batched.batches[0]) == 3  # and a wrapper of rewards leaves the step to be measured at once


# Wrappers


@pytest.mark.parametrize(
    "wrapper",
    [
        OneShot,
        ContinuousAction,
        lambda env: ContinuousAction(OneShot(env)),
        OtherWay,
        LooksAhead,
        Forwarding,
        MonitorOfAnotherAction,
        lambda env: gym.wrappers.TimeLimit(LooksAhead(env), 3),
        lambda env: gym.wrappers.StickyAction(env, 0.5),
        lambda env: OneShot(OtherWay(env)),
        lambda env: OneShot(LooksAhead(env)),
        lambda env: ContinuousAction(OtherWay(env)),
        lambda env: ContinuousAction(OneShot(OtherWay(env))),
    ],
    ids=[
        "one-shot",
        "continuous",
        "both",
        "other-way",
        "looks-ahead",
        "forwarding",
        "monitor",
        "time-limit",
        "sticky",
        "other-way-in-one-shot",
        "looks-ahead-in-one-shot",
        "other-way-in-continuous",
        "other-way-in-both",
    ],
)
def test_wrappers_that_change_actions(wrapper: Callable[[Any], Any]) -> None:
    venv, other, batched, single = both(wrapper_class=wrapper)
    assert_same_trajectories(venv, other, 12)
    measured = {*batched.alone, *(assignment for batch in batched.batches for assignment in batch)}
    assert measured == set(single.calls)  # and no assignment that no step led to


@pytest.mark.parametrize(
    "wrapper",
    [
        gym.wrappers.NormalizeObservation,
        gym.wrappers.RecordEpisodeStatistics,
        lambda env: gym.wrappers.TimeLimit(env, 3),
        lambda env: gym.wrappers.FrameStackObservation(env, 2),
        gym.wrappers.NormalizeReward,
        lambda env: gym.wrappers.TimeAwareObservation(gym.wrappers.TimeLimit(env, 4)),
        lambda env: gym.wrappers.TransformReward(env, lambda reward: 2.0 * reward),
        lambda env: ActionMasker(env, lambda e: e.unwrapped.action_masks()),
    ],
    ids=["observation", "statistics", "time-limit", "frames", "normalised", "time", "reward", "masks"],
)
def test_wrappers_that_leave_actions_alone_are_no_obstacle(wrapper: Any) -> None:
    evaluator = Asked(FakeSource())
    problem = digits_problem().sharing(evaluator)
    venv = ReLeQVecEnv([lambda: wrapper(gym.make(ID, problem=problem, evaluate="step"))] * 3)
    venv.reset()
    for _ in range(5):
        venv.step(np.array([0, 1, 2]))
    assert [len(batch) for batch in evaluator.batches] == [3] * 5
    assert evaluator.alone == []


@pytest.mark.parametrize(
    "wrapper",
    [
        OneShot,
        ContinuousAction,
        lambda env: ContinuousAction(OneShot(env)),
        lambda env: ContinuousAction(LooksAhead(env)),
        lambda env: gym.wrappers.TimeLimit(OneShot(env), 3),
    ],
    ids=["one-shot", "continuous", "both", "looks-ahead", "time-limit"],
)
def test_our_wrappers_look_ahead(wrapper: Any) -> None:
    venv, other, batched, _ = both(wrapper_class=wrapper, bitwidths=[2, 4, 8])
    assert_same_trajectories(venv, other, 8)
    assert batched.alone == []
    assert len(batched.batches) in {2, 8}  # one an episode, which OneShot takes in a step
    venv.reset()
    batched.batches.clear()
    wrong = np.full((3, *venv.action_space.shape), np.nan)
    with pytest.raises(gym.error.InvalidAction):
        venv.step(wrong)
    assert batched.batches == []


def test_one_shot_needs_a_reset_before_it_looks_ahead() -> None:
    env = OneShot(ReLeQEnv(digits_problem()))
    with pytest.raises(gym.error.ResetNeeded):
        env.assignments_of_step([0, 1, 2, 3])
    env.reset()
    assert env.assignments_of_step([0, 1, 2, 3]) == [(1, 2, 3, 4)]


def test_a_wrapper_that_looks_ahead_is_measured_together_with_others() -> None:
    evaluator = Asked(FakeSource())
    make: Any = partial(gym.make, ID, problem=digits_problem().sharing(evaluator), evaluate="step")
    venv = ReLeQVecEnv([make, lambda: LooksAhead(make()), lambda: OtherWay(make())])
    venv.reset()
    infos = venv.step(np.array([0, 1, 2]))[3]
    assert [info["bitwidths"][0] for info in infos] == [1, 7, 6]
    assert evaluator.batches == [[(1, 8, 8, 8), (7, 8, 8, 8)]]
    assert evaluator.alone == [(6, 8, 8, 8)]


@pytest.mark.parametrize("wrapper", [VecMonitor, VecNormalize, VecCheckNan])
@pytest.mark.filterwarnings("ignore:The environment is already wrapped with a `Monitor`")
def test_stable_baselines3s_wrappers_fit(wrapper: Any) -> None:
    venv, other, batched, _ = both(evaluate="step")
    assert_same_trajectories(wrapper(venv), wrapper(other), 20)
    assert batched.alone == []
    assert len(batched.batches) == 20


@pytest.mark.parametrize("wrapper", [None, lambda env: ActionMasker(env, lambda e: e.unwrapped.action_masks())])
def test_masks(wrapper: Any) -> None:
    venv, other, batched, _ = both(wrapper_class=wrapper, max_cost=0.4375, bitwidths=[2, 4, 8])
    venv.reset()
    other.reset()
    actions = np.array([0, 1, 2])
    venv.step(actions)
    other.step(actions)
    masks = np.stack(venv.env_method("action_masks"))
    assert masks.tolist() == [[True, True, True], [True, True, False], [True, False, False]]
    np.testing.assert_array_equal(masks, np.stack(other.env_method("action_masks")))
    venv.reset()
    model = MaskablePPO("MlpPolicy", venv, n_steps=16, batch_size=24, seed=0, device="cpu").learn(96)
    assert len(batched.batches) == 96 // 3 // 4
    assert all(sum(bits) / 32 <= 0.4375 for batch in batched.batches for bits in batch)
    assert model.num_timesteps == 96


def test_it_is_what_stable_baselines3_expects() -> None:
    venv, other, _, _ = both(2)
    assert venv.env_is_wrapped(Monitor) == [True, True]
    assert (venv.observation_space, venv.action_space) == (other.observation_space, other.action_space)
    assert venv.get_attr("episode_steps", indices=[1]) == [4]
    venv.reset()
    np.testing.assert_array_equal(venv.render(), (other.reset(), other.render())[1])
    model = PPO("MlpPolicy", venv, n_steps=8, batch_size=16, device="cpu")
    rewards, lengths = evaluate_policy(model, venv, n_eval_episodes=4, return_episode_rewards=True)
    assert lengths == [4] * 4
    assert len(set(rewards)) == 1  # a deterministic policy


# Wrong use


def test_other_environments_are_refused() -> None:
    with pytest.raises(ReLeQError, match=r"got the environment <.*CartPole.*ReLeQ environment.*DummyVecEnv") as raised:
        ReLeQVecEnv([lambda: gym.make(ID, problem=digits_problem()), lambda: gym.make("CartPole-v1")])
    assert "\n" not in str(raised.value)
    with pytest.raises(ReLeQError, match="got the environment ReLeQVectorEnv"):
        ReLeQVecEnv([lambda: gym.make_vec(ID, num_envs=2, problem=digits_problem())])  # type: ignore[list-item,return-value]


@pytest.mark.parametrize("given", [[], None, 3, ID, [ReLeQEnv(digits_problem())], lambda: 1], ids=range(6))
def test_what_makes_no_environments_is_refused(given: Any) -> None:
    with pytest.raises(ReLeQError, match="give a list of functions that each make an environment") as raised:
        ReLeQVecEnv(given)
    assert "\n" not in str(raised.value)


def test_environments_that_do_not_measure_the_same_are_refused() -> None:
    fingerprints = [{"quantizer": "lsq", "seed": seed} | more for seed, more in ((0, {}), (0, {}), (1, {"x": 2}))]
    with pytest.raises(ReLeQError, match=r"environments 0 and 2 .* differ in seed, x, which .*DummyVecEnv") as raised:
        ReLeQVecEnv([partial(ReLeQEnv, digits_problem(FakeSource(fingerprint=each))) for each in fingerprints])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"problem": "mnist"}, "network, "),
        ({"quantizer": "wrpn"}, "quantizer"),
        ({"retrain_images": 1}, "retrain_images"),
        ({"retrain_seed": 1}, "retrain_seed"),
    ],
    ids=repr,
)
def test_real_environments_that_do_not_measure_the_same_are_refused(changed: dict[str, Any], name: str) -> None:
    with pytest.raises(ReLeQError, match=f"environments 0 and 1 .* differ in {name}"):
        ReLeQVecEnv(
            [partial(ReLeQEnv, **kwargs) for kwargs in ({"precision": "fp32"}, {"precision": "fp32"} | changed)]
        )


@pytest.mark.parametrize(
    "actions",
    [[0, 1], [0, 1, 2, 3], [0] * 1_000_000, 1, None, [0, 1, 8], [0, 1, -1], [0.0, 1.0, 2.0], np.zeros((3, 2))],
    ids=short,
)
def test_refused_actions_change_nothing(actions: Any) -> None:
    venv, _, batched, _ = both(evaluate="gain")
    venv.reset()
    with pytest.raises(gym.error.InvalidAction, match=r"give (3|a whole number)") as raised:
        venv.step(actions)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 250
    assert batched.batches == []
    infos = venv.step(np.array([0, 1, 2]))[3]
    assert list(map(bits_of, infos)) == [(1, 8, 8, 8), (2, 8, 8, 8), (3, 8, 8, 8)]


def test_step_before_reset() -> None:
    venv, _, batched, _ = both()
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        venv.step(np.array([0, 1, 2]))
    assert batched.batches == []


def test_without_stable_baselines3_only_the_class_is_missing(python: Callable[..., str]) -> None:
    code = """
import sys
sys.modules["stable_baselines3"] = None  # importing it raises
from releq_env import *
import releq_env
print(ReLeQVectorEnv.__name__, "ReLeQVecEnv" in releq_env.__all__)
try:
    releq_env.ReLeQVecEnv
except releq_env.ReLeQError as error:
    print(error)
"""
    first, second = python(code).splitlines()
    assert first == "ReLeQVectorEnv False"
    assert "needs Stable-Baselines3" in second
    assert second.endswith('pip install "releq_env[agents]"')
