"""Problems whose accuracies are functions, by name: `--env releq_env:ReLeQ-v0 --env-kwargs problem=...`.

Imports no torch: processes that are killed and begun again should begin quickly.
"""

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from releq_env import Problem
from releq_env.cost import COSTS
from releq_env.layer_info import LayerInfo

NEEDED = (2, 1, 3, 2)
LAYERS = [
    LayerInfo("conv1", n=16, c=1, k=3, weights=144, macs=9216, std=0.3086005747318268),
    LayerInfo("conv2", n=32, c=16, k=3, weights=4608, macs=294912, std=0.06712264567613602),
    LayerInfo("fc1", n=64, c=512, k=0, weights=32768, macs=32768, std=0.034076642245054245),
    LayerInfo("fc2", n=10, c=64, k=0, weights=640, macs=640, std=0.16426308453083038),
]
ENV = "releq_env:ReLeQ-v0"


def sensitivities(algo: str, problem: Problem) -> dict[str, Any]:
    """Return the hyperparameters of an agent that needs sensitivities: what a function's problem does not have."""
    if not algo.startswith("fisher"):
        return {}
    return {"sensitivities": [[4.0**-bits for bits in of_layer] for of_layer in problem.choices]}


def needed(algo: str, problem: str) -> list[str]:
    """Return the command line's part without which an agent does not take a problem of this module."""
    given = sensitivities(algo, globals()[problem]())
    return ["--hyperparams", *(f"{name}={value}" for name, value in given.items())] if given else []


def arguments(problem: str, *kwargs: str) -> list[str]:
    """Return the command line's part that names a problem of this module."""
    return ["--env", ENV, "--env-kwargs", f"problem=tests.agents.problems:{problem}", *kwargs]


def optimum(problem: Problem) -> tuple[bool, float, float]:
    """Return the merit of the best assignment, found by looking at all of them."""
    evaluator = problem.evaluator.reseeded(0)
    return max(map(problem.merit, evaluator.evaluate_many(list(itertools.product(*problem.choices)))))


def smooth_accuracy(bitwidths: Sequence[int]) -> float:
    """Accuracy that rises with every bit of every layer, a later layer mattering more; in (0, 0.98)."""
    loss = sum((index + 1) * 4.0**-bits for index, bits in enumerate(bitwidths))
    return 0.98 * (1.0 - loss / sum(range(1, len(bitwidths) + 1)))


def needs_bits(bitwidths: Sequence[int]) -> float:
    """Accuracy that suffers for every bit below what a layer needs."""
    return 0.98 * (1.0 - 0.03 * sum(max(need - bits, 0) for need, bits in zip(NEEDED, bitwidths, strict=False)))


def four_layers(**decision: Any) -> Problem:
    """256 assignments; the optimum is `NEEDED`."""
    return Problem.from_function(4, [1, 2, 3, 4], needs_bits, 0.98, LAYERS, **decision)


def uneven() -> Problem:
    """Layers with different choices, and a bound that leaves 14 of the 18 assignments."""
    return Problem.from_function(3, [[1, 2, 4], [2, 8], [1, 3, 5]], needs_bits, 0.98, max_cost=0.8)


def bounded() -> Problem:
    """A bound below what the accuracy constraint needs: the best of all is above it."""
    return four_layers(max_cost=0.4)


def dear_small(layer: LayerInfo, bits: int) -> float:
    """Return a cost at which one bit is the dearest, as on a machine without instructions for it."""
    return {1: 9.0, 2: 2.0, 3: 3.0, 4: 4.0}.get(bits, float(bits))


def fewer_bits_dearer() -> Problem:
    """A cost that does not fall with the bits."""
    COSTS["dear_small"] = dear_small
    return Problem.from_function(3, [1, 2, 3, 4], needs_bits, 0.98, LAYERS[:3], cost="dear_small", max_cost=0.5)


def like_digits() -> Problem:
    """The decision of Digits over a function, as in `golden/`."""
    return Problem.from_function(4, list(range(1, 9)), smooth_accuracy, 0.98, LAYERS)


def logged_accuracy(bitwidths: tuple[int, ...]) -> float:
    """Note in a file what is begun and finished, and take a moment."""
    with Path(os.environ["RELEQ_TEST_LOG"]).open("a") as file:
        file.write(f"begun {bitwidths}\n")
        file.flush()
        time.sleep(0.01)
        file.write(f"finished {bitwidths}\n")
    return smooth_accuracy(bitwidths)


def logged() -> Problem:
    """Leaves a trace of what was paid for."""
    return Problem.from_function(4, [1, 2, 4, 8], logged_accuracy, 0.98)


def sometimes_nan() -> Problem:
    """A reward that is no number where an assignment is cheap."""
    return four_layers(reward=lambda a, q: float("nan") if q < 0.6 else a - q)


def always_nan() -> Problem:
    """A reward that is a number for the dearest assignment alone, which `max_cost` excludes."""
    return four_layers(reward=lambda a, q: 1.0 if q == 1.0 else float("nan"), max_cost=0.9)
