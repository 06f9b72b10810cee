"""A retraining seed, or several whose accuracies are averaged."""

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

from releq_env.errors import ReLeQError, check_whole

Seed: TypeAlias = int | tuple[int, ...]
"""One seed; or several, for the mean accuracy over them, at that many times the cost."""


def check_seed(name: str, given: Any) -> Seed:
    """Return what was given as a `Seed`.

    Args:
        name: What it is called.
        given: A whole number from 0, or a sequence of different ones.

    Raises:
        ReLeQError: If it is neither.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        return check_whole(name, given, 0)
    seeds = tuple(check_whole(f"{name}[{index}]", seed, 0) for index, seed in enumerate(given))
    if not seeds or len(set(seeds)) < len(seeds):
        raise ReLeQError(f"{name}={given!r} is not accepted; give a seed, or a tuple of different ones")
    return seeds[0] if len(seeds) == 1 else seeds


def each_seed(seed: Seed) -> tuple[int, ...]:
    """Return the seeds that a `Seed` stands for."""
    return seed if isinstance(seed, tuple) else (operator.index(seed),)
