"""How fast evaluating is, beside everything it is compared with, in one run.

    python -m benchmarks.speed

Every row is measured once a round, round after round, so that whatever else the machine does meets all of
them; the table has medians. Let the machine do nothing else meanwhile. MNIST and CIFAR-10 are looked for as
by the environment (`RELEQ_DATA`); `--random-data` does without. The raw numbers go to a JSON file.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.common import machine
from benchmarks.common.recording import RESULTS, command, positive, write
from benchmarks.common.stand_ins import NETWORKS
from benchmarks.speed import (
    ablation,
    fresh_process,
    libraries,
    lookups,
    memory,
    one_process,
    quantizing,
    share_of_peak,
    workers,
)
from benchmarks.speed.measuring import Options, Reading, Row
from benchmarks.speed.table import Line, markdown

_ROWS: tuple[Row, ...] = (
    fresh_process,
    one_process,
    libraries,
    quantizing,
    share_of_peak,
    workers,
    lookups,
    ablation,
    memory,
)
ROWS = {row.LETTER: row for row in _ROWS}


def run(options: Options, rows: Sequence[str]) -> list[Reading]:
    """Measure the rows in turn, round after round."""
    with contextlib.ExitStack() as stack:
        measures = [
            stack.enter_context(ROWS[row].measuring(options)) for row in tqdm(rows, desc="starting", unit="row")
        ]
        return [
            reading
            for number in tqdm(range(options.rounds), desc="measuring", unit="round")
            for measure in measures
            for reading in measure(number)
        ]


def summary(readings: Sequence[Reading]) -> list[Line]:
    """Return the lines for everything that was measured."""
    return [line for row in ROWS.values() for line in row.lines(readings)]


def repetitions(readings: Sequence[Reading]) -> list[dict[str, object]]:
    """Return what was measured, JSON-able: the fields of the readings, and of all rounds their values."""
    series: dict[Reading, list[float]] = {}
    for reading in readings:
        series.setdefault(reading._replace(value=0.0), []).append(reading.value)
    return [
        {name: field for name, field in what._asdict().items() if name != "value"} | {"values": found}
        for what, found in series.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the JSON."""
    default = Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=main.__doc__)
    parser.add_argument("--rounds", type=positive, default=default.rounds, help="repetitions (default: %(default)s)")
    parser.add_argument("--images", type=positive, default=default.images, help="of a retraining (%(default)s)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="for rows d, e, f and h")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="a, b and c are compared with f")
    parser.add_argument("--random-data", action="store_true", help="random images, to try the program without data")
    parser.add_argument("--output", type=Path, default=RESULTS / "speed.json", help="the JSON file")
    args = parser.parse_args(argv)
    args.networks = tuple(network for network in NETWORKS if network in args.networks)
    args.rows = [row for row in ROWS if row in args.rows]
    arguments = {name: value for name, value in vars(args).items() if name != "output"}
    options = Options(args.rounds, args.images, args.networks, args.random_data)
    begun = time.perf_counter()
    readings = run(options, args.rows)
    found = summary(readings)
    about = machine.describe()
    write(
        args.output,
        {
            "command": command("benchmarks.speed", arguments),
            "machine": about,
            "seconds": round(time.perf_counter() - begun),
            **arguments,
            "notes": [note._asdict() for note in options.notes],
            "lines": [line._asdict() | {"met": line.met} for line in found],
            "repetitions": repetitions(readings),
        },
    )
    notes = "".join(f"\n- {row}, {what}: {text}" for row, what, text in options.notes)
    print(
        f"{about['processor']}, {about['cores']} cores, torch with {about['threads']} threads, "
        f"{options.rounds} rounds\n\n{markdown(found)}\n{notes}"
    )
    print(f"written: {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
