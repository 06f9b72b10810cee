"""Small problems that contracts are tested on: alike layers, unlike ones, a bound, a cost that falls with the bits."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem

NEEDED = (2, 1, 3, 2)
"""The fewest bits that each layer needs to lose nothing: the optimum where no bound forbids it."""

FULL_PRECISION = 0.98

LAYERS = (
    LayerInfo("conv1", n=16, c=1, k=3, weights=144, macs=9_216, std=0.309),
    LayerInfo("conv2", n=32, c=16, k=3, weights=4_608, macs=294_912, std=0.067),
    LayerInfo("fc1", n=64, c=512, k=0, weights=32_768, macs=32_768, std=0.034),
    LayerInfo("fc2", n=10, c=64, k=0, weights=640, macs=640, std=0.164),
)


def needs_bits(bitwidths: Sequence[int]) -> float:
    """Return an accuracy that suffers for every bit below what a layer needs."""
    lacking = sum(max(need - bits, 0) for need, bits in zip(NEEDED, bitwidths, strict=False))
    return FULL_PRECISION * (1.0 - 0.03 * lacking)


def plain(**decision: Any) -> Problem:
    """Four layers with the same three choices: 81 assignments."""
    return Problem.from_function(4, [1, 2, 3], needs_bits, FULL_PRECISION, LAYERS, **decision)


def uneven() -> Problem:
    """Layers with different choices, and a bound that leaves 14 of the 18 assignments."""
    return Problem.from_function(3, [[1, 2, 4], [2, 8], [1, 3, 5]], needs_bits, FULL_PRECISION, max_cost=0.8)


def bounded() -> Problem:
    """A bound below what the accuracy constraint needs: the best of all is above it."""
    return plain(max_cost=0.5)


PROBLEMS: dict[str, Callable[[], Problem]] = {"plain": plain, "uneven": uneven, "bounded": bounded}
"""By name."""


def feasible(problem: Problem) -> list[tuple[int, ...]]:
    """Return all assignments that keep `max_cost`."""
    return [each for each in itertools.product(*problem.choices) if problem.keeps_max_cost(each)]


def best_merit(problem: Problem) -> tuple[bool, float, float]:
    """Return the merit of the best assignment, found by looking at all of them; nothing of it is counted."""
    return max(map(problem.merit, problem.evaluator.reseeded(0).evaluate_many(feasible(problem))))
