"""Objectives: how good an assignment is, from its relative accuracy a and its cost q."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from releq_env.errors import ReLeQError, check_choice

Objective = Callable[[float, float], float]
"""`(a, q) -> objective`, with a the State of Relative Accuracy and q the State of Quantization."""


class ReleasedConstants(NamedTuple):
    """Constants of the reward in the authors' released code, which differ by data set."""

    threshold: float
    A: float
    B: float


def constrained(a: float, q: float, *, min_relative_accuracy: float, A: float = 0.2) -> float:
    """Fewer bits among the assignments that keep the accuracy: `1 - q**A`, in [0, 1).

    Below `min_relative_accuracy` it is `(a - min) / min`, in [-1, 0).
    """
    if a >= min_relative_accuracy:
        return 1.0 - q**A
    return (a - min_relative_accuracy) / min_relative_accuracy


def shaped(a: float, q: float, *, A: float = 0.2, B: float = 0.4, threshold: float = 0.4) -> float:
    """The asymmetric reward of ReLeQ (as we read the paper)."""
    if a < threshold:
        return -1.0
    return (1.0 - q**A) * max(a, threshold) ** (B / max(a, threshold))


def ratio(a: float, q: float) -> float:
    """`a / q` (as we read the paper)."""
    return a / q


def difference(a: float, q: float) -> float:
    """`a - q` (as we read the paper)."""
    return a - q


def released(a: float, q: float, *, smallest: int, largest: int, constants: ReleasedConstants) -> float:
    """The reward in the authors' released code."""
    threshold, A, B = constants
    if a < threshold:
        return -1.0
    x = max(q - smallest / largest, 0.0)
    return 2.0 * ((1.0 - x**A) * max(a, threshold) ** (B / max(a, threshold)) - 0.5)


REWARDS = ("constrained", "shaped", "ratio", "difference", "released")


def make_objective(
    reward: str | Objective,
    *,
    min_relative_accuracy: float,
    bitwidths: Sequence[int],
    max_cost: float | None,
    released_constants: ReleasedConstants,
) -> Objective:
    """Return the objective function.

    Args:
        reward: A name in `REWARDS`, or any `(a, q) -> float`.
        min_relative_accuracy: The accuracy constraint of `constrained`.
        bitwidths: The bitwidths the agent chooses from, ascending.
        max_cost: Upper bound on q, or `None`. Above it the objective is negative, in [-1, 0), and
            lower the further q is above it.
        released_constants: Constants of `released`.

    Raises:
        ReLeQError: If the name is unknown.
    """
    named: dict[str, Objective]
    if callable(reward):
        objective = reward
        _try(objective)
    else:
        check_choice("reward", reward, REWARDS)
        named = {
            "constrained": partial(constrained, min_relative_accuracy=min_relative_accuracy),
            "shaped": shaped,
            "ratio": ratio,
            "difference": difference,
            "released": partial(released, smallest=bitwidths[0], largest=bitwidths[-1], constants=released_constants),
        }
        objective = named[reward]
    return objective if max_cost is None else partial(_bounded, objective=objective, max_cost=max_cost)


def _try(objective: Objective) -> None:
    accepted = "give a function of two numbers, (a, q), that returns a number"
    try:
        value = float(objective(1.0, 1.0))
    except Exception as error:  # a user's function may raise anything
        raise ReLeQError(
            f"reward={objective!r} failed at a=1, q=1 ({type(error).__name__}: {error}); {accepted}"
        ) from error
    if math.isnan(value):
        raise ReLeQError(f"reward={objective!r} is not a number at a=1, q=1; {accepted}")


@overload
def exceeds(q: float, max_cost: float) -> bool: ...


@overload
def exceeds(q: NDArray[np.float64], max_cost: float) -> NDArray[np.bool_]: ...


def exceeds(q: float | NDArray[np.float64], max_cost: float) -> bool | NDArray[np.bool_]:
    """Return whether a cost, or each of several, is above the bound; rounding puts none above it that meets it."""
    return q > max_cost + 1e-9


def _bounded(a: float, q: float, *, objective: Objective, max_cost: float) -> float:
    if exceeds(q, max_cost):
        return min(-(q - max_cost), objective(a, q))
    return objective(a, q)


def check_fraction(name: str, value: object) -> float:
    """Return `value` as a float if it lies in (0, 1].

    Raises:
        ReLeQError: If it does not.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ReLeQError(f"{name}={value!r} is not a number; give one in (0, 1]")
    if not 0.0 < float(value) <= 1.0:
        raise ReLeQError(f"{name}={value!r} is out of range; give a number in (0, 1]")
    return float(value)
