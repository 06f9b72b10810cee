"""What `info` holds can be put into arrays, and is nobody else's."""

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from releq_env import OneShot, ReLeQVecEnv
from releq_env.problem import Problem
from tests.fakes import smooth_accuracy

ID = "releq_env:ReLeQ-v0"
TERMS = ("state_of_quantization", "average_bits", "weighted_bits", "energy", "bitops")
TYPES: dict[str, type] = {
    "layer": np.int64,
    "bitwidths": np.ndarray,
    **dict.fromkeys(TERMS, np.float64),
    "accuracy": np.float64,
    "relative_accuracy": np.float64,
    "is_success": bool,  # of NumPy's own, Gymnasium's vector environments would make objects
}
LAYERS = 3


@pytest.fixture
def problem() -> Problem:
    return Problem.from_function(LAYERS, [2, 4, 8], smooth_accuracy, full_precision_accuracy=0.98)


def states(problem: Problem) -> Iterator[dict[str, Any]]:
    """Yield every info of an episode with everything measured."""
    env = gym.make(ID, problem=problem, evaluate="step")
    _, info = env.reset(seed=0)
    yield info
    for action in range(LAYERS):
        *_, info = env.step(action)
        yield info


def test_types(problem: Problem) -> None:
    *_, last = infos = list(states(problem))
    assert set(infos[0]) == {"layer", "bitwidths", *TERMS}
    assert set(last) == set(TYPES)
    for info in infos:
        assert {name: type(value) for name, value in info.items()} == {name: TYPES[name] for name in info}
        assert (info["bitwidths"].dtype, info["bitwidths"].shape) == (np.int64, (LAYERS,))
    assert [int(info["layer"]) for info in infos] == [0, 1, 2, 2]
    assert last["bitwidths"].tolist() == [2, 4, 8]


def test_every_number_becomes_a_tensor_as_torchrl_makes_one(problem: Problem) -> None:
    for info in states(problem):
        for name in set(info) - {"is_success"}:
            assert info[name].dtype.kind in "if"  # its reader looks at the type of each value
            assert torch.as_tensor(info[name]).numpy() == pytest.approx(info[name])


def test_nothing_is_shared_between_calls(problem: Problem) -> None:
    infos = list(states(problem))
    arrays = [info["bitwidths"] for info in infos]
    for index, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[index + 1 :])


def test_what_is_done_to_an_info_is_not_done_to_the_environment(problem: Problem) -> None:
    env = gym.make(ID, problem=problem)
    _, info = env.reset()
    for action in range(LAYERS):
        info["bitwidths"][:] = 99
        info.clear()
        *_, info = env.step(action)
    assert info["bitwidths"].tolist() == [2, 4, 8]
    assert info["accuracy"] == smooth_accuracy((2, 4, 8))
    _, info = env.reset()
    assert info["bitwidths"].tolist() == [8, 8, 8]


@pytest.mark.parametrize("mode", list(gym.vector.AutoresetMode))
def test_vectors_of_them_are_arrays_of_numbers(problem: Problem, mode: gym.vector.AutoresetMode) -> None:
    venv = gym.make_vec(ID, 2, "vector_entry_point", problem=problem, autoreset_mode=mode)
    *_, infos = venv.reset(seed=0)
    check_vector(infos, 2)
    for action in range(LAYERS):
        before, (*_, infos) = infos, venv.step(np.array([action, 0]))
        check_vector(infos, 2)
        for name in set(before) & set(infos) - {"final_info", "final_obs"}:
            assert not np.shares_memory(before[name], infos[name])
    ended = infos.get("final_info", infos)
    check_vector(ended, 2)
    assert ended["bitwidths"].tolist() == [[2, 4, 8], [2, 2, 2]]
    assert ended["is_success"].dtype == np.bool_


def test_a_synchronous_vector_of_single_ones_has_the_same_infos(problem: Problem) -> None:
    own, others = (gym.make_vec(ID, 2, way, problem=problem) for way in ("vector_entry_point", "sync"))
    check_equal(own.reset(seed=0)[1], others.reset(seed=0)[1])
    for actions in [0, 1], [1, 2], [2, 0], [0, 0], [1, 1]:
        check_equal(own.step(np.array(actions))[-1], others.step(np.array(actions))[-1])


def test_stable_baselines3_gets_them_too(problem: Problem) -> None:
    venv = ReLeQVecEnv([lambda: gym.make(ID, problem=problem)] * 2)
    venv.reset()
    for action in range(LAYERS):
        *_, infos = venv.step(np.array([action, action]))
    for info in infos:
        assert {name: type(info[name]) for name in TYPES} == TYPES
    assert not np.shares_memory(infos[0]["bitwidths"], infos[1]["bitwidths"])


def test_one_step_for_all_layers(problem: Problem) -> None:
    env = OneShot(gym.make(ID, problem=problem))
    env.reset()
    *_, info = env.step(np.array([0, 1, 2]))
    assert {name: type(value) for name, value in info.items()} == TYPES


def check_vector(infos: Mapping[str, Any], envs: int) -> None:
    for name, values in infos.items():
        if name in TYPES:
            expected = np.int64 if name == "bitwidths" else TYPES[name]
            assert values.dtype == expected
            assert values.shape == ((envs, LAYERS) if name == "bitwidths" else (envs,))
            assert infos[f"_{name}"].dtype == np.bool_


def check_equal(own: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    assert set(own) == set(others)
    for name in own:
        assert own[name].dtype == others[name].dtype
        np.testing.assert_array_equal(own[name], others[name])
