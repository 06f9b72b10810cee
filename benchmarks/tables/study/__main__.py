"""Run the study of the retraining recipe and its budget, or report it.

    nohup nice -n 19 python -m benchmarks.tables.study > study.log 2>&1 &
    python -m benchmarks.tables.study --report

One process of one thread, on validation images only. Every row is in `benchmarks/results/study` the moment it
is measured; a run that was stopped goes on where it was. On another kind of processor all rows are measured
anew, because accuracies are compared within one kind only.
"""

import argparse
import time

from benchmarks.common.recording import positive
from benchmarks.tables.study import plan
from benchmarks.tables.study.clock import Clock
from benchmarks.tables.study.recipes import Recipe
from benchmarks.tables.study.report import write_report
from benchmarks.tables.study.rows import Row, Rows
from benchmarks.tables.study.training import Retrainer, place
from releq_env.command import ends_in_one_line


def run(confirm: list[Recipe], seeds: range) -> None:
    """Measure what is missing, in the plan's order."""
    here, rows, clock = place(), Rows(), Clock()
    retrainers: dict[tuple[str, str], Retrainer] = {}
    print(f"measuring on {here}", flush=True)
    while True:
        chosen = plan.load_chosen()
        for task, quantizer in plan.SETTINGS:
            if f"{task}/{quantizer}" not in chosen and (found := plan.choose(task, quantizer, rows, here)):
                chosen[f"{task}/{quantizer}"] = found
                plan.save_chosen(chosen)
        jobs, whole = plan.plan(chosen), plan.plan(plan.with_stand_ins(chosen))
        if confirm:
            jobs = whole = list(
                dict.fromkeys(job for name in plan.UNIFORM for job in plan.screen(name, confirm, seeds))
            )
        # Once assignments have been chosen from a pool, nothing needs it.
        missing = [
            job
            for job in jobs
            if rows.get(job, here) is None and not (job.part == "pool" and f"{job.task}/{job.quantizer}" in chosen)
        ]
        done = len(jobs) - len(missing)
        left = sum(clock.expect(job) for job in whole if rows.get(job, here) is None)
        if not missing:
            break
        for number, job in enumerate(missing):
            key = job.task, job.quantizer
            retrainer = retrainers.get(key) or retrainers.setdefault(key, Retrainer(*key))
            start = time.perf_counter()
            recipe = Recipe.of(job.recipe)
            method = retrainer.long if job.part == "long" else retrainer.short
            measured = method(job.assignment, recipe, job.images, job.seed)
            rows.append(Row(job, measured, here))
            left -= clock.expect(job)
            clock.took(job, time.perf_counter() - start)
            print(
                f"{time.strftime('%H:%M:%S')} {done + number + 1}/{len(whole)}, "
                f"{clock.hours(left):.1f} h left: {job.part} {job.task} {job.quantizer} "
                f"[{job.bitwidths}] {job.recipe}, {job.images}, seed {job.seed}: "
                f"{100 * measured.accuracy:.2f} % in {measured.seconds:.2f} s",
                flush=True,
            )
            if job.part == "pool" and (number + 1 == len(missing) or missing[number + 1].part != "pool"):
                break  # assignments can be chosen now: the plan grows


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables.study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--report", action="store_true", help="write the report and its pictures from the raw rows")
    parser.add_argument(
        "--confirm", action="append", default=[], metavar="RECIPE",
        help="measure only this recipe (by name, may be repeated) on uniform assignments, with seeds of its own",
    )  # fmt: skip
    parser.add_argument("--seeds", type=positive, default=8, help="how many seeds confirm (default: 8, from 100)")
    args = parser.parse_args()
    if args.report:
        write_report(Rows())
    else:
        run([Recipe.of(name) for name in args.confirm], range(plan.FRESH[0], plan.FRESH[0] + args.seeds))


if __name__ == "__main__":
    with ends_in_one_line():
        main()
