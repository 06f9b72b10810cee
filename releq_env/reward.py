"""Objectives: how good an assignment is, from its relative accuracy a and its cost q."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from releq_env.errors import ReLeQError, check_choice

Objective = Callable[[float, float], float]
"""`(a, q) -> objective`, with a the State of Relative Accuracy and q the State of Quantization."""


_ROUNDING = 1e-9  # costs closer than this are the same


class ReleasedConstants(NamedTuple):
    """Constants of the reward in the authors' released code, which differ by data set."""

    threshold: float
    A: float
    B: float


LENET_CONSTANTS = ReleasedConstants(threshold=0.8, A=0.6, B=3.0)


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


def released(a: float, q: float, *, cheapest: float, constants: ReleasedConstants) -> float:
    """The reward in the authors' released code; they have `b_min / b_max` for the cost of the cheapest assignment."""
    threshold, A, B = constants
    if a < threshold:
        return -1.0
    x = max(q - cheapest, 0.0)
    if x < _ROUNDING:
        x = 0.0  # a small power would make much of it
    return 2.0 * ((1.0 - x**A) * max(a, threshold) ** (B / max(a, threshold)) - 0.5)


@dataclass(frozen=True)
class RewardSettings:
    """What a reward may depend on besides a and q.

    Attributes:
        min_relative_accuracy: The accuracy constraint, in (0, 1].
        cheapest: q of the cheapest assignment, in (0, 1].
        released_constants: Constants of `released`.
    """

    min_relative_accuracy: float
    cheapest: float
    released_constants: ReleasedConstants


REWARDS: dict[str, Callable[[RewardSettings], Objective]] = {
    "constrained": lambda settings: partial(constrained, min_relative_accuracy=settings.min_relative_accuracy),
    "shaped": lambda settings: shaped,
    "ratio": lambda settings: ratio,
    "difference": lambda settings: difference,
    "released": lambda settings: partial(released, cheapest=settings.cheapest, constants=settings.released_constants),
}
"""By name: settings -> objective. Add one of your own and its name is accepted as `reward=`."""


def check_reward(reward: object) -> None:
    """Raise `ReLeQError` if this is neither a name in `REWARDS` nor a function of two numbers that gives one."""
    if callable(reward):
        _try(reward)
    else:
        check_choice("reward", reward, REWARDS)


def make_objective(reward: str | Objective, settings: RewardSettings, max_cost: float | None = None) -> Objective:
    """Return the objective function.

    Args:
        reward: A name in `REWARDS`, or any `(a, q) -> float`.
        settings: What a named one depends on.
        max_cost: Upper bound on q, or `None`. Above it the objective is `min(objective, -1) - (q - max_cost)`: lower
            than any at or above -1, and lower the further q is above the bound.

    Raises:
        ReLeQError: If the name is unknown, or the function fails.
    """
    check_reward(reward)
    objective = reward if callable(reward) else REWARDS[reward](settings)
    return objective if max_cost is None else partial(_bounded, objective=objective, max_cost=max_cost)


def _try(objective: Callable[..., object]) -> None:
    accepted = "give a function of two numbers, (a, q), that returns a number"
    try:
        value = float(objective(1.0, 1.0))  # type: ignore[arg-type]  # what it returns is checked here
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
    return q > max_cost + _ROUNDING


def check_max_cost(max_cost: float | None, cheapest: float) -> None:
    """Check that the bound on the cost can be met.

    Args:
        max_cost: Upper bound on the State of Quantization, or `None`.
        cheapest: The State of Quantization of the cheapest assignment.

    Raises:
        ReLeQError: If it is above the bound.
    """
    if max_cost is not None and exceeds(cheapest, max_cost):
        raise ReLeQError(
            f"max_cost={max_cost!r} cannot be met: the cheapest assignment costs {cheapest:.4f}; "
            f"give a number in [{math.ceil(cheapest * 1e4) / 1e4:.4f}, 1]"
        )


def _bounded(a: float, q: float, *, objective: Objective, max_cost: float) -> float:
    value = objective(a, q)
    return min(value, -1.0) - (q - max_cost) if exceeds(q, max_cost) else value
