"""Whether the fast evaluation measures what a plain one measures.

    python -m benchmarks.fidelity --output anew.json
    python -m benchmarks.fidelity --report               # the table of the rows there are, nothing is measured

Random assignments are evaluated by the engine (`precision="auto"`) and by a plain fp32 loop with the same
batches, with several retraining seeds each. Single accuracies differ, because retraining is chaotic; on
average and in rank they must not, nor more than two retraining seeds differ. MNIST and CIFAR-10 are looked
for as by the environment (`RELEQ_DATA`). A run that was interrupted goes on. A file holds rows of one engine.
"""

import argparse
import itertools
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from benchmarks.common import machine
from benchmarks.common.assignments import distinct
from benchmarks.common.recording import RESULTS, write
from benchmarks.fidelity.plain import Pair, engine, measure
from benchmarks.fidelity.statistics import in_all_seeds, markdown, statistics_of
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError

TASKS = ("mnist", "cifar10")
_WORKERS = 2


def assignments(layers: int, count: int) -> list[tuple[int, ...]]:
    """Return the first distinct assignments of a seeded stream, 1 to 8 bits a layer."""
    return list(itertools.islice(distinct(layers, least=1, seed=0), count))


def run(output: Path, tasks: Sequence[str], count: int, seeds: int, images: int) -> list[Pair]:
    """Measure what is missing in the file, writing every row when it is there; return the wanted rows."""
    settings = json.loads(output.read_text())["settings"] if output.exists() else {}
    wanted = []
    for task in tasks:
        fast = engine(task, images)
        if settings.setdefault(task, fast.fingerprint) != fast.fingerprint:
            raise SystemExit(
                f"error: {output} was made with other settings for {task}, of another engine for one; give another "
                "--output, or --report to see what is there"
            )
        drawn = assignments(len(fast.pretrained.layers), count)
        wanted += [(task, bits, seed) for seed in range(seeds) for bits in drawn]
    there = known_pairs(output) if output.exists() else []
    rows = {(pair.task, pair.bitwidths, pair.seed): pair for pair in there}
    missing = [key for key in wanted if key not in rows]
    about = machine.describe() | {"workers": _WORKERS, "threads": 1}
    with ProcessPoolExecutor(_WORKERS, mp_context=multiprocessing.get_context("spawn")) as executor:
        futures = {
            executor.submit(measure, task, images, bits, seed): (task, bits, seed) for task, bits, seed in missing
        }
        try:
            for future in tqdm(as_completed(futures), total=len(missing), unit="pair"):
                rows[futures[future]] = future.result()
                everything = [pair._asdict() for pair in rows.values()]
                write(output, {"machine": about, "settings": settings, "rows": everything})
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return [rows[key] for key in wanted]


def known_pairs(output: Path) -> list[Pair]:
    """Return the rows of a file, of whatever engine."""
    rows = json.loads(output.read_text())["rows"]
    return [Pair(**row | {"bitwidths": tuple(row["bitwidths"])}) for row in rows]


def report(output: Path) -> str:
    """Return the table of what a file holds: of each task the assignments that all of its seeds have.

    Raises:
        ReLeQError: If there is no such file, it is damaged, or there is too little in it.
    """
    try:
        pairs = known_pairs(output)
        found = {
            task: statistics_of(in_all_seeds([pair for pair in pairs if pair.task == task]))
            for task in dict.fromkeys(pair.task for pair in pairs)
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReLeQError(
            f"{output} holds no rows to report ({type(error).__name__}: {error}); give another --output"
        ) from error
    return markdown(found)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=main.__doc__)
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS, "digits"], default=TASKS, help="which tasks")
    parser.add_argument("--assignments", type=int, default=48, help="of each task (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=4, help="retraining seeds, from 0 (default: %(default)s)")
    parser.add_argument("--retrain-images", type=int, default=10_000, help="budget (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS / "fidelity.json", help="the JSON file")
    parser.add_argument("--report", action="store_true", help="only the table, of all rows of the file")
    args = parser.parse_args(argv)
    if args.report:
        with ends_in_one_line():
            print(report(args.output))
        return
    if args.assignments < 3 or args.seeds < 2:
        parser.error("the statistics take at least three assignments and two seeds")
    pairs = run(args.output, args.tasks, args.assignments, args.seeds, args.retrain_images)
    print(markdown({task: statistics_of([pair for pair in pairs if pair.task == task]) for task in args.tasks}))


if __name__ == "__main__":
    main()
