"""The speed benchmark's numbers as a table: medians, the ratios they are measured for, and what is wanted."""

import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Series = Mapping[str, Sequence[float]]
_OURS = "f/lenet/two"
_SETTINGS = {"fp32": "fp32, as its guide trains", "tuned": "with bf16 and channels last, our doing"}


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


def summary(series: Series) -> list[Line]:
    """Return the lines for everything that was measured."""
    return [line for part in _PARTS for line in part(series)]


def markdown(lines: Sequence[Line], notes: Mapping[str, str]) -> str:
    """Return the table, and the notes beneath it."""
    header = ("row", "what", "median", "value", "over the rounds", "wanted", "met")
    cells = [header, *(_cells(line) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    text = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*text, *(["", *(f"- {row}: {note}" for row, note in notes.items())] if notes else [])])


def _cells(line: Line) -> tuple[str, ...]:
    spread = "" if line.spread is None else f"{_short(line.spread[0])} to {_short(line.spread[1])}"
    met = {None: "", True: "yes", False: "no"}[line.met]
    value = "" if line.value is None else _short(line.value)
    return line.row, line.what, line.measured, value, spread, line.wanted, met


def _general(series: Series) -> list[Line]:
    ours = series.get(_OURS)
    lines = [] if not ours else [Line("ours", "MNIST, 2 one-thread workers, amortised", _seconds(ours))]
    for row, what, wanted in (
        ("a", "published way, a fresh process / ours", ">= 15"),
        ("b", "the same in one process / ours", ">= 8"),
    ):
        if theirs := series.get(f"{row}/seconds"):
            lines.append(_against(row, what, theirs, ours, wanted))
    for setting, how in _SETTINGS.items():
        peers = {
            name.split("/")[1]: values
            for name, values in series.items()
            if name.startswith("c/") and name.endswith(f"/{setting}/seconds")
        }
        # The libraries are judged as they are used; what our layout and bf16 would do for them is shown.
        faster = min(peers, key=lambda peer: statistics.median(peers[peer]), default=None)
        lines += [
            _against("c", f"{peer} ({how}) / ours", theirs, ours, ">= 3" if (peer, setting) == (faster, "fp32") else "")
            for peer, theirs in peers.items()
        ]
    return lines


def _against(row: str, what: str, theirs: Sequence[float], ours: Sequence[float] | None, wanted: str) -> Line:
    if not ours:
        return Line(row, what, _seconds(theirs), wanted=wanted)
    return _ratio(row, what, f"{_seconds(theirs)} / {_seconds(ours)}", theirs, ours, wanted)


def _steps(series: Series) -> list[Line]:
    lines = []
    for network in _networks(series, "d/", "/plain"):
        plain, quantized = series[f"d/{network}/plain"], series[f"d/{network}/quantized"]
        medians = f"{_milliseconds(quantized)} / {_milliseconds(plain)}"
        lines.append(
            _ratio("d", f"{network}: quantized step / full-precision step", medians, quantized, plain, "<= 1.10")
        )
    return lines


def _peaks(series: Series) -> list[Line]:
    lines = []
    for precision in ("fp32", "bf16"):
        peak = series.get(f"e/peak/{precision}")
        if not peak:
            continue
        lines.append(Line("e", f"GEMM peak, {precision}, 2 processes", f"{statistics.median(peak):,.0f} GFLOP/s"))
        for network in _networks(series, "e/", f"/{precision}"):
            reached = series[f"e/{network}/{precision}"]
            wanted = ">= 0.25" if (network, precision) == ("svhn8", "bf16") else ""
            medians = f"{statistics.median(reached):,.0f} GFLOP/s"
            if network != "peak":
                lines.append(
                    _ratio("e", f"{network}: retraining, share of {precision} peak", medians, reached, peak, wanted)
                )
    return lines


def _workers(series: Series) -> list[Line]:
    lines = []
    for network in _networks(series, "f/", "/two"):
        one, two = series[f"f/{network}/one"], series[f"f/{network}/two"]
        medians = f"{_seconds(one)} / {_seconds(two)}"
        lines.append(_ratio("f", f"{network}: 2 one-thread workers, throughput of one", medians, one, two, ">= 1.8"))
    return lines


def _lookups(series: Series) -> list[Line]:
    lines = []
    for where in ("memory", "file"):
        if values := [1000 * seconds for seconds in series.get(f"g/{where}", ())]:
            lines.append(_plain("g", f"cached evaluation, from the {where}, ms", values, "<= 0.2"))
    for name, what, wanted in (
        ("env", "env steps a second, dictionary evaluator, unwrapped", ">= 20,000"),
        ("env as made", "the same through gym.make's wrappers and checker", ""),
        ("vector", "64 vector environments, steps a second", ">= 200,000"),
    ):
        if rates := series.get(f"g/{name}"):
            lines.append(_plain("g", what, rates, wanted))
    return lines


def _memory(series: Series) -> list[Line]:
    wanted = {"m/env": "<= 1.5", "m/worker private": "<= 0.6"}
    return [
        _plain("m", f"CIFAR-10, {name.removeprefix('m/')}, GB", values, wanted.get(name, ""))
        for name, values in series.items()
        if name.startswith("m/")
    ]


_PARTS: tuple[Callable[[Series], list[Line]], ...] = (_general, _steps, _peaks, _workers, _lookups, _memory)


def _networks(series: Series, before: str, after: str) -> list[str]:
    return [
        name.removeprefix(before).removesuffix(after)
        for name in series
        if name.startswith(before) and name.endswith(after)
    ]


def _ratio(row: str, what: str, medians: str, above: Sequence[float], below: Sequence[float], wanted: str) -> Line:
    """Judge the ratio of medians; the spread is that of the ratios within a round."""
    value = statistics.median(above) / statistics.median(below)
    rounds = [a / b for a, b in zip(above, below, strict=True)]
    return Line(row, what, medians, value, (min(rounds), max(rounds)), wanted)


def _plain(row: str, what: str, values: Sequence[float], wanted: str) -> Line:
    value = statistics.median(values)
    return Line(row, what, _short(value), value, (min(values), max(values)), wanted)


def _seconds(values: Sequence[float]) -> str:
    return f"{_short(statistics.median(values))} s"


def _milliseconds(values: Sequence[float]) -> str:
    return f"{_short(1000 * statistics.median(values))} ms"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
