"""Remake the paper's headline: search, choose on validation, retrain, read test data once.

    nohup python -m benchmarks.reproduce > reproduce.log 2>&1 &
    python -m benchmarks.reproduce --only mnist-lsq cifar10
    python -m benchmarks.reproduce --chosen benchmarks/results/reproduction --output runs/reproduction
    python -m benchmarks.reproduce --report

Whatever ended a run, the same command goes on; two of them at once share the retrainings. Before test data are read
the command ends and asks that what was chosen (`ROW/chosen.json`) be committed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from benchmarks.common.recording import RESULTS, write
from benchmarks.reproduce import choosing, refining, report, searching, testing, walking
from benchmarks.reproduce.committed import is_committed
from benchmarks.reproduce.networks import RECIPES
from benchmarks.reproduce.rows import ROWS, Row, find, missing_data
from benchmarks.reproduce.smoothing import smoothed
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError
from releq_env.paths import cache_folder

FOLDER = RESULTS / "reproduction"


class Places(NamedTuple):
    """Where things are.

    Attributes:
        results: A folder a row: `search`, `search-calibrated`, `screened.csv`, `validated.csv`, `chosen.json`, `final`,
            `result.json`.
        chosen: Likewise, whose `chosen.json` are taken.
        work: Networks and checkpoints of choosing.
    """

    results: Path
    chosen: Path
    work: Path

    def chosen_of(self, row: Row) -> Path:
        """Return a row's `chosen.json`."""
        return self.chosen / row.name / "chosen.json"

    def result_of(self, row: Row) -> Path:
        """Return a row's `result.json`."""
        return self.results / row.name / "result.json"

    @property
    def controls(self) -> Path:
        """The full-precision controls of the final retrainings."""
        return self.results / "controls"


def choose(row: Row, places: Places) -> None:
    """Search, walk, search again with what this has calibrated, walk again; write what is chosen."""
    path = places.chosen_of(row)
    folder, recipe = path.parent, RECIPES[row.task]
    folder.mkdir(parents=True, exist_ok=True)
    validated = choosing.Validated(row, recipe, folder / "validated.csv", places.work)
    screened = choosing.Validated(row, choosing.screening(recipe), folder / "screened.csv", places.work)
    found, first = _searched(row, folder / "search")
    steps = walking.walk(smoothed(found, first), first, screened.best, validated.decisive)
    constraints: dict[str, float] = {"first": first}
    if row.refining_budget:
        more, constraints["refined"] = refining.refine(row, steps, screened)
        steps += walking.walk(more, constraints["refined"], lambda level: level[0], validated.decisive)
    elif (calibrated := walking.calibrated(steps, first)) != first:
        constraints["calibrated"] = calibrated
        more, _ = _searched(row, folder / "search-calibrated", calibrated)
        steps += walking.walk(smoothed([*found, *more], calibrated), calibrated, screened.best, validated.decisive)
    best = walking.chosen(steps)
    write(path, choosing.described(row, best, recipe, constraints))
    bits = " ".join(map(str, best.found.bitwidths))
    print(f"{row.name}: {bits} is chosen; it loses {best.loss:.2f} points on validation", flush=True)


def _searched(row: Row, folder: Path, least: float | None = None) -> tuple[list[searching.Found], float]:
    """Return what a search has found, and its constraint; one process searches, others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        found = searching.search(row, folder, least)
    return found, searching.constraint(folder)


def make(row: Row, places: Places) -> str | None:
    """Make a row, as far as that can be; return what stands in the way."""
    missing = missing_data(row)
    if missing is not None:
        return missing
    chosen = places.chosen_of(row)
    if not chosen.exists():
        if places.chosen != places.results:
            return f"nothing is chosen in {places.chosen}"
        choose(row, places)
    if not is_committed(chosen):
        return f"commit {chosen}, then start again: test data are read only for what is committed"
    result = places.result_of(row)
    if result.exists():
        testing.check_result(result, chosen)
    else:
        write(result, testing.test(row, chosen, places.results / row.name / "final", places.controls))
    return None


def make_all(rows: Sequence[Row], places: Places) -> dict[str, str]:
    """Make rows; return what stands in the way of those that could not be made."""
    stopped = {}
    for row in rows:
        try:
            said = make(row, places)
        except ReLeQError as error:
            said = str(error)
        if said is not None:
            stopped[row.name] = said
    return stopped


def estimate(row: Row, places: Places) -> str:
    """Return in words what is done, and how long the rest will take, as far as that is known."""
    missing, chosen = missing_data(row), places.chosen_of(row)
    if places.result_of(row).exists():
        return "finished"
    if missing is not None:
        return missing
    if chosen.exists():
        return testing.expected(row, chosen, places.results / row.name / "final", places.controls)
    return choosing.expected(row, RECIPES[row.task], places.work)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("--only", nargs="+", default=[], metavar="ROW", help=f"rows, or tasks: {', '.join(ROWS)} (default: all)")
    add("--output", type=Path, default=FOLDER, metavar="DIR", help="where results are kept, and looked for")
    add("--chosen", type=Path, metavar="DIR", help="take what was chosen there, and only retrain and test that")
    add("--estimate", action="store_true", help="only say how long it will take")
    add("--report", action="store_true", help="only write reproduction.json, the report and its pictures")
    return made


def main(argv: list[str] | None = None) -> None:
    """Read the command line, make the rows, write the report."""
    args = parser().parse_args(argv)
    rows = find(args.only)
    places = Places(args.output, args.chosen or args.output, cache_folder() / "reproduce")
    if args.chosen and not args.only:
        rows = [row for row in rows if places.chosen_of(row).exists()]
        if not rows:
            raise ReLeQError(f"--chosen {args.chosen}: nothing is chosen there; leave it out to search and choose")
    if args.estimate:
        for row in rows:
            print(f"{row.name}: {estimate(row, places)}", flush=True)
        return
    stopped = {} if args.report else make_all(rows, places)
    print(report.write_report(args.output, args.chosen or args.output))
    for name, said in stopped.items():
        print(f"{name}: {said}", file=sys.stderr)
    if stopped:
        raise SystemExit(1)


if __name__ == "__main__":
    with ends_in_one_line("stopped; the same command goes on from here"):
        main()
