"""Taking values out of files that anybody may have written."""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from releq_env.errors import ReLeQError, short

LARGEST_FILE = 256 * 2**20  # bytes
_LONGEST_TEXT = 20_000


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong in reading a file into one line that names it."""
    try:
        yield
    except ReLeQError:
        raise
    except (OSError, RecursionError, csv.Error, KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ReLeQError(
            f"{path} cannot be reported: it is damaged ({what[:300]}); make the run again, or go on with it (--resume)"
        ) from error


def read_text(path: Path) -> str:
    """Return what a file holds, if it is an ordinary one of a size that can be."""
    if not path.is_file():
        raise ValueError("not an ordinary file")
    if path.stat().st_size > LARGEST_FILE:
        raise ValueError(f"larger than {LARGEST_FILE} bytes")
    return path.read_text(encoding="utf-8")


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the dictionary that a file holds."""
    return mapping(json.loads(read_text(path)), "the file")


def read_table(path: Path, columns: Iterable[str], header_lines: int = 0) -> list[dict[str, str]]:
    """Return the whole lines of a CSV file: a kill may have cut the last one short.

    Args:
        path: The file.
        columns: That it must have.
        header_lines: How many lines stand above the columns' names.
    """
    text = read_text(path)
    whole = text[: text.rfind("\n") + 1]
    if not text:
        return []
    reader = csv.DictReader(whole.splitlines()[header_lines:], strict=True)
    missing = set(columns).difference(reader.fieldnames or ())
    if missing:
        raise ValueError(f"it has no column {min(missing)}")
    rows = list(reader)
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"the line {short(list(row.values()))} has not as many fields as the header")
    return rows


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Return a dictionary."""
    return _kind(value, dict, what, "a dictionary")


def sequence(value: Any, what: str, length: int | None = None) -> list[Any]:
    """Return a list, of that length if one is given."""
    found: list[Any] = _kind(value, list, what, "a list")
    if length is not None and len(found) != length:
        raise ValueError(f"{what} has {len(found)} entries, not {length}")
    return found


def text(value: Any, what: str) -> str:
    """Return a text that can be written."""
    found: str = _kind(value, str, what, "a text")
    if len(found) > _LONGEST_TEXT:
        raise ValueError(f"{what} is a text of {len(found)} characters")
    found.encode()  # half a surrogate pair is no character
    return found


def flag(value: Any, what: str) -> bool:
    """Return a truth value."""
    return bool(_kind(value, bool, what, "true or false"))


def whole(value: Any, what: str, least: int = 0, most: int = 2**62) -> int:
    """Return a whole number in a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{what} is {short(value)}, not a whole number from {least} to {most}")
    return value


def number(value: Any, what: str, least: float = 0.0, most: float = 1e15) -> float:
    """Return a number in a range; NaN is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{what} is {short(value)}, not a number from {least:g} to {most:g}")
    return float(value)


def known_number(value: Any, what: str) -> float:
    """Return a finite number of any sign, or NaN for `None`, as JSON has it."""
    return math.nan if value is None else number(value, what, -1e15, 1e15)


def bitwidths(value: Any, choices: tuple[tuple[int, ...], ...], what: str) -> tuple[int, ...]:
    """Return an assignment of bitwidths, each among the layer's choices."""
    found = tuple(whole(bits, what, 1, 32) for bits in sequence(value, what, len(choices)))
    for bits, of_layer in zip(found, choices, strict=True):
        if bits not in of_layer:
            raise ValueError(f"{what} has {bits} bits for a layer whose choices are {short(of_layer)}")
    return found


def _kind(value: Any, kind: type, what: str, called: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{what} is {short(value)}, not {called}")
    return value
