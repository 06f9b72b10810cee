"""`dyna_ppo` beside searchers, and without each of its parts, on synthetic landscapes.

    python -m benchmarks.dyna --budget 100        # what is missing of 20 seeds, then the report
    python -m benchmarks.dyna --report            # the report alone

A run is a row of `benchmarks/results/dyna/runs.csv`, written the moment it is finished: a command that was stopped goes
on. The hyperparameters were chosen on landscapes of other seeds (from 1000 on).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from benchmarks.common.machine import processor
from benchmarks.common.recording import RESULTS, positive
from benchmarks.dyna.report import made_on, tables
from benchmarks.dyna.rows import AT, Job, Rows, run
from releq_env.command import ends_in_one_line
from releq_env.files import replace_file

AGENTS = ("dyna_ppo", "gp", "tpe", "local", "annealing", "evolution", "random")
ABLATION: dict[str, dict[str, Any]] = {
    "without model": {"model": False},
    "one member": {"members": ["logarithm"]},
    "without imitation": {"imitation": 0},
    "plain gradient": {"quantile": 1.0},
    "without warm start": {"warm_start": False},
    "repeating": {"never_repeat": False},
    "without learning": {"learn": False},
}
"""Label -> what is switched off of `dyna_ppo`."""
LANDSCAPES = ("separable/8^4/size", "pairs/7^5/mean_bits", "weakest/8^4/mean_bits", "cliff/8^4/size/0.6")
ABLATED = ("pairs/7^5/mean_bits", "weakest/8^5/mean_bits")
"""The landscapes of the ablation: the larger ones, where parts can differ."""


def jobs(seeds: int, budget: int, ablation: bool) -> list[Job]:
    """Return all runs, seed by seed: what is stopped early is balanced."""
    compared = [(name, agent) for name in LANDSCAPES for agent in AGENTS]
    compared += [(name, agent) for name in ABLATED for agent in ("dyna_ppo", *ABLATION)] if ablation else []
    listed = [Job(name, agent, seed, budget) for seed in range(seeds) for name, agent in compared]
    return list(dict.fromkeys(listed))


def report(rows: Rows) -> str:
    """Return the page of all rows, as Markdown."""
    found = list(rows.rows.values())
    parts = [
        "# `dyna_ppo` on synthetic landscapes\n",
        "Made by `python -m benchmarks.dyna`; raw rows: `runs.csv`. Best objective so far, 0 the mean of a random "
        "assignment and 1 the optimum: mean over landscapes and seeds (each seed draws a landscape of its own) with "
        "95 % stratified-bootstrap intervals. The last column is the share of landscapes on which `dyna_ppo` is "
        "better, ties counting one half. Evaluations are asked for one at a time. Landscapes are named family, size, "
        "cost and `max_cost`: see `benchmarks/dyna/landscapes.py`. Own seconds: processor time of the agent on a "
        "machine that ran other jobs, too. Of an agent those seeds count that it has on all landscapes of a table.\n",
        "Made on:\n",
        made_on(found),
    ]
    for budget in sorted({row.budget for row in found}):
        main = [row for row in found if row.landscape in LANDSCAPES and row.agent in AGENTS]
        parted = [row for row in found if row.landscape in ABLATED and row.agent in ("dyna_ppo", *ABLATION)]
        parts += [f"## {budget} distinct evaluations\n", tables(main, AGENTS, budget)]
        if any(row.agent in ABLATION and row.budget == budget for row in parted):
            parts += [f"## Ablation, {budget} distinct evaluations\n", tables(parted, ("dyna_ppo", *ABLATION), budget)]
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Do the runs that are missing, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dyna", description=main.__doc__)
    parser.add_argument("--seeds", type=positive, default=20, help="landscapes of each kind (default: 20)")
    parser.add_argument(
        "--budget", type=int, choices=AT, default=100, help="distinct evaluations of a run (default: 100)"
    )
    parser.add_argument("--agents", nargs="+", help="only these agents and parts (default: all)")
    parser.add_argument("--no-ablation", action="store_true", help="only the comparison")
    parser.add_argument("--report", action="store_true", help="only the report, of the rows there are")
    parser.add_argument("--results", type=Path, default=RESULTS / "dyna", help="folder of the rows")
    args = parser.parse_args(argv)
    known = (*AGENTS, *ABLATION)
    if unknown := set(args.agents or ()) - set(known):
        raise SystemExit(f"error: --agents {min(unknown)!r} is unknown; choose from: {', '.join(known)}")
    with ends_in_one_line():
        rows = Rows(args.results / "runs.csv")
        missing = [job for job in jobs(args.seeds, args.budget, not args.no_ablation) if job not in rows.rows]
        missing = [job for job in missing if args.agents is None or job.agent in args.agents]
        with threadpool_limits(1):
            for job in tqdm([] if args.report else missing, unit="run", mininterval=5.0, desc=processor()):
                settings = ABLATION.get(job.agent, {})
                rows.append(run(job, "dyna_ppo" if job.agent in ABLATION else job.agent, settings))
        text = report(rows)
        args.results.mkdir(parents=True, exist_ok=True)
        replace_file(args.results / "README.md", text)
        print(text)


if __name__ == "__main__":
    main()
