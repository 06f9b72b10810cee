"""The best-so-far curve of a run: packed, and what is read off it."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from releq_env.errors import ReLeQError, short

Curve = tuple[tuple[int, float], ...]
"""Each improvement: after how many distinct evaluations, and the best reward from then on; by rising numbers."""


def improvements(rewards: Iterable[float]) -> Curve:
    """Return the curve of a run.

    Args:
        rewards: The reward of the best assignment after each distinct evaluation, the first one's first.
    """
    curve: list[tuple[int, float]] = []
    for number, reward in enumerate(rewards, 1):
        if not curve or reward != curve[-1][1]:
            curve.append((number, reward))
    return tuple(curve)


def pack(curve: Curve) -> str:
    """Return a curve as it stands in a file: `"1:-0.25 7:0.3"`."""
    return " ".join(f"{number}:{reward:.9g}" for number, reward in curve)


def unpack(text: str) -> Curve:
    """Return the curve that stands in a file.

    Raises:
        ReLeQError: If it is none.
    """
    try:
        pairs = [part.split(":") for part in text.split()]
        curve = tuple((int(number), float(reward)) for number, reward in pairs)
        numbers = [number for number, _ in curve]
        if not curve or numbers[0] < 1 or numbers != sorted(set(numbers)):
            raise ValueError
    except ValueError:
        raise ReLeQError(f"{short(text)} is no curve; give rising 'number:reward' pairs") from None
    return curve


def at(curve: Curve, numbers: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the best reward after each number of distinct evaluations; the last best counts to the end.

    Args:
        curve: Of the run.
        numbers: Each at least that of the curve's first point (a run's first evaluation is number 1).
    """
    points = np.array([number for number, _ in curve])
    rewards = np.array([reward for _, reward in curve])
    found: NDArray[np.float64] = rewards[np.searchsorted(points, numbers, side="right") - 1]
    return found


def area(curve: Curve, budget: int) -> float:
    """Return the mean of the best reward over 1 to `budget` distinct evaluations: the area under the curve."""
    return float(at(curve, np.arange(1, budget + 1)).mean())


def first_at(curve: Curve, reward: float, tolerance: float = 1e-7) -> int | None:
    """Return after how many distinct evaluations a reward was reached; `None` if it never was."""
    return next((number for number, best in curve if best >= reward - tolerance), None)
