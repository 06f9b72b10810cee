"""Compare agents on accuracy tables.

    python -m benchmarks.compare --envs main --algos all --seeds 20 --estimate
    nohup python -m benchmarks.compare --envs main --algos all --seeds 20 > compare.log 2>&1 &
    python -m benchmarks.compare.report

A run is `agents.train` on that problem; it ends at `--budget` distinct evaluations. What is finished is on the disk:
the same command goes on after any end, and several of them (other agents, other seeds) may add to one file at once.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agents.algorithms.registry import import_all
from agents.run.bare import STEPS_AN_EVALUATION
from benchmarks.common import machine, recording
from benchmarks.compare import schedule, suite
from benchmarks.compare.facts import facts_of
from benchmarks.compare.pool import POOLS, make_pool
from benchmarks.compare.results import Results
from benchmarks.compare.run import Job, Variant
from releq_env.command import ends_in_one_line
from releq_env.devices import cores
from releq_env.errors import ReLeQError
from releq_env.report.markdown import table

RERUN_SEEDS = range(1000, 1003)
"""Of `--rerun`: fresh ones, so that it is evidence of its own."""

_LIBRARIES = ("releq_env", "numpy", "scipy", "torch", "stable_baselines3", "sb3_contrib", "optuna")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Compare agents on tables. @FILE stands for the arguments in a file, one a line.",
        fromfile_prefix_chars="@",
    )
    add = made.add_argument
    add("--envs", nargs="+", default=["main"], metavar="ENV",
        help=f"{', '.join(suite.GROUPS)}, problems, tables TABLE[:NAME=VALUE,...] (default: main)")  # fmt: skip
    add("--algos", nargs="+", default=["all"], metavar="AGENT",
        help="agents, LABEL=AGENT, a group of ablations, or all but exhaustive (default: all)")  # fmt: skip
    add("--seeds", type=recording.positive, default=20, metavar="N", help="runs of each (default: 20)")
    add("--first-seed", type=int, default=0, metavar="S", help="(default: 0)")
    add("--budget", type=recording.positive, default=300, metavar="M", help="distinct evaluations (default: 300)")
    add("--timesteps", type=recording.positive, metavar="T", help="of a run (default: 20 M)")
    add("--hyperparams", nargs="+", default=[], metavar="AGENT:NAME=VALUE", help="other than agents/hyperparams")
    add("--output", type=Path, metavar="FILE",
        help="goes on if it is there (default: comparison.csv, for the main suite alone)")  # fmt: skip
    add("--tables", type=Path, metavar="DIR", help="where NAME.npz is looked for before the shipped tables")
    add("--imports", nargs="+", default=[], metavar="MODULE", help="that register agents of one's own")
    add("--parallel", default="processes", choices=POOLS, help="(default: %(default)s)")
    add("--workers", type=recording.positive, metavar="W", help="runs at once (default: one a core)")
    add("--check", action="store_true", help="only say what each problem is like")
    add("--estimate", action="store_true", help="make one run of each agent, and say how long the others will take")
    add("--rerun", action="store_true", help="three fresh seeds into rerun.csv, which the report sets beside the rest")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, or say what would be."""
    args = parser().parse_args(argv)
    with ends_in_one_line("stopped; the same command goes on"):
        failures = compare(args)
    if failures:
        raise SystemExit(f"error: {failures} runs failed, see above; the others are in {args.output}")


def compare(args: argparse.Namespace) -> int:
    """Do what the command line asks for; return how many runs failed.

    Raises:
        ReLeQError: In one line, if something is not accepted.
    """
    import_all(args.imports)
    entries = _there(suite.find(args.envs, args.tables))
    if args.check:
        return _check(entries)
    entries = _complete(entries)
    agents = schedule.variants(args.algos, args.hyperparams)
    seeds: Sequence[int] = range(args.first_seed, args.first_seed + args.seeds)
    args.output = args.output or _default_output(args, entries, agents)
    if args.rerun:
        seeds = RERUN_SEEDS
        args.output = args.output.with_name("rerun.csv")
    if not 0 <= seeds[0] <= seeds[-1] < 2**32:
        raise ReLeQError(f"--first-seed {args.first_seed} is not accepted; give a whole number from 0")
    timesteps = args.timesteps or STEPS_AN_EVALUATION * args.budget
    wanted = schedule.jobs(entries, agents, seeds, args.budget, timesteps)
    results = Results(args.output)
    first = {(job.entry.name, str(dict(job.variant.decision))): job for job in reversed(wanted)}
    settings = {job.variant.label: job.described() for job in reversed(wanted)}
    results.begin([facts_of(job.entry) for job in reversed(first.values())], settings, _machine())
    if args.estimate:
        return _estimate(args, wanted, results)
    pool = make_pool(args.parallel, args.workers, args.imports, cores)
    failed = schedule.do(wanted, results, pool, lambda line: print(f"\n{line}", file=sys.stderr, flush=True))
    print(f"{sum(job.key in results.rows for job in wanted)} of {len(wanted)} runs are in {args.output}")
    return len(failed)


