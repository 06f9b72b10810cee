"""Our search beside the vendors' tools: the same network, data and bits a weight, the same final retraining.

    python -m benchmarks.vendors             # what is missing, then the report
    python -m benchmarks.vendors --report    # the report alone
    python -m benchmarks.vendors --quick     # small, on scikit-learn's digits: to see that everything works

A choice is a row of `benchmarks/results/vendors/choices.csv`, an assignment's retraining one of `finals.csv`, written
the moment it is finished: a command that was stopped goes on. A tool that is not installed is said and left out.
Fashion-MNIST is looked for as by the environment (`RELEQ_DATA`).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.common.recording import RESULTS
from benchmarks.vendors.choosing import choose
from benchmarks.vendors.estimate import estimate
from benchmarks.vendors.finals import Job, retrained, weights_of
from benchmarks.vendors.networks import FULL, NETWORKS, QUICK, Plan, make_problem
from benchmarks.vendors.registry import VENDORS
from benchmarks.vendors.report import report
from benchmarks.vendors.rows import Chosen, Key, Retrained, Rows
from releq_env.command import ends_in_one_line
from releq_env.devices import cores
from releq_env.files import replace_file
from releq_env.problem import Problem


def main(argv: Sequence[str] | None = None) -> None:
    """Choose and retrain what is missing, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vendors", description=main.__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["residual"], help="(default: residual)")
    parser.add_argument("--vendors", nargs="+", choices=VENDORS, default=list(VENDORS), help="tools (default: all)")
    budgets = " ".join(f"{budget:g}" for budget in FULL.budgets)
    parser.add_argument("--budgets", nargs="+", type=_bits, help=f"bits a weight, at most, on average ({budgets})")
    parser.add_argument("--quick", action="store_true", help="on scikit-learn's digits, into runs/vendors/quick")
    parser.add_argument("--estimate", action="store_true", help="only say how long it would take")
    parser.add_argument("--report", action="store_true", help="only the report, of the rows there are")
    parser.add_argument("--results", type=Path, help="folder of the rows (default: benchmarks/results/vendors)")
    parser.add_argument("--work", type=Path, default=Path("runs/vendors"), help="folder of networks and logs")
    args = parser.parse_args(argv)
    plan = QUICK if args.quick else FULL
    plan = plan._replace(budgets=tuple(args.budgets or plan.budgets))
    results = args.results or (args.work / "quick" if args.quick else RESULTS / "vendors")
    with ends_in_one_line("stopped; the same command goes on from here"):
        choices, finals = Rows(results / "choices.csv", Chosen), Rows(results / "finals.csv", Retrained)
        vendors = [] if args.report else [name for name in args.vendors if not _left_out(name)]
        for network in [] if args.report else args.networks:
            problem = make_problem(network, plan)
            weights = weights_of(problem)
            keys = [Key(network, weights, vendor, budget) for budget in plan.budgets for vendor in vendors]
            missing = [key for key in keys if key not in choices.rows]
            if args.estimate:
                print(estimate(problem, plan, missing, len(_jobs(keys, choices, finals))))
                continue
            _choose(missing, problem, plan, args.work, choices)
            _retrain(_jobs(keys, choices, finals), plan, args.work, finals)
        if not args.estimate:
            text = report(choices.rows.values(), finals.rows)
            results.mkdir(parents=True, exist_ok=True)
            replace_file(results / "report.md", text)
            print(text)


def _choose(missing: Sequence[Key], problem: Problem, plan: Plan, work: Path, choices: Rows[Chosen]) -> None:
    for key in (bar := tqdm(missing, unit="choice")):
        bar.set_description(f"{key.network}, {VENDORS[key.vendor].label}, {key.budget:g} bits")
        folder = work / f"{key.network}-{key.weights}" / f"{key.vendor}-{key.budget:g}"
        try:
            choices.append(choose(key, problem, plan, folder))
        except Exception as error:  # whatever a library raises that does not fit its neighbours
            said = f"{VENDORS[key.vendor].label} fails at {key.budget:g} bits ({type(error).__name__}: {error})"
            tqdm.write(f"{' '.join(said.split())[:300]}; see {folder / 'log.txt'}", file=sys.stderr)
    source: Any = problem.evaluator.source
    source.close()  # its processes would only take memory


def _retrain(jobs: Sequence[Job], plan: Plan, work: Path, finals: Rows[Retrained]) -> None:
    rows: Iterator[Retrained] = retrained(jobs, plan, work, min(cores(), len(jobs)) or 1)
    for row in tqdm(rows, total=len(jobs), unit="assignment", desc="final retraining"):
        finals.append(row)


def _jobs(keys: Sequence[Key], choices: Rows[Chosen], finals: Rows[Retrained]) -> list[Job]:
    """Return the assignments that were chosen and are not retrained yet, each once."""
    rows = [choices.rows[key] for key in keys if key in choices.rows]
    jobs = dict.fromkeys((row.network, row.weights, row.bitwidths) for row in rows if row.bitwidths)
    return [job for job in jobs if job not in finals.rows]


def _left_out(vendor: str) -> bool:
    line = VENDORS[vendor].missing()
    if line is not None:
        print(line, file=sys.stderr)
    return line is not None


def _bits(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1.0 <= value <= 8.0:
        raise argparse.ArgumentTypeError(f"{text} is not accepted; give bits a weight, a number from 1 to 8")
    return value


if __name__ == "__main__":
    main()
