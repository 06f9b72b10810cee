"""The page of the comparison, from its rows alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.vendors.registry import OURS, VENDORS
from benchmarks.vendors.rows import Chosen, Retrained
from releq_env.finalizing.progress import counted
from releq_env.finalizing.result import interval_of_difference
from releq_env.report.markdown import table

_HEADER = (
    "bits a weight, at most", "tool", "bits of the layers", "a layer", "a weight", "packed file", "own file", "as ONNX",
    "accuracy, %", "loss, points", "seconds", "ours beside it",
)  # fmt: skip
EQUAL = 0.25
"""Percentage points within which accuracies are called equal."""
_HOW = """Made by `python -m benchmarks.vendors`; `--report` makes this page again from `choices.csv` and `finals.csv`.

Each tool gives every layer a bitwidth, within so many bits a weight on average. Every answer then goes through the same
final retraining with our quantizer.

- *Packed file*: bytes of our file of the retrained network. *As ONNX*: of our ONNX file of the same.
- *Own file*: bytes of what the tool itself writes. {files}.
- *Accuracy*: on test data, read once at the end; mean and standard deviation over the seeds. *Loss*: against the
  control, the better of the full-precision network and the same retrained likewise with the same seeds; with a 95 %
  interval (Welch's).
- *Seconds*: of choosing; importing the tool does not count.
- *Ours beside it*: our answer to the same budget: its packed file, and its accuracy less the other one's in points,
  with a 95 % interval (Welch's, over the seeds). Within {equal} points, accuracies are called equal."""


Finals = Mapping[object, Retrained]
"""By their key."""


class Difference(NamedTuple):
    """Of two assignments' accuracies.

    Attributes:
        points: The first less the second, in percentage points.
        low: Lower end of its 95 % interval (Welch 1947); `points` itself where there is one seed, or all agree.
        high: Upper end.
    """

    points: float
    low: float
    high: float


def report(choices: Iterable[Chosen], finals: Finals) -> str:
    """Return the page, as Markdown."""
    choices = [row for row in choices if row.vendor in VENDORS]
    asked = [name for name in VENDORS if any(row.vendor == name for row in choices)]
    files = "; ".join(f"{VENDORS[name].label}: {VENDORS[name].file}" for name in asked)
    parts = ["# Beside the vendors' tools", _HOW.format(files=files, equal=EQUAL)]
    for network, weights in dict.fromkeys((row.network, row.weights) for row in choices):
        of_network = [row for row in choices if (row.network, row.weights) == (network, weights)]
        done = [row for row in finals.values() if row.key[:2] == (network, weights)]
        parts += [f"## {network}", _made(of_network, done), _table(of_network, finals), *_verdicts(of_network, finals)]
    return "\n\n".join(parts) + "\n"


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Return by how much the first accuracies are higher.

    Args:
        ours: In percentage points, one a seed.
        theirs: Likewise.
    """
    points = float(np.mean(ours) - np.mean(theirs))
    return Difference(points, *(interval_of_difference(ours, theirs) or (points, points)))


def beside(ours: Retrained | None, theirs: Retrained) -> str:
    """Return in words how our answer stands beside another one to the same budget."""
    if ours is None:
        return "not retrained yet"
    if ours.bitwidths == theirs.bitwidths:
        return "the same answer"
    bytes_ = (
        f"{theirs.packed_bytes / ours.packed_bytes:.2f} times smaller"
        if ours.packed_bytes < theirs.packed_bytes
        else f"{ours.packed_bytes / theirs.packed_bytes:.2f} times larger"
        if ours.packed_bytes > theirs.packed_bytes
        else "as large"
    )
    found = _difference(ours, theirs)
    said = "equally accurate, " if abs(found.points) <= EQUAL else ""
    within = f" ({found.low:+.2f} to {found.high:+.2f})" if found.low < found.high else ""
    return f"{bytes_}, {said}{found.points:+.2f}{within}"


def wins(ours: Retrained, theirs: Retrained) -> bool:
    """Return whether our answer is smaller, and not less accurate."""
    return ours.packed_bytes < theirs.packed_bytes and _difference(ours, theirs).points >= -EQUAL


def _difference(ours: Retrained, theirs: Retrained) -> Difference:
    return difference(_points(ours.accuracies), _points(theirs.accuracies))


def _made(choices: Sequence[Chosen], finals: Sequence[Retrained]) -> str:
    tools = dict.fromkeys(f"{VENDORS[row.vendor].label} {row.version}" for row in choices)
    machines = dict.fromkeys([row.machine for row in choices] + [row.machine for row in finals])
    said = [", ".join(tools), f"Measured on: {'; '.join(machines)}"]
    if finals:
        first = finals[0]
        said += [
            f"Data: {first.data}",
            f"Final retraining: {counted(first.epochs, 'epoch')}, seeds {first.seeds.replace(' ', ', ')}",
            f"Full precision: {first.full_precision_bytes:,} bytes, {_spread(_points(first.control_accuracies))} % "
            f"({first.control})",
        ]
    return ". ".join(said) + "."


def _table(choices: Sequence[Chosen], finals: Finals) -> str:
    ours = {row.budget: _final(row, finals) for row in choices if row.vendor == OURS}
    order = list(VENDORS)
    lines = []
    for row in sorted(choices, key=lambda row: (-row.budget, order.index(row.vendor))):
        start = [f"{row.budget:g}", VENDORS[row.vendor].label]
        final = _final(row, finals)
        if not row.bitwidths:
            lines.append([*start, f"none: {row.note}", *[""] * (len(_HEADER) - 3)])
            continue
        cells = [*start, row.bitwidths, f"{row.average_bits:.2f}", f"{row.weighted_bits:.2f}"]
        cells += [f"{final.packed_bytes:,}" if final else "", f"{row.file_bytes:,}"]
        cells += [f"{final.onnx_bytes:,}" if final and final.onnx_bytes else ""]
        cells += [_accuracy(final), _loss(final)] if final else ["", ""]
        cells += [f"{row.seconds:.0f}"]
        cells += [beside(ours.get(row.budget), final) if final and row.vendor != OURS else ""]
        lines.append(cells)
    return table(_HEADER, lines, aligned=False)


def _verdicts(choices: Sequence[Chosen], finals: Finals) -> list[str]:
    """Return how often ours is smaller at equal accuracy, and where it is not."""
    ours = {row.budget: _final(row, finals) for row in choices if row.vendor == OURS}
    pairs = [
        (row, mine, final)
        for row in choices
        if row.vendor != OURS and (final := _final(row, finals)) and (mine := ours.get(row.budget))
    ]
    if not pairs:
        return []
    different = [pair for pair in pairs if pair[1].bitwidths != pair[2].bitwidths]
    lost = [
        f"- {row.budget:g} bits, {VENDORS[row.vendor].label}: {beside(mine, final)}"
        for row, mine, final in different
        if not wins(mine, final)
    ]
    text = (
        f"Ours is smaller, at equal or higher accuracy, than {len(different) - len(lost)} of {len(pairs)} answers, and "
        f"the same as {len(pairs) - len(different)}."
    )
    return [text, *(["Not so:\n\n" + "\n".join(lost)] if lost else [])]


def _final(row: Chosen, finals: Finals) -> Retrained | None:
    return finals.get((row.network, row.weights, row.bitwidths))


def _accuracy(final: Retrained) -> str:
    return _spread(_points(final.accuracies))


def _loss(final: Retrained) -> str:
    found = difference(_points(final.control_accuracies), _points(final.accuracies))
    return f"{found.points:.2f}" + (f" ({found.low:.2f} to {found.high:.2f})" if found.low < found.high else "")


def _points(accuracies: str) -> list[float]:
    return [100.0 * float(accuracy) for accuracy in accuracies.split()]


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")
