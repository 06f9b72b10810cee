"""Accuracies of small networks as functions: problems with a known optimum, to develop and to tune agents on.

No table and no training: what is tuned here has seen nothing of what it is compared on.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from releq_env.errors import check_choice
from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem

FULL_PRECISION = 0.9
MIN_RELATIVE_ACCURACY = 0.98
CHOICES = (1, 2, 3, 4, 5, 6, 8)

_WEIGHTS = (432, 9_216, 36_864, 2_560, 640)
LAYERS = tuple(
    LayerInfo(f"layer{index}", n=16, c=16, k=3, weights=weights, macs=weights * (256 >> 2 * index), std=0.1)
    for index, weights in enumerate(_WEIGHTS)
)

_CLIFFS = ((0.9, 0.5, 0.6), (2.1, 0.6, 0.35), (1.2, 0.3, 0.4), (1.6, 0.2, 0.8), (2.8, 0.35, 0.5))
"""Of each layer: at which bitwidth it falls off, how much accuracy is lost beyond, and how wide the edge is."""

_NOISE = 0.003
"""Standard deviation of an accuracy: about that of a short retraining over its seeds."""


def losses(bitwidths: Sequence[int]) -> list[float]:
    """Return the share of the accuracy that each layer alone would lose."""
    return [
        depth / (1.0 + math.exp((bits - where) / width))
        for bits, (where, depth, width) in zip(bitwidths, _CLIFFS, strict=False)
    ]


def separable(bitwidths: Sequence[int]) -> float:
    """Layers lose accuracy each for itself: what they keep multiplies."""
    return FULL_PRECISION * math.prod(1.0 - loss for loss in losses(bitwidths))


def interacting(bitwidths: Sequence[int]) -> float:
    """Neighbouring layers that are both coarse lose more than the sum; the first and the last make up for one another.

    So changing one layer at a time gets stuck.
    """
    lost = losses(bitwidths)
    pairs = sum(math.sqrt(first * second) for first, second in itertools.pairwise(lost))
    made_up = 0.9 * math.sqrt(lost[0] * lost[-1])
    return FULL_PRECISION * max(1.0 - 0.6 * sum(lost) - 0.8 * pairs + made_up, 0.1)


def noisy(bitwidths: Sequence[int]) -> float:
    """`separable` as a retraining with one seed measures it: always the same for an assignment, and a little off."""
    off = np.random.default_rng(list(bitwidths)).standard_normal()
    return min(max(separable(bitwidths) + _NOISE * off, 0.0), 1.0)


def _problem(accuracy: Callable[[Sequence[int]], float], layers: int, **decision: Any) -> Problem:
    given: dict[str, Any] = {"min_relative_accuracy": MIN_RELATIVE_ACCURACY, "cost": "size"} | decision
    return Problem.from_function(layers, list(CHOICES), accuracy, FULL_PRECISION, LAYERS[:layers], **given)


LANDSCAPES: dict[str, Callable[[], Problem]] = {
    "separable": lambda: _problem(separable, 4),
    "interacting": lambda: _problem(interacting, 4, cost="mean_bits"),
    "noisy": lambda: _problem(noisy, 5),
    "bounded": lambda: _problem(noisy, 4, max_cost=0.3),
}
"""By name. Four layers are 2,401 assignments, five 16,807."""


class Landscape(NamedTuple):
    """A problem whose every accuracy is known.

    Attributes:
        problem: The problem, with an evaluator of its own.
        mean: Mean objective of a uniformly random assignment that keeps `max_cost`.
        optimum: The best objective of one.
    """

    problem: Problem
    mean: float
    optimum: float

    def normalised(self, objective: float) -> float:
        """Return an objective as 0 for the mean of a random assignment and 1 for the optimum."""
        return (objective - self.mean) / ((self.optimum - self.mean) or 1.0)


def make_landscape(name: str) -> Landscape:
    """Return a landscape, all of it looked at once.

    Raises:
        ReLeQError: If there is none of that name.
    """
    check_choice("landscape", name, LANDSCAPES)
    return look_at(LANDSCAPES[name]())


def look_at(problem: Problem) -> Landscape:
    """Return a small problem as a landscape: measures every assignment, and counts none."""
    everything = [each for each in itertools.product(*problem.choices) if problem.keeps_max_cost(each)]
    evaluations = problem.evaluator.reseeded(problem.evaluator.source.retrain_seed).evaluate_many(everything)
    objectives = np.array([problem.objective(evaluation) for evaluation in evaluations])
    return Landscape(problem, float(np.nanmean(objectives)), float(np.nanmax(objectives)))
