"""Collect the trials of tuning into one CSV file, for the report.

    python -m benchmarks.compare.lottery tuning

Reads the files `ALGO.jsonl` that `python -m agents.tune` has left in a folder.
"""

import argparse
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.common.recording import RESULTS
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError
from releq_env.files import replace_file

COLUMNS = ("algo", "trial", "score", "settings")
"""Trial 0 is the untuned default; settings are those that were tried, as JSON."""


def trials(path: Path) -> Iterator[tuple[str, int, float, str]]:
    """Yield the trials of a file.

    Raises:
        ReLeQError: If it holds something else.
    """
    whole = path.read_text().rpartition("\n")[0]  # a killed process may have left half a line
    try:
        for line in map(json.loads, whole.splitlines()):
            if "score" in line:  # the first line says what is tuned
                yield path.stem, int(line["number"]), float(line["score"]), json.dumps(line["values"], sort_keys=True)
    except (ValueError, KeyError, TypeError) as error:
        raise ReLeQError(f"{path} holds no trials of agents.tune ({type(error).__name__}: {error})") from error


def collect(folder: Path, output: Path) -> int:
    """Write the trials of all files in a folder, and return how many there are.

    Raises:
        ReLeQError: If there are none, or a file is damaged.
    """
    rows = [row for path in sorted(folder.glob("*.jsonl")) for row in trials(path)]
    if not rows:
        raise ReLeQError(f"{folder} holds no trials; give the folder that agents.tune has written to")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    replace_file(output, text.getvalue())
    return len(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Collect the trials of tuning."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare.lottery", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="of the files ALGO.jsonl")
    parser.add_argument("--output", type=Path, default=RESULTS / "lottery.csv", help="(default: %(default)s)")
    args = parser.parse_args(argv)
    with ends_in_one_line():
        print(f"{collect(args.folder, args.output)} trials are in {args.output}")


if __name__ == "__main__":
    main()
