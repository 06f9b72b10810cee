"""Transfer: a policy trained on other networks, then 20 evaluations on one that it has never seen.

    python -m benchmarks.transfer --train made-up      # on no table at all
    python -m benchmarks.transfer --train digits       # on all shipped tables but Digits, too
    python -m benchmarks.transfer                      # the runs that are missing, then the report
    python -m benchmarks.transfer --report             # the report alone

A run is a row of `benchmarks/results/transfer/runs.csv`, written the moment it is finished: what was stopped goes on
with the same command. A training takes minutes and begins anew.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from agents.algorithms.transfer.sight import HORIZON
from agents.run.bare import STEPS_AN_EVALUATION
from benchmarks.common import machine, recording
from benchmarks.compare import schedule
from benchmarks.compare.facts import facts_of
from benchmarks.compare.pool import make_pool
from benchmarks.transfer import report, suite
from benchmarks.transfer.results import TransferResults
from benchmarks.transfer.train import train_all
from releq_env.command import ends_in_one_line
from releq_env.devices import cores
from releq_env.errors import check_choice


def main(argv: Sequence[str] | None = None) -> None:
    """Train, or do the runs that are missing, and write the report."""
    args = _parser().parse_args(argv)
    with ends_in_one_line("stopped; the same command goes on with the runs"):
        if args.train:
            with threadpool_limits(1):
                torch.set_num_threads(1)
                train_all(args.train, args.updates, args.seed, args.tables, args.weights)
            return
        failed = 0 if args.report else search(args)
        print(report.write(args.output))
    if failed:
        raise SystemExit(f"error: {failed} runs failed, see above; the others are there")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=main.__doc__)
    add = parser.add_argument
    add("--train", nargs="+", metavar="NAME",
        help="train without these tables, one policy each; made-up is a policy that sees no table")  # fmt: skip
    add("--updates", type=recording.positive, help="of a training (default: as in benchmarks/transfer/train.py)")
    add("--seed", type=int, default=0, help="of a training (default: 0)")
    add("--weights", type=Path, help="folder of the policies that are trained (default: where they are shipped)")
    add("--tables", type=Path, metavar="DIR", default=suite.LATER,
        help="of tables beside the shipped ones (default: %(default)s)")  # fmt: skip
    add("--seeds", type=recording.positive, default=20, help="runs on each problem (default: 20)")
    add("--agents", nargs="+", metavar="AGENT", help="only these (default: all)")
    add("--output", type=Path, default=recording.RESULTS / "transfer.csv", help="(default: %(default)s)")
    add("--workers", type=recording.positive, default=1, help="runs at once (default: 1)")
    add("--report", action="store_true", help="only the report, of the rows there are")
    return parser


def search(args: argparse.Namespace) -> int:
    """Do the runs that are missing; return how many failed.

    Raises:
        ReLeQError: In one line, if something is not accepted.
    """
    labels = {variant.label: variant for variant in suite.AGENTS}
    for label in args.agents or ():
        check_choice("--agents", label, labels)
    agents = [variant for label, variant in labels.items() if label in (args.agents or labels)]
    entries, left_out = suite.problems(args.tables)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    jobs = [
        suite.OneByOne(entry, agent, seed, HORIZON, STEPS_AN_EVALUATION * HORIZON)
        for seed in range(args.seeds)
        for entry in entries
        for agent in agents
    ]
    found = TransferResults(args.output)
    known = machine.describe()
    found.begin(
        map(facts_of, entries),
        {job.variant.label: job.described() for job in jobs},
        {name: known[name] for name in ("processor", "cores", "python", "revision", "versions")},
    )
    pool = make_pool("processes", args.workers, ["benchmarks.transfer.suite"], cores)
    return len(schedule.do(jobs, found, pool, lambda line: print(f"\n{line}", file=sys.stderr, flush=True)))


if __name__ == "__main__":
    main()
