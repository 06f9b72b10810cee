"""What environments say of tables."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from releq_env import AccuracyTable, ReLeQError
from releq_env.registration import OWN_TABLE

ID = f"releq_env:{OWN_TABLE}"
TABLE = AccuracyTable.from_records(
    [[2, 2], [2, 8], [8, 2], [8, 8]], [0.5, 0.7, 0.8, 0.9], full_precision_accuracy=0.9, choices=[2, 4, 8]
)


def test_environments_know_the_optimum() -> None:
    env: Any = gym.make(ID, table=TABLE, cost="mean_bits", min_relative_accuracy=0.8).unwrapped
    assert env.optimum() == TABLE.optimum(0, min_relative_accuracy=0.8)
    env.reset()
    env.step(2)
    *_, reward, _, _, info = env.step(2)
    assert env.regret(info["bitwidths"]) == env.optimum().objective - reward
    with pytest.raises(ReLeQError, match="only of a table is the optimum known"):
        gym.make("releq_env:ReLeQ-v0", problem="tests.tables.test_env:without_table").unwrapped.optimum()


def without_table() -> Any:
    from releq_env import Problem

    return Problem.from_function(2, [2, 4], lambda bits: 0.9)


@pytest.mark.parametrize("evaluate", ["episode", "step", "gain"])
def test_what_is_filled_in_is_marked(evaluate: str) -> None:
    env = gym.make(ID, table=TABLE, fill="nearest", evaluate=evaluate).unwrapped
    vectors = gym.make_vec(
        ID, 9, vectorization_mode="vector_entry_point", table=TABLE, fill="nearest", evaluate=evaluate
    )
    episodes = np.array(list(itertools.product(range(3), repeat=2)))
    _, infos = vectors.reset()
    assert "filled" not in infos
    every = [vectors.step(actions)[-1] for actions in episodes.T]
    for index, actions in enumerate(episodes):
        _, info = env.reset()
        assert "filled" not in info
        for step, action in enumerate(actions):
            *_, info = env.step(action)
            measured = "accuracy" in info
            assert ("filled" in info) == measured
            assert every[step].get("_filled", np.zeros(9, dtype=bool))[index] == measured
            if measured:
                assert isinstance(info["filled"], bool)
                assert info["filled"] == every[step]["filled"][index] == (4 in info["bitwidths"])
    check_env(env, skip_render_check=True)


def test_without_a_fill_nothing_is_marked() -> None:
    env = gym.make(ID, table=TABLE, bitwidths=[2, 8])
    env.reset()
    env.step(0)
    *_, info = env.step(1)
    assert "accuracy" in info and "filled" not in info
