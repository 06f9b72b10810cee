"""What the package raises where there is a mistake in what was given."""

import math
import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

_LARGEST = 2**63  # what torch takes as a seed


class ReLeQError(ValueError):
    """Wrong input: one line that says what was given, what is accepted and how to mend it."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # what libraries beneath say may have several lines


class UnknownArgumentError(ReLeQError, TypeError):
    """An argument that does not exist: a `TypeError` in Python's own words, by which TorchRL, for one, tells it.

    `gym.make` makes a `TypeError` anew with all arguments behind the message: data and network in full.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.partition(" was raised from the environment creator")[0])


def short(given: object) -> str:
    """Return what was given in one line that can be read."""
    text = " ".join(repr(given)[:1000].split())
    return text if len(text) <= 100 else text[:97] + "..."


def check_choice(kind: str, given: object, accepted: Iterable[str]) -> None:
    """Raise if `given` is not one of the accepted names.

    Args:
        kind: What the name stands for, e.g. `"quantizer"`.
        given: The value to check.
        accepted: The names that are accepted.

    Raises:
        ReLeQError: If `given` is not among them.
    """
    names = tuple(accepted)
    if not isinstance(given, str) or given not in names:
        raise ReLeQError(f"unknown {kind} {short(given)}; choose one of: {', '.join(names)}")


def check_whole(name: str, value: Any, least: int, also: str = " to 2**63 - 1") -> int:
    """Return `value` as an integer if it is a whole number from `least` to 2**63 - 1.

    Args:
        name: What it is, for the message.
        value: The value to check.
        least: The smallest that is accepted.
        also: What the message says behind that.

    Raises:
        ReLeQError: If it is something else.
    """
    try:
        whole = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:  # arrays have an `__index__`, too, which raises
        whole = least - 1
    if not least <= whole < _LARGEST:
        raise ReLeQError(f"{name}={short(value)} is not accepted; give a whole number from {least}{also}")
    return whole


def check_fraction(name: str, value: object) -> float:
    """Return `value` as a float if it lies in (0, 1].

    Raises:
        ReLeQError: If it does not.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ReLeQError(f"{name}={short(value)} is not a number; give one in (0, 1]")
    try:
        fraction = float(value)
    except OverflowError:  # a whole number without bound
        fraction = math.inf
    if not 0.0 < fraction <= 1.0:
        raise ReLeQError(f"{name}={short(value)} is out of range; give a number in (0, 1]")
    return fraction


def check_number(
    name: str, value: object, above: float | None = None, most: float | None = None, below: float | None = None
) -> None:
    """Raise if `value` is not a finite number from 0, or within the one bound that is given.

    Args:
        name: What it is, for the message.
        value: The value to check.
        above: What it has to exceed.
        most: The largest that is accepted, beside 0 as the smallest.
        below: What it has to stay below, beside 0 as the smallest.

    Raises:
        ReLeQError: If it is something else.
    """
    fine = isinstance(value, Real) and not isinstance(value, bool)
    try:
        number = float(value) if isinstance(value, Real) else 0.0
    except OverflowError:  # a whole number with hundreds of digits
        number = float("inf")
    if above is not None:
        fine, accepted = fine and above < number < float("inf"), f"a number above {above:g}"
    elif most is not None:
        fine, accepted = fine and 0.0 <= number <= most, f"a number from 0 to {most:g}"
    elif below is not None:
        fine, accepted = fine and 0.0 <= number < below, f"a number from 0, below {below:g}"
    else:
        fine, accepted = fine and 0.0 <= number < float("inf"), "a number from 0"
    if not fine:
        raise ReLeQError(f"{name}={short(value)} is not accepted; give {accepted}")


def check_names(given: Iterable[str], accepted: Sequence[str], who: str) -> None:
    """Raise `UnknownArgumentError` if an argument's name is another than those accepted.

    Args:
        given: Names of arguments.
        accepted: Those that there are.
        who: Got them.
    """
    unknown = sorted(set(given) - set(accepted))
    if unknown:
        raise UnknownArgumentError(
            f"{who} got an unexpected keyword argument {unknown[0]!r}; accepted are: {', '.join(accepted)}"
        )
