"""What was measured, record by record: checked, sorted, without repeats."""

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from releq_env.choices import Choices, check_choices
from releq_env.errors import ReLeQError, short

BITWIDTHS = tuple(range(1, 33))
"""Those that a table may hold."""


class Records(NamedTuple):
    """Measured accuracies, a row an assignment.

    Attributes:
        bitwidths: Distinct assignments in lexicographic order, uint8, shape `(rows, layers)`.
        seeds: The retraining seeds, ascending.
        accuracy: Shape `(seeds, rows)`; NaN where an assignment was not measured with a seed.
    """

    bitwidths: NDArray[np.uint8]
    seeds: tuple[int, ...]
    accuracy: NDArray[np.float64]


def check_records(bitwidths: ArrayLike, accuracy: ArrayLike, seeds: int | ArrayLike) -> Records:
    """Return records as arrays. A repeated record counts once.

    Args:
        bitwidths: Assignments, shape `(records, layers)`, integers from 1 to 32.
        accuracy: Of each, in [0, 1], shape `(records,)`.
        seeds: The retraining seed of each, shape `(records,)`, or one for all.

    Raises:
        ReLeQError: If they do not fit, or two records of the same assignment and seed contradict each other.
    """
    bits = _array("bitwidths", bitwidths, "iu", "integers, one row a record and one column a layer")
    values = _array("accuracy", accuracy, "iuf", "numbers in [0, 1], one a record").astype(np.float64)
    if bits.ndim != 2 or 0 in bits.shape:
        raise ReLeQError(f"bitwidths has the shape {bits.shape}; give one row a record and one column a layer")
    if values.shape != bits.shape[:1]:
        raise ReLeQError(f"accuracy has the shape {values.shape} for {len(bits)} records; give one number a record")
    outside = np.flatnonzero(((bits < BITWIDTHS[0]) | (bits > BITWIDTHS[-1])).any(axis=1))
    if len(outside):
        raise ReLeQError(f"the assignment {short(bits[outside[0]].tolist())} has bitwidths that are not in 1 to 32")
    wrong = np.flatnonzero(~((values >= 0.0) & (values <= 1.0)))  # NaN is among them
    if len(wrong):
        first = int(wrong[0])
        said = f"the accuracy of {short(tuple(bits[first].tolist()))} is {float(values[first])!r}"
        raise ReLeQError(f"{said}; give numbers in [0, 1]")
    of_record = _seeds(seeds, len(bits))
    order = np.lexsort((of_record, *bits.T[::-1]))
    bits, of_record, values = bits[order].astype(np.uint8), of_record[order], values[order]
    new_row = np.ones(len(bits), dtype=np.bool_)
    new_row[1:] = (bits[1:] != bits[:-1]).any(axis=1)
    again = np.flatnonzero(~new_row[1:] & (of_record[1:] == of_record[:-1])) + 1
    contradicting = again[values[again] != values[again - 1]]
    if len(contradicting):
        last = int(contradicting[0])
        which = f"{tuple(bits[last].tolist())} with the seed {of_record[last]}"
        raise ReLeQError(f"two records of {which} say {values[last - 1]} and {values[last]}; give one of them")
    columns, column = np.unique(of_record, return_inverse=True)
    known = np.full((len(columns), int(new_row.sum())), np.nan)
    known[column, np.cumsum(new_row) - 1] = values
    kept = bits[new_row]
    for array in (kept, known):
        array.flags.writeable = False
    return Records(kept, tuple(columns.tolist()), known)


def check_table_choices(choices: Any, names: Sequence[str], bitwidths: NDArray[np.uint8]) -> Choices:
    """Return the bitwidths that each layer may have; without `choices` those that occur.

    Raises:
        ReLeQError: If they are no bitwidths, or a record has another one.
    """
    occurring = [tuple(np.unique(column).tolist()) for column in bitwidths.T]
    if choices is None:
        return tuple(occurring)
    checked = check_choices(choices, names, (BITWIDTHS,) * len(names), "a table")
    for name, accepted, found in zip(names, checked, occurring, strict=True):
        if not set(found) <= set(accepted):
            other = min(set(found) - set(accepted))
            raise ReLeQError(f"a record has {other} bits for {name}; its choices are {', '.join(map(str, accepted))}")
    return checked


def _array(name: str, given: Any, kinds: str, accepted: str) -> NDArray[Any]:
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):  # rows of different lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in kinds:
        raise ReLeQError(f"{name}={short(given)} does not fit; give {accepted}")
    return array


def _seeds(given: int | ArrayLike, count: int) -> NDArray[np.int64]:
    accepted = "one whole number from 0, or one a record"
    try:
        seeds = np.full(count, operator.index(given), dtype=np.int64)  # type: ignore[arg-type]  # or TypeError
    except TypeError:
        seeds = _array("seeds", given, "iu", accepted).astype(np.int64)
    except OverflowError:
        seeds = np.empty(0, dtype=np.int64)
    if isinstance(given, bool) or seeds.shape != (count,) or seeds.min() < 0:
        raise ReLeQError(f"seeds={short(given)} does not fit {count} records; give {accepted}")
    return seeds
