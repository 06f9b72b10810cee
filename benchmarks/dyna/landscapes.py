"""Synthetic accuracies of every assignment of a small network: no table is needed to develop an agent on them.

Each family says how much accuracy the layers lose together; a seed draws one of it. Sizes follow what short retraining
of SimpleNet on CIFAR-10 gave (`benchmarks/results/study`): 77 % with full precision, about a third of that lost
with one bit everywhere, next to nothing with eight, and 0.3 points of noise from the seed of the retraining.
"""

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from releq_env import Problem
from releq_env.layer_info import LayerInfo
from releq_env.testing.landscapes import Landscape, look_at

Floats = NDArray[np.float64]

FULL_PRECISION = 0.77
NOISE = 0.003  # standard deviation of an accuracy over retraining seeds
MIN_RELATIVE_ACCURACY = 0.98


def separable(generator: np.random.Generator, bits: Floats, layers: int) -> Floats:
    """Losses of single layers add up, each bit saving a share of what is left; returns shape `(assignments,)`."""
    return _single(generator, bits, layers)[1].sum(axis=1)


def pairs(generator: np.random.Generator, bits: Floats, layers: int) -> Floats:
    """Beside that, two coarse layers lose more, or less, than the sum of both."""
    _, losses = _single(generator, bits, layers)
    total = losses.sum(axis=1)
    for a, b in itertools.combinations(range(layers), 2):
        total += generator.normal(0.0, 0.8) * np.sqrt(losses[:, a] * losses[:, b])
    return np.maximum(total, losses.max(axis=1) / 2.0)


def cliff(generator: np.random.Generator, bits: Floats, layers: int) -> Floats:
    """Each layer falls off a cliff of its own, at a bitwidth, a depth and a steepness; what is kept multiplies."""
    where, depth, width = (generator.uniform(*ends, layers) for ends in ((1.2, 4.5), (0.1, 0.6), (0.2, 0.7)))
    return 1.0 - np.prod(1.0 - depth / (1.0 + np.exp((bits - where) / width)), axis=1)


def weakest(generator: np.random.Generator, bits: Floats, layers: int) -> Floats:
    """The layer that loses most decides, nearly: a power mean of the losses of single layers."""
    _, losses = _single(generator, bits, layers)
    return (losses**3).sum(axis=1) ** (1 / 3) * layers**0.5


FAMILIES: dict[str, Callable[[np.random.Generator, Floats, int], Floats]] = {
    "separable": separable,
    "pairs": pairs,
    "cliff": cliff,
    "weakest": weakest,
}
SIZES = {
    "5^4": (4, (2, 3, 4, 6, 8)),
    "8^4": (4, tuple(range(1, 9))),
    "7^5": (5, tuple(range(1, 8))),
    "8^5": (5, tuple(range(1, 9))),
}
"""By name: how many layers, and the bitwidths of each."""


def landscape(name: str, seed: int) -> Landscape:
    """Return a landscape.

    Args:
        name: Family, size, cost and optionally an upper bound on it, e.g. `"pairs/8^4/mean_bits"`,
            `"cliff/7^5/size/0.6"`.
        seed: Draws it.
    """
    family, size, cost, *bound = name.split("/")
    layers, choices = SIZES[size]
    generator = np.random.default_rng([seed, *name.encode()])
    assignments = list(itertools.product(choices, repeat=layers))
    lost = FAMILIES[family](generator, np.array(assignments, dtype=float), layers)
    noise = generator.normal(0.0, NOISE, len(assignments))
    accuracies = dict(zip(assignments, np.clip(FULL_PRECISION * (1.0 - lost) + noise, 0.1, 1.0).tolist(), strict=True))
    weights = np.exp(generator.normal(8.0, 1.2, layers)).astype(int) + 16
    problem = Problem.from_function(
        layers,
        list(choices),
        accuracies.__getitem__,
        FULL_PRECISION,
        [
            LayerInfo(f"layer{index}", n=16, c=16, k=3, weights=int(count), macs=int(count) * 64, std=0.1)
            for index, count in enumerate(weights)
        ],
        name=name,
        cost=cost,
        max_cost=float(bound[0]) if bound else None,
        min_relative_accuracy=MIN_RELATIVE_ACCURACY,
    )
    return look_at(problem)


def _single(generator: np.random.Generator, bits: Floats, layers: int) -> tuple[Floats, Floats]:
    """Return the share that a bit leaves of each layer's loss, and those losses, shape `(assignments, layers)`."""
    left = generator.uniform(0.25, 0.5, layers)
    first = np.exp(generator.normal(0.0, 1.0, layers))
    first *= 0.33 / first.sum()
    return left, first * left ** (bits - 1.0)
