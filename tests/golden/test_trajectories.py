"""What an agent sees equals what it saw before source, problem and decision were separated.

`trajectories.npz` was recorded by `record.py`: every two values of the arguments (and of single, vector and
Stable-Baselines3's environments) meet in one of its cases. It knows nothing of `info`'s types, which were others.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem
from tests.golden.play import FULL_PRECISION, MIN_RELATIVE_ACCURACY, Case, Maker, Rows, accuracy, play

ID = "releq_env:ReLeQ-v0"
Q = 6
"""Place of the State of Quantization in an observation."""


def recorded() -> tuple[list[LayerInfo], list[tuple[Case, NDArray[np.int64], Rows]]]:
    """Return the layers, and of every case its actions and rows."""
    with np.load(Path(__file__).parent / "trajectories.npz", allow_pickle=False) as archive:
        flat = {name: archive[name] for name in archive.files}
    description = json.loads(str(flat.pop("description")))
    at = dict.fromkeys(flat, 0)

    def part(name: str, shape: list[int]) -> NDArray[Any]:
        start, at[name] = at[name], at[name] + int(np.prod(shape))
        return flat[name][start : at[name]].reshape(shape)

    cases = []
    for known in description["cases"]:
        steps, shapes = known.pop("steps"), known.pop("shapes")
        start = known.pop("start")
        case = Case(
            **known | {"bitwidths": tuple(known["bitwidths"]), "start": None if start is None else tuple(start)}
        )
        actions = part("actions", [steps, case.num_envs]).astype(np.int64)
        cases.append((case, actions, {name: part(name, shape) for name, shape in shapes.items()}))
    assert all(at[name] == len(flat[name]) for name in flat)
    return [LayerInfo(**layer) for layer in description["layers"]], cases


LAYERS, CASES = recorded()


class EnvMaker(Maker):
    """The environments as they are made now."""

    id = ID

    def arguments(self, case: Case) -> dict[str, Any]:
        problem = Problem.from_function(
            len(LAYERS),
            case.bitwidths,
            accuracy,
            full_precision_accuracy=FULL_PRECISION,
            layers=LAYERS,
            reward=case.reward,
            cost=case.cost,
            max_cost=case.max_cost,
            min_relative_accuracy=MIN_RELATIVE_ACCURACY,
        )
        names = ("evaluate", "action_mode", "observation")
        return {"problem": problem} | {name: getattr(case, name) for name in names}


def check(name: str, found: NDArray[Any], expected: NDArray[Any], case: Case) -> None:
    """Raise if a field is another than it was."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if name.endswith("observations"):
        # q may differ in its last bit in float64, and so in float32 where it is rounded the other way.
        there = ~np.isnan(expected[..., Q])
        np.testing.assert_array_max_ulp(found[..., Q][there], expected[..., Q][there], maxulp=1)
        found, expected = np.delete(found, Q, axis=-1), np.delete(expected, Q, axis=-1)
        np.testing.assert_array_equal(found, expected)
    elif name.endswith("terms"):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    elif name == "rewards":
        # Stable-Baselines3 rounds to float32. `gain` subtracts one objective from another.
        relative = 2e-7 if case.form == "sb3" else 1e-9
        np.testing.assert_allclose(found, expected, rtol=relative, atol=1e-12)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("case", "actions", "expected"), CASES, ids=[str(case) for case, _, _ in CASES])
def test_a_trajectory_is_what_it_was(case: Case, actions: NDArray[np.int64], expected: Mapping[str, Any]) -> None:
    found = play(case, len(actions), lambda step, masks: actions[step], EnvMaker(), len(LAYERS), int)
    assert set(found) == set(expected)
    for name in expected:
        # Above a bound rewards are others on purpose; actions were chosen to end below it.
        if name != "rewards" or case.max_cost is None or case.evaluate == "episode":
            try:
                check(name, found[name], expected[name], case)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error


def test_the_recording_meets_what_it_is_for() -> None:
    unbounded = [rows for case, _, rows in CASES if case.max_cost is None]
    rewards = np.concatenate([rows["rewards"].ravel() for rows in unbounded])
    success = np.concatenate([rows["is_success"].ravel() for _, _, rows in CASES])
    masks = np.concatenate([rows["masks"].ravel() for _, _, rows in CASES])
    assert len(CASES) > 40
    assert (rewards > 0).sum() > 200 and (rewards < 0).sum() > 100
    assert {0, 1} <= set(success.tolist())
    assert masks.sum() > 1000 and (~masks).sum() > 300
