"""How trajectories.npz was made: at commit 1d3a1aa, before source, problem and decision were separated.

There an environment took `evaluator=`, `layer` was a name and `bitwidths` a tuple, so this does not run on later
commits. To make the file again, put this folder into a checkout of that commit and run, in its root,
`python -m tests.golden.record tests/golden/trajectories.npz`. The choice of cases and all actions are seeded.
"""

import itertools
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from tests.fakes import FunctionEvaluator  # type: ignore[attr-defined]  # of that commit
from tests.golden.play import EPISODES, FORMS, FULL_PRECISION, MIN_RELATIVE_ACCURACY, Case, Maker, Rows, accuracy, play

COMMIT = "1d3a1aa"
ID = "ReLeQ-Digits-v0"
AXES: dict[str, Sequence[Any]] = {
    "form": FORMS,
    "bitwidths": [tuple(range(1, 9)), (2, 4, 8), (1, 3, 4, 6), (5,)],
    "start": [None, "given"],
    "evaluate": ["episode", "step", "gain"],
    "action_mode": ["flexible", "restricted"],
    "observation": ["paper", "history"],
    "reward": ["constrained", "shaped", "ratio", "difference", "released"],
    "cost": ["mean_bits", "weighted_bits", "energy", "bitops"],
}
# Rewards above a bound have changed on purpose, and so has what is open where the bound is out of reach: neither
# comes about here, but in prefixes. One bitwidth has nothing to bound.
BOUNDED = AXES | {
    "bitwidths": AXES["bitwidths"][:3],
    "start": [None],
    "reward": ["constrained"],
    "max_cost": [0.3, 0.6],
}


def pairwise(axes: Mapping[str, Sequence[Any]], rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yield combinations until every two values of different axes were met together."""
    places = [range(len(values)) for values in axes.values()]
    pairs = itertools.combinations(range(len(places)), 2)
    left = {(a, x, b, y) for a, b in pairs for x in places[a] for y in places[b]}

    def met(row: Sequence[int]) -> set[tuple[int, int, int, int]]:
        return {(a, row[a], b, row[b]) for a, b in itertools.combinations(range(len(row)), 2)} & left

    while left:
        drawn = [[rng.choice(place) for place in places] for _ in range(300)]
        best = max(drawn, key=lambda row: len(met(row)))
        if met(best):
            left -= met(best)
            yield {name: values[index] for (name, values), index in zip(axes.items(), best, strict=True)}


def cases(layers: int) -> Iterator[Case]:
    rng = random.Random(0)
    for axes in (AXES, AXES, BOUNDED):  # the first twice: more values of three axes meet
        for chosen in pairwise(axes, rng):
            start = tuple(rng.choice(chosen["bitwidths"]) for _ in range(layers))
            yield Case(**chosen | {"start": None if chosen["start"] is None else start})


class EnvMaker(Maker):
    """The environments as they were made at the commit."""

    id = ID

    def arguments(self, case: Case) -> dict[str, Any]:
        return {
            "evaluator": FunctionEvaluator(accuracy, FULL_PRECISION),
            "bitwidths": case.bitwidths,
            "evaluate": case.evaluate,
            "action_mode": case.action_mode,
            "observation": case.observation,
            "reward": case.reward,
            "cost": case.cost,
            "max_cost": case.max_cost,
            "min_relative_accuracy": MIN_RELATIVE_ACCURACY,
        }


def main(path: str) -> None:
    maker = EnvMaker()
    base: Any = gym.make(ID, evaluator=FunctionEvaluator()).unwrapped
    names = [layer.name for layer in base.layers]
    played: list[tuple[Case, NDArray[np.int64], Rows]] = []
    rng = np.random.default_rng(0)
    for case in cases(len(names)):
        env: Any = maker.single(case).unwrapped
        steps = EPISODES * env.episode_steps + 3  # into the episode after, and over the steps that reset
        actions = np.zeros((steps, case.num_envs), dtype=np.int64)

        def choose(step: int, masks: NDArray[np.bool_], actions: NDArray[np.int64] = actions) -> NDArray[np.int64]:
            actions[step] = [rng.choice(np.flatnonzero(mask)) for mask in masks]
            return actions[step]

        played.append((case, actions, play(case, steps, choose, maker, len(names), names.index)))
    description = {
        "commit": COMMIT,
        "layers": [asdict(layer) for layer in base.layers],
        "cases": [
            asdict(case) | {"steps": len(actions), "shapes": {name: values.shape for name, values in rows.items()}}
            for case, actions, rows in played
        ],
    }
    # One array a field, of all cases one after the other: a file of few arrays is a small file.
    arrays = {"actions": np.concatenate([actions.astype(np.int8).ravel() for _, actions, _ in played])}
    for name in dict.fromkeys(name for _, _, rows in played for name in rows):
        arrays[name] = np.concatenate([rows[name].ravel() for _, _, rows in played if name in rows])
    arrays["description"] = np.array(json.dumps(description))
    np.savez_compressed(path, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
