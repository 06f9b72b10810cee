"""How fast evaluating is, beside everything it is compared with, in one run.

    python -m benchmarks.speed

Every row is measured once a round, round after round, so that whatever else the machine does meets all of
them; the table has medians. Let the machine do nothing else meanwhile. MNIST and CIFAR-10 are looked for as
by the environment (`RELEQ_DATA`); `--random-data` does without. The raw numbers go to a JSON file.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks import machine
from benchmarks.arithmetic import quantizing, share_of_peak
from benchmarks.general_loops import fresh_process, one_process
from benchmarks.lookups import lookups
from benchmarks.measuring import NETWORKS, Measure, Options, positive
from benchmarks.memory import memory
from benchmarks.peers import libraries
from benchmarks.speed_table import markdown, summary
from benchmarks.throughput import workers
from releq_env.files import replace_file

RESULTS = Path(__file__).parent / "results" / "speed.json"
ROWS: dict[str, Callable[[Options], contextlib.AbstractContextManager[Measure]]] = {
    "a": fresh_process,
    "b": one_process,
    "c": libraries,
    "d": quantizing,
    "e": share_of_peak,
    "f": workers,
    "g": lookups,
    "m": memory,
}


def run(options: Options, rows: Sequence[str]) -> dict[str, list[float]]:
    """Measure the rows in turn, round after round.

    Returns:
        Every measured number's values, one a round.
    """
    series: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        measures = {}
        for row in tqdm(rows, desc="starting", unit="row"):
            measures[row] = stack.enter_context(ROWS[row](options))
        for number in tqdm(range(options.rounds), desc="measuring", unit="round"):
            for measure in measures.values():
                for name, value in measure(number).items():
                    series.setdefault(name, []).append(value)
    return series


def record(options: Options, rows: Sequence[str], series: Mapping[str, Sequence[float]], seconds: float) -> str:
    """Return the run as JSON: how it was made, every repetition, and the table."""
    lines = summary(series)
    return json.dumps(
        {
            "command": command(options, rows),
            "machine": machine.describe(),
            "seconds": round(seconds),
            "images": options.images,
            "random_data": options.random_data,
            "notes": options.notes,
            "rows": [line._asdict() | {"met": line.met} for line in lines],
            "repetitions": series,
        },
        indent=2,
    )


def command(options: Options, rows: Sequence[str]) -> str:
    """Return the command that measures the same."""
    parts = ["python -m benchmarks.speed", f"--rounds {options.rounds}", f"--images {options.images}"]
    parts += [f"--networks {' '.join(options.networks)}", f"--rows {' '.join(rows)}"]
    return " ".join(parts + ["--random-data"] * options.random_data)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the JSON."""
    default = Options()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=main.__doc__)
    parser.add_argument("--rounds", type=positive, default=default.rounds, help="repetitions (default: %(default)s)")
    parser.add_argument("--images", type=positive, default=default.images, help="of a retraining (%(default)s)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="for rows d, e and f")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="a, b and c are compared with f")
    parser.add_argument("--random-data", action="store_true", help="random images, to try the program without data")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the JSON file")
    args = parser.parse_args(argv)
    networks = tuple(network for network in NETWORKS if network in args.networks)
    options = Options(args.rounds, args.images, networks, args.random_data)
    rows = [row for row in ROWS if row in args.rows]
    begun = time.perf_counter()
    series = run(options, rows)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(args.output, record(options, rows, series, time.perf_counter() - begun) + "\n")
    about = machine.describe()
    print(
        f"{about['processor']}, {about['cores']} cores, torch with {about['threads']} threads, "
        f"{options.rounds} rounds\n\n{markdown(summary(series), options.notes)}\n"
    )
    print(f"written: {args.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
