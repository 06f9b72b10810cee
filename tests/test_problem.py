"""What is to be decided: made from a function, a task or a name, and how good an assignment is in it."""

import copy
import dataclasses
import itertools
import math
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env import Problem
from releq_env.cost import COSTS
from releq_env.env import ReLeQEnv
from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.layer_info import LayerInfo
from releq_env.making import make_problem
from releq_env.reward import REWARDS
from releq_env.tasks import TASKS
from releq_env.vector_env import ReLeQVectorEnv
from tests.fakes import DIGITS_LAYERS, FakeSource, bits_of, digits_problem, smooth_accuracy


def function_problem(**kwargs: Any) -> Problem:
    arguments = {"num_layers": 3, "choices": [2, 4, 8], "accuracy": smooth_accuracy, "full_precision_accuracy": 0.98}
    return Problem.from_function(**(arguments | kwargs))


def evaluation(bitwidths: tuple[int, ...], accuracy: float) -> Evaluation:
    return Evaluation(bitwidths, accuracy, accuracy / 0.98, 0.0)


# From a function


def test_a_function_is_all_that_a_problem_needs() -> None:
    calls = []

    def accuracy(bitwidths: tuple[int, ...]) -> float:
        calls.append(bitwidths)
        return 0.5

    problem = Problem.from_function(2, [1, 2], accuracy)
    assert problem.evaluator.evaluate([1, 2]).relative_accuracy == 0.5
    assert problem.evaluator.evaluate((1, 2)).accuracy == 0.5
    assert calls == [(1, 2)]
    assert problem.full_precision_accuracy == 1.0
    assert (problem.name, problem.num_layers, problem.quantizer) == ("function", 2, None)
    assert [layer.name for layer in problem.layers] == ["layer0", "layer1"]
    assert problem.min_relative_accuracy == 0.99
    assert problem.evaluator.fingerprint is None


