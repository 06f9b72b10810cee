"""The speed benchmark's table: medians, the ratios they are measured for, and what is wanted."""

import operator
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from releq_env.report.markdown import table


class Line(NamedTuple):
    """A line of the table.

    Attributes:
        row: The row's letter.
        what: In words.
        measured: Medians, with their unit.
        value: The number that is judged, `None` if there is none.
        spread: The smallest and the largest value of a round.
        wanted: What it is judged by, e.g. `">= 15"`, or nothing.
    """

    row: str
    what: str
    measured: str
    value: float | None = None
    spread: tuple[float, float] | None = None
    wanted: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value is as wanted; `None` if nothing is."""
        if self.value is None or not self.wanted:
            return None
        sign, limit = self.wanted.split()
        return {">=": operator.ge, "<=": operator.le}[sign](self.value, float(limit.replace(",", "")))


def ratio(
    row: str, what: str, above: Sequence[float], below: Sequence[float], wanted: str = "", unit: str = "s"
) -> Line:
    """Judge the ratio of medians; the spread is that of the ratios within a round.

    Args:
        row: The row's letter.
        what: In words.
        above: One value a round.
        below: Likewise; nothing if the two cannot be compared.
        wanted: What the ratio is judged by.
        unit: Of both; `"ms"` where they are given in seconds.
    """
    if not below:
        return Line(row, what, median(above, unit), wanted=wanted)
    value = statistics.median(above) / statistics.median(below)
    rounds = [a / b for a, b in zip(above, below, strict=True)]
    measured = f"{median(above, unit)} / {median(below, unit)}"
    return Line(row, what, measured, value, (min(rounds), max(rounds)), wanted)


def plain(row: str, what: str, values: Sequence[float], wanted: str = "") -> Line:
    """Judge the median of what was measured."""
    value = statistics.median(values)
    return Line(row, what, _short(value), value, (min(values), max(values)), wanted)


def median(values: Sequence[float], unit: str) -> str:
    """Return the median in words; `"ms"`: of seconds."""
    return f"{_short(statistics.median(values) * (1000 if unit == 'ms' else 1))} {unit}"


def markdown(lines: Sequence[Line]) -> str:
    """Return the table."""
    header = ("row", "what", "median", "value", "over the rounds", "wanted", "met")
    return table(header, map(_cells, lines))


def _cells(line: Line) -> tuple[str, ...]:
    spread = "" if line.spread is None else f"{_short(line.spread[0])} to {_short(line.spread[1])}"
    met = {None: "", True: "yes", False: "no"}[line.met]
    value = "" if line.value is None else _short(line.value)
    return line.row, line.what, line.measured, value, spread, line.wanted, met


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