def _there(entries: list[suite.Entry]) -> list[suite.Entry]:
    """Return the problems whose tables are there, and say which are not."""
    lacking = suite.missing(entries)
    there = [entry for entry in entries if entry.table not in lacking]
    if lacking:
        line = (
            f"no table {', '.join(lacking)} here: {len(entries) - len(there)} of {len(entries)} problems are left out"
        )
        if not there:
            raise ReLeQError(f"{line}, and none remains; build them (docs/tables.md) and give their folder as --tables")
        print(line, file=sys.stderr, flush=True)
    return there


def _complete(entries: list[suite.Entry]) -> list[suite.Entry]:
    """Return the problems whose tables are complete with the seed that is searched, and say which are not."""
    covered = {entry.table: suite.load(entry.table).coverage(entry.seed) for entry in entries}
    partial = [f"{Path(name).stem} ({100 * share:.1f} %)" for name, share in covered.items() if share < 1.0]
    if not partial:
        return entries
    there = [entry for entry in entries if covered[entry.table] == 1.0]
    line = f"not measured completely: {', '.join(partial)}; {len(entries) - len(there)} problems are left out"
    if not there:
        raise ReLeQError(f"{line}, and none remains; let python -m benchmarks.tables.build finish")
    print(line, file=sys.stderr, flush=True)
    return there


def _default_output(args: argparse.Namespace, entries: Sequence[suite.Entry], agents: Sequence[Variant]) -> Path:
    """Return the file of the comparison, which holds nothing but agents as they are shipped on the main suite.

    Raises:
        ReLeQError: If something else is compared. What is imported may be, or may change, any agent.
    """
    main_names = {entry.name for entry in suite.MAIN}
    plain = all(agent == Variant(agent.algo, agent.algo) for agent in agents) and args.budget == 300
    if not plain or args.imports or args.timesteps or any(entry.name not in main_names for entry in entries):
        raise ReLeQError(
            "--output is missing: comparison.csv holds nothing but the main suite, shipped agents with their shipped "
            "settings and a budget of 300; give another file, e.g. --output benchmarks/results/apart.csv"
        )
    return recording.RESULTS / "comparison.csv"


def _check(entries: Sequence[suite.Entry]) -> int:
    lines: list[dict[str, Any]] = [suite.check_line(entry) for entry in entries]
    print(table(list(lines[0]), [list(line.values()) for line in lines]))
    smallest = [line["problem"] for line in lines if line["smallest"] == "yes"]
    if smallest:
        print(f"\nThe optimum is the smallest assignment on {', '.join(smallest)}: not for the main suite.")
    return 0


def _estimate(args: argparse.Namespace, wanted: Sequence[Job], results: Results) -> int:
    """Make a run of each agent that has none, and say how long the others will take."""
    unknown = {each.algo for each in schedule.estimates(wanted, results.rows) if math.isnan(each.seconds)}
    samples = {job.variant.label: job for job in reversed(wanted) if job.variant.label in unknown}
    pool = make_pool(args.parallel, args.workers, args.imports, cores)
    workers = pool.capacity
    failed = schedule.do(list(samples.values()), results, pool, lambda line: print(f"\n{line}", file=sys.stderr))
    found = schedule.estimates(wanted, results.rows)
    rows = [
        (
            each.algo,
            f"{each.seconds:.1f}",
            f"{each.processor_seconds:.1f}",
            each.done,
            each.left,
            f"{each.processor_seconds * each.left / 3600:.2f}",
        )
        for each in found
    ]
    print(table(("agent", "seconds a run", "of the processor", "done", "left", "core-hours left"), rows))
    hours = schedule.seconds_left(found, workers) / 3600
    print(f"{hours:.2f} hours left with {workers} workers, if the machine stays as busy as it was")
    return len(failed)


def _machine() -> dict[str, Any]:
    known: dict[str, Any] = machine.describe()
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": known["processor"],
        "cores": known["cores"],
        "python": known["python"],
        "revision": known["revision"],
        "versions": versions,
    }


if __name__ == "__main__":
    main()