def test_layers_and_choices_of_ones_own() -> None:
    problem = function_problem(num_layers=4, choices=[[2, 8], [4], [1, 2], [8]], layers=DIGITS_LAYERS, name="mine")
    assert problem.layers == DIGITS_LAYERS
    assert problem.choices == ((2, 8), (4,), (1, 2), (8,))
    assert problem.name == "mine"
    assert function_problem(choices={"layer1": [3]}).choices[1] == (3,)
    assert function_problem(choices=[16, 32]).choices == ((16, 32),) * 3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_layers": 0}, "num_layers=0 is not accepted; give a whole number from 1"),
        ({"num_layers": True}, "num_layers=True"),
        ({"num_layers": 2.0}, "num_layers=2.0"),
        ({"choices": None}, "choices=None is not accepted"),
        ({"choices": []}, "is empty"),
        ({"choices": 8}, "is not a list"),
        ({"choices": [0, 2]}, "has 0, .* from 1 to 32"),
        ({"choices": [[2, 4], [2, 4]]}, "has 2 sets for 3 layers"),
        ({"accuracy": 0.9}, "accuracy=0.9 is not a function"),
        ({"full_precision_accuracy": 0}, r"full_precision_accuracy=0 .*\(0, 1\]"),
        ({"full_precision_accuracy": 1.5}, r"full_precision_accuracy=1.5 .*\(0, 1\]"),
        ({"layers": DIGITS_LAYERS}, "layers describes 4 layers and assignments have 3"),
        ({"layers": ["a", "b", "c"]}, "layers=.* is not accepted; give a list with a LayerInfo a layer"),
        ({"layers": DIGITS_LAYERS[:1] * 3}, "two layers have the same name"),
        ({"num_layers": np.arange(3)}, "num_layers=.* is not accepted; give a whole number from 1"),
        ({"reward": "profit"}, "unknown reward 'profit'"),
        ({"cost": "watts"}, "unknown cost 'watts'"),
        ({"max_cost": 2}, r"max_cost=2 .*\(0, 1\]"),
        ({"max_cost": 0.2}, r"max_cost=0.2 cannot be met: the cheapest assignment costs 0.25"),
        ({"min_relative_accuracy": 0}, "min_relative_accuracy=0"),
        ({"quantizer": "lsq"}, "got an unexpected keyword argument 'quantizer'; accepted are: reward, cost"),
        ({"evaluate": "step"}, "got an unexpected keyword argument 'evaluate'"),
        ({"bitwidths": [2]}, "got an unexpected keyword argument 'bitwidths'"),
    ],
    ids=str,
)
def test_what_makes_no_function_problem_gets_one_line(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        function_problem(**kwargs)
    assert "\n" not in str(raised.value)


# Replacing


def test_replacing_shares_the_evaluator() -> None:
    problem = function_problem()
    other = problem.replace(bitwidths=[[2, 4], [8], [4, 8]], reward="ratio", cost="energy", max_cost=0.9)
    assert other.evaluator is problem.evaluator
    assert (other.reward, other.cost, other.max_cost) == ("ratio", "energy", 0.9)
    assert other.choices == ((2, 4), (8,), (4, 8))
    assert (problem.reward, problem.cost, problem.max_cost) == ("constrained", "mean_bits", None)
    assert problem.choices == ((2, 4, 8),) * 3
    assert other.replace(max_cost=None).choices == other.choices
    assert other.replace(bitwidths=None).choices == problem.choices
    assert problem.replace().choices == problem.choices


def test_replacing_takes_what_is_available_not_what_was_chosen() -> None:
    problem = digits_problem(bitwidths=[2, 4])
    assert problem.replace(bitwidths=[1, 8]).choices == ((1, 8),) * 4
    with pytest.raises(ReLeQError, match="has 9, which lsq does not support"):
        problem.replace(bitwidths=[2, 9])
    with pytest.raises(ReLeQError, match="has 3, which function does not support"):
        function_problem().replace(bitwidths=[2, 3])


def test_replacing_is_as_strict_as_making() -> None:
    problem = function_problem(max_cost=0.3)
    for changes, message in (
        ({"max_cost": 0.2}, "cannot be met"),
        ({"bitwidths": [4, 8]}, "max_cost=0.3 cannot be met: the cheapest assignment costs 0.5"),
        ({"reward": None}, "unknown reward None"),
        ({"cost": "watts"}, "unknown cost 'watts'"),
        ({"min_relative_accuracy": 1.5}, "min_relative_accuracy=1.5"),
        ({"evaluator": None}, "Problem.replace got an unexpected keyword argument 'evaluator'; accepted are: bitw"),
        ({"quantizer": "wrpn"}, "got an unexpected keyword argument 'quantizer'"),
    ):
        with pytest.raises(ReLeQError, match=message) as raised:
            problem.replace(**changes)
        assert "\n" not in str(raised.value)


def test_nothing_of_a_problem_can_be_set() -> None:
    problem = function_problem()
    with pytest.raises(AttributeError):
        problem.cost = "energy"  # type: ignore[misc]
    with pytest.raises(ValueError):
        problem.costs[0, 0] = 7


# Assignments


@pytest.mark.parametrize("given", [(2, 4, 8), [2, 4, 8], np.array([2, 4, 8]), (np.int8(2), 4, np.int64(8))], ids=repr)
def test_assignments(given: Any) -> None:
    problem = function_problem()
    checked = problem.check(given)
    assert checked == (2, 4, 8)
    assert all(type(bits) is int for bits in checked)
    assert problem.indices(given).tolist() == [0, 1, 2]
    assert problem.state_of_quantization(given) == pytest.approx(14 / 24)


def test_an_iterator_is_used_up_once() -> None:
    problem = function_problem()
    assert problem.check(iter([2, 4, 8])) == (2, 4, 8)
    assert problem.by_module(bits for bits in (2, 4, 8)) == {"layer0": 2, "layer1": 4, "layer2": 8}
    for wrong in ([2, 4], [2, 4, 8, 8]):
        with pytest.raises(ReLeQError, match="does not fit"):
            problem.check(iter(wrong))


def test_assignments_of_indices() -> None:
    problem = function_problem(choices=[[2, 4], [8], [1, 2, 8]])
    for assignment in itertools.product(*problem.choices):
        found = problem.assignment(problem.indices(assignment))
        assert found == assignment
        assert all(type(bits) is int for bits in found)
    with pytest.raises(ValueError):
        problem.assignment([0, 0])
    with pytest.raises(IndexError):
        problem.assignment([0, 1, 0])


@pytest.mark.parametrize(
    "given",
    [(2, 4), (2, 4, 8, 8), (2, 4, 3), (2.0, 4.0, 8.0), "248", 2, None, (2, 4, [8]), {}, [2] * 1_000_000],
    ids=range(10),
)
def test_what_is_no_assignment_gets_one_line(given: Any) -> None:
    problem = function_problem()
    message = r"the assignment .* does not fit; give 3 bitwidths, one a layer, out of \(2, 4, 8\)"
    for ask in (problem.check, problem.state_of_quantization, problem.terms, problem.keeps_max_cost):
        if ask != problem.keeps_max_cost:  # without a bound there is nothing to look at
            with pytest.raises(ReLeQError, match=message) as raised:
                ask(given)
            assert "\n" not in str(raised.value) and len(str(raised.value)) < 250


def test_the_message_shows_choices_that_differ() -> None:
    with pytest.raises(ReLeQError, match=r"out of \(2, 4\), \(8,\), \(1, 2\)"):
        function_problem(choices=[[2, 4], [8], [1, 2]]).check((8, 8, 8))


def test_uniform_assignments_are_those_that_every_layer_may_have() -> None:
    assert function_problem().uniform() == [(2, 2, 2), (4, 4, 4), (8, 8, 8)]
    assert function_problem(choices=[[8, 16], [2, 8], [1, 2, 8]]).uniform() == [(8, 8, 8)]
    assert function_problem(choices=[[2], [4], [8]]).uniform() == []


# How good an assignment is


@pytest.mark.parametrize("reward", [*REWARDS, lambda a, q: 3 * a - q])
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("max_cost", [None, 0.6])
def test_the_objective_is_what_an_episode_pays(reward: Any, cost: str, max_cost: float | None) -> None:
    problem = digits_problem(reward=reward, cost=cost, max_cost=max_cost, bitwidths=[2, 4, 8])
    env = ReLeQEnv(problem)
    for actions in ([0, 0, 0, 0], [2, 1, 0, 2], [2, 2, 2, 2]):
        env.reset()
        for action in actions:
            _, value, _, _, info = env.step(action)
        measured = problem.evaluator.evaluate(bits_of(info))
        assert problem.objective(measured) == value
        assert type(problem.objective(measured)) is float
        assert problem.is_success(measured) == info["is_success"]
        assert problem.terms(bits_of(info)) == {name: info[name] for name in problem.terms(bits_of(info))}


@given(
    accuracies=st.lists(st.floats(0, 1), min_size=9, max_size=9),
    reward=st.sampled_from([*REWARDS, "own"]),
    max_cost=st.floats(0.25, 1.0),
)
def test_the_best_keeps_max_cost_whatever_the_reward(accuracies: list[float], reward: str, max_cost: float) -> None:
    own: Callable[[float, float], float] = lambda a, q: 100 * q - 50 * a  # the dearer, the better  # noqa: E731
    problem = function_problem(num_layers=2, reward=own if reward == "own" else reward, max_cost=max_cost)
    measured = list(map(evaluation, itertools.product((2, 4, 8), repeat=2), accuracies))
    best = max(measured, key=problem.merit)
    assert problem.keeps_max_cost(best.bitwidths)
    within = [each for each in measured if problem.state_of_quantization(each.bitwidths) <= max_cost]
    assert problem.objective(best) == max(map(problem.objective, within))
    assert min(map(problem.objective, within), default=0.0) >= -1.0 or reward == "own"
    for each in measured:
        if not problem.keeps_max_cost(each.bitwidths):
            q = problem.state_of_quantization(each.bitwidths)
            free = problem.replace(max_cost=None).objective(each)
            assert problem.objective(each) == pytest.approx(min(free, -1.0) - (q - max_cost))


def test_of_equal_rewards_the_more_accurate_is_better() -> None:
    problem = function_problem()
    lower, higher = evaluation((2, 4, 8), 0.975), evaluation((8, 4, 2), 0.979)
    assert problem.objective(lower) == problem.objective(higher)
    assert max([lower, higher], key=problem.merit) is max([higher, lower], key=problem.merit) is higher


def test_a_reward_that_is_not_a_number_is_never_the_best() -> None:
    problem = function_problem(reward=lambda a, q: math.nan if 0.95 < a < 1 else a - 10)
    nan, poor, good = (evaluation(bits, a) for bits, a in (((8, 8, 8), 0.97), ((2, 2, 2), 0.1), ((4, 4, 4), 0.9)))
    assert math.isnan(problem.objective(nan))
    for order in itertools.permutations([nan, poor, good]):
        assert max(order, key=problem.merit) is good
    assert max([nan, poor], key=problem.merit) is poor
    # But one that is, and above the bound, is no answer.
    bounded = problem.replace(max_cost=0.9)
    assert max([evaluation((8, 8, 8), 0.9), nan, evaluation((4, 8, 8), 0.97)], key=bounded.merit).bitwidths == (4, 8, 8)


def test_success_keeps_the_accuracy_and_the_bound() -> None:
    problem = function_problem(max_cost=0.5)
    assert problem.is_success(evaluation((4, 4, 4), 0.98 * 0.99))
    assert not problem.is_success(evaluation((4, 4, 4), 0.98 * 0.9899))
    assert not problem.is_success(evaluation((4, 4, 8), 0.98))
    assert problem.replace(max_cost=None).is_success(evaluation((4, 4, 8), 0.98))


def test_a_bound_that_rounding_puts_an_assignment_above_is_met() -> None:
    for bits in itertools.product(range(1, 9), repeat=3):
        problem = function_problem(choices=range(1, 9))
        bounded = problem.replace(max_cost=float(np.float32(problem.state_of_quantization(bits))) - 1e-12 or None)
        if bounded.max_cost and bounded.max_cost >= problem.state_of_quantization(bits) - 1e-9:
            assert bounded.keeps_max_cost(bits)


# From a task


def test_a_task_by_name_or_as_it_is() -> None:
    for task in ("digits", TASKS["digits"]):
        problem = Problem.from_task(task, cache=None)
        assert problem.name == "digits"
        assert [layer.name for layer in problem.layers] == [layer.name for layer in DIGITS_LAYERS]
        assert problem.evaluator.cache is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bitwidths": [[9]] * 8}, "from 1 to 8"),
        ({"bitwidths": {"classifier": [9]}}, "from 1 to 8"),
        ({"bitwidths": {"conv1": [2]}}, "names the layer 'conv1'"),
        ({"bitwidths": [[2]] * 3}, "3 sets for 8 layers"),
        ({"max_cost": 0.01}, "max_cost=0.01 cannot be met"),
        ({"bitwidths": [1, 2], "quantizer": "wrpn"}, "from 2 to 8"),
        ({"cost": "watts"}, "unknown cost"),
        ({"reward": lambda a: a}, "failed"),
        ({"max_cost": 7}, "max_cost=7"),
        ({"min_relative_accuracy": 7}, "min_relative_accuracy=7"),
        ({"parallel": "threads"}, "unknown parallel"),
        ({"workers": 0}, "workers=0"),
        ({"retrain_images": -1}, "retrain_images=-1"),
        ({"device": "gpu"}, "device"),
        ({"precision": "int4"}, "unknown precision"),
        ({"typo": 1}, "got an unexpected keyword argument 'typo'; accepted are: .*bitwidths"),
        ({"evaluator": None}, "got an unexpected keyword argument 'evaluator'"),
    ],
    ids=range(17),
)
def test_wrong_arguments_are_refused_before_anything_takes_time(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("releq_env.evaluation.live.load_pretrained", lambda *args: pytest.fail("this takes time"))
    with pytest.raises(ReLeQError, match=message) as raised:
        make_problem("svhn", **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "problem", ["digits", Problem.from_function(1, [1, 2], lambda bitwidths: 0.5)], ids=["a task", "a problem"]
)
def test_an_unknown_argument_is_pythons_own_error_too(problem: Problem | str) -> None:
    """Other libraries try arguments of theirs, such as TorchRL's `frameskip=`, and look for these words."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'; [^(]*$") as raised:
        gym.make("releq_env:ReLeQ-v0", problem=problem, frameskip=1)  # which adds what the arguments were
    assert isinstance(raised.value, ReLeQError)


# As it is given to an environment

MODULE = """
from releq_env import Problem

def small():
    return Problem.from_function(2, [2, 4], lambda bits: 0.9)

made = small()

def wrong():
    return 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_problems.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_problems", raising=False)
    return "my_problems"


def test_a_problem_by_module_and_function(module: str) -> None:
    problem = make_problem(f"{module}:small")
    assert problem.choices == ((2, 4), (2, 4))
    env: Any = gym.make("releq_env:ReLeQ-v0", problem=f"{module}:small", evaluate="step").unwrapped
    env.reset()
    assert bits_of(env.step(0)[4]) == (2, 4)
    assert make_problem(f"{module}:made") is make_problem(f"{module}:made")
    # Unlike a problem itself, its name can be written down.
    assert gym.make(gym.spec("ReLeQ-v0"), problem=f"{module}:small").spec.to_json()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:small", "cannot be found .*; give module:function"),
        ("my_problems:missing", "cannot be found .*; give module:function"),
        ("my_problems:a:b", "cannot be found"),
        ("my problems:small", "cannot be found"),
        (":small", "cannot be found"),
        ("my_problems:wrong", "gave 7; return a releq_env.Problem, or a releq_env.tasks.Task"),
    ],
)
def test_a_name_that_leads_to_no_problem_gets_one_line(module: str, name: str, message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        make_problem(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["problem", "name"])
def test_beside_a_problem_nothing_else_is_taken(module: str, name: str) -> None:
    given = function_problem() if name == "problem" else f"{module}:small"
    for argument in ("cost", "quantizer", "cache", "workers"):
        with pytest.raises(
            ReLeQError, match=rf"{argument}= was given beside a problem.*replace\({argument}="
        ) as raised:
            make_problem(given, **{argument: "energy"})
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("given", [7, ["digits"], {"task": "digits"}, "imagenet", "", b"digits"], ids=repr)
def test_what_is_no_problem_gets_one_line(given: Any) -> None:
    with pytest.raises(ReLeQError, match="unknown task .*; choose one of: digits, mnist") as raised:
        make_problem(given)
    assert "\n" not in str(raised.value)


# Copies


def test_a_deep_copy_is_the_problem_itself() -> None:
    problem = function_problem()
    assert copy.deepcopy([problem])[0] is problem


def test_a_pickle_is_the_same_and_counts_apart() -> None:
    problem = digits_problem(FakeSource(), cost="size", max_cost=0.7, reward="shaped", bitwidths=[2, 4, 8])
    problem.evaluator.evaluate((2, 2, 2, 2))
    other = pickle.loads(pickle.dumps(problem))
    assert (other.layers, other.choices, other.cost, other.max_cost) == (
        problem.layers,
        problem.choices,
        "size",
        0.7,
    )
    np.testing.assert_array_equal(other.costs, problem.costs)
    assert other.evaluator.distinct_evaluations == 0
    measured = problem.evaluator.evaluate((4, 4, 4, 4))
    assert other.objective(measured) == problem.objective(measured)


def test_layers_say_how_many_scales_are_stored() -> None:
    assert LayerInfo("fc", n=4, c=2, k=0, weights=8, macs=8, std=0.1).scales == 1
    for quantizer in ("lsq", "wrpn", "dorefa"):
        layers = Problem.from_task("digits", quantizer=quantizer, cache=None).layers
        assert [layer.scales for layer in layers] == ([16, 32, 64, 10] if quantizer == "lsq" else [1] * 4)


def test_numbers_of_numpys_are_taken_for_pythons() -> None:
    problem = function_problem(max_cost=np.float32(0.75), min_relative_accuracy=np.float32(0.99))
    assert [type(problem.max_cost), type(problem.min_relative_accuracy)] == [float, float]
    close = Problem.from_function(1, [7, 10], lambda bits: 0.99, min_relative_accuracy=np.float32(0.99))
    one = ReLeQEnv(close)
    one.reset()
    many = ReLeQVectorEnv(close, num_envs=1)
    many.reset()
    alone, together = one.step(0), many.step(np.array([0]))
    assert alone[1] == together[1][0]
    assert alone[4]["is_success"] == together[4]["is_success"][0]


def test_layers_may_be_described_by_numpys_numbers() -> None:
    given = [
        dataclasses.replace(layer, weights=np.int64(layer.weights), std=np.float32(0.5)) for layer in DIGITS_LAYERS
    ]
    problem = function_problem(num_layers=4, layers=given)
    assert [layer.weights for layer in problem.layers] == [layer.weights for layer in DIGITS_LAYERS]
    assert {type(layer.weights) for layer in problem.layers} == {int}
    assert {type(layer.std) for layer in problem.layers} == {float}


def test_an_id_over_a_table_retrains_nothing() -> None:
    with pytest.raises(ReLeQError, match="problem='digits' is a task, and this id is over a table"):
        gym.make("ReLeQ-Tabular-v0", problem="digits")


def test_the_size_of_what_is_no_assignment() -> None:
    with pytest.raises(ReLeQError, match="does not fit"):
        function_problem().size_in_bytes((2.5, 4, 4))


def test_a_table_beside_a_problem_is_refused_by_every_id() -> None:
    for env_id in ("ReLeQ-v0", "ReLeQ-Tabular-v0", "ReLeQ-Digits-Tabular-v0"):
        assert gym.make(env_id, problem=function_problem()).unwrapped.problem.name == "function"  # type: ignore[attr-defined]
        with pytest.raises(ReLeQError, match="table= was given beside a problem"):
            gym.make(env_id, problem=function_problem(), table="digits")
