"""The bitwidths that each layer may have."""

import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from releq_env.errors import ReLeQError, short

Choices = tuple[tuple[int, ...], ...]
"""The bitwidths of each layer, ascending."""


def check_choices(bitwidths: Any, names: Sequence[str], available: Choices, by: str) -> Choices:
    """Return the bitwidths that each layer may have, checked.

    Args:
        bitwidths: One set for all layers, ascending, e.g. `[2, 4, 8]`; or a list of sets, one a layer; or a
            dictionary from a layer's name to its set, where a layer that is not named may have all
            that are available. `None`: all layers may.
        names: The layers' names.
        available: The bitwidths of each layer that there are.
        by: Who has them, for the message.

    Raises:
        ReLeQError: If they do not fit.
    """
    if bitwidths is None:
        return available
    if isinstance(bitwidths, Mapping):
        unknown = [name for name in bitwidths if name not in names]
        if unknown:
            raise ReLeQError(f"bitwidths names the layer {short(unknown[0])}; the layers are {', '.join(names)}")
        given = [bitwidths.get(name, there) for name, there in zip(names, available, strict=True)]
    else:
        given = _listed(bitwidths, "bitwidths", _accepted(available[0], by))
        if not _several(given):
            return tuple(_checked(given, "bitwidths", there, by) for there in available)
        if len(given) != len(names):
            raise ReLeQError(
                f"bitwidths has {len(given)} sets for {len(names)} layers; give one a layer, or one for all"
            )
    return tuple(
        _checked(_listed(of_layer, f"bitwidths of {name}", _accepted(there, by)), f"bitwidths of {name}", there, by)
        for name, of_layer, there in zip(names, given, available, strict=True)
    )


def _several(given: list[Any]) -> bool:
    """Whether these are sets of bitwidths, not bitwidths."""
    return any(isinstance(entry, Iterable) and not isinstance(entry, str) for entry in given)


def _accepted(there: Sequence[int], by: str) -> str:
    whole = list(there) == list(range(there[0], there[-1] + 1))
    which = f"from {there[0]} to {there[-1]}" if whole else f"out of {', '.join(map(str, there))}"
    return f"give ascending, distinct integers {which} ({by})"


def _listed(given: Any, what: str, accepted: str) -> list[Any]:
    try:
        if isinstance(given, Mapping | Set | str):
            raise TypeError
        listed = list(given)
    except TypeError:
        raise ReLeQError(f"{what}={short(given)} is not a list; {accepted}") from None
    if not listed:
        raise ReLeQError(f"{what} is empty; {accepted}")
    return listed


def _checked(given: list[Any], what: str, there: Sequence[int], by: str) -> tuple[int, ...]:
    accepted = _accepted(there, by)
    try:
        if any(isinstance(bits, bool) for bits in given):
            raise TypeError
        values = tuple(map(operator.index, given))
    except TypeError:
        raise ReLeQError(f"{what}={short(given)} are not all integers; {accepted}") from None
    outside = [bits for bits in values if bits not in there]
    if outside:
        raise ReLeQError(f"{what}={short(values)} has {outside[0]}, which {by} does not support; {accepted}")
    if list(values) != sorted(set(values)):
        raise ReLeQError(f"{what}={short(values)} is unsorted or has repeats; {accepted}")
    return values
