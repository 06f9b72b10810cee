"""Live searches on real data: run what is missing, then write the table of all.

    python -m benchmarks.live

Every run is the training command with nothing else given; it is kept whole in its folder, and a run
that was interrupted goes on. The data sets are looked for as by the environment (`RELEQ_DATA`).
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common.machine import processor
from benchmarks.common.recording import RESULTS, write
from benchmarks.common.training_runs import prune, train
from releq_env.files import replace_file
from releq_env.report.markdown import table


class Run(NamedTuple):
    """A search."""

    algo: str
    env: str
    seed: int
    timesteps: int = 4000

    @property
    def command(self) -> list[str]:
        """The arguments of the training command, without its log folder."""
        options = f"--algo {self.algo} --env {self.env} --timesteps {self.timesteps} --seed {self.seed}"
        return options.split()


RUNS = {
    "mnist-ppo-seed7": Run("ppo", "releq_env:ReLeQ-MNIST-v0", 7),
    "mnist-recurrent_ppo-seed7": Run("recurrent_ppo", "releq_env:ReLeQ-MNIST-v0", 7),
    "mnist-random-seed7": Run("random", "releq_env:ReLeQ-MNIST-v0", 7),
    "cifar10-ppo-seed7": Run("ppo", "releq_env:ReLeQ-CIFAR10-v0", 7),
}
"""By the name of their folder."""
_HEADER = (
    *("run", "assignment", "bits a layer", "relative accuracy: found", "confirmed", "best uniform found", "confirmed"),
    *("episodes", "distinct evaluations", "retrained", "minutes"),
)


def search(run: Run, folder: Path) -> None:
    """Run a search, or the rest of one, and keep how long it took."""
    begun = time.time()
    if train(run.command, folder):  # the time of the rest of a run says nothing
        took = {"wall_seconds": round(time.time() - begun), "cores": os.cpu_count(), "processor": processor()}
        write(folder / "time.json", took)


def summary(results: Path) -> str:
    """Return the table of all finished runs, as Markdown."""
    finished = [results / name for name in RUNS if (results / name / "report.json").exists()]
    return table(_HEADER, map(_row, finished), aligned=False)


def _row(folder: Path) -> list[str]:
    report = json.loads((folder / "report.json").read_text())
    best = next(c for c in report["candidates"] if c["kind"] == "found")
    uniform = [c for c in report["candidates"] if c["kind"] == "uniform"]
    timing = folder / "time.json"
    minutes = f"{json.loads(timing.read_text())['wall_seconds'] / 60:.1f}" if timing.exists() else ""
    return [
        f"[{folder.name}]({folder.name}/report.md)",
        _bits(best),
        f"{sum(best['bitwidths']) / len(best['bitwidths']):.2f}",
        f"{best['relative_accuracy']:.4f}",
        f"{best['confirmed_relative_accuracy']:.4f}",
        _bits(max(uniform, key=lambda c: c["reward"])),
        _bits(max(uniform, key=lambda c: c["confirmed_reward"])),
        *(str(report["counts"][key]) for key in ("episodes", "distinct_evaluations", "retrained")),
        minutes,
    ]


def _bits(candidate: dict[str, Any]) -> str:
    return " ".join(map(str, candidate["bitwidths"]))


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=main.__doc__)
    # argparse checks the empty list against the choices, too
    parser.add_argument("runs", nargs="*", choices=[*RUNS, []], help="which runs (default: all)")
    parser.add_argument("--results", type=Path, default=RESULTS / "live", help="folder of the runs")
    args = parser.parse_args(argv)
    for name in args.runs or RUNS:
        folder = args.results / name
        if not (folder / "report.json").exists():
            search(RUNS[name], folder)
            prune(folder)
    text = (
        "# Live searches\n\nMade by `python -m benchmarks.live`; each run is the command beside its name, "
        "and nothing else given:\n\n"
        + "\n".join(f"- `{name}`: `python -m agents.train {' '.join(run.command)}`" for name, run in RUNS.items())
        + "\n\nAccuracies are on validation images, relative to full precision. Found: with the search's retraining "
        "seed. Confirmed: the mean of two unseen retraining seeds. The best uniform assignment is the one with the "
        "highest objective. A run shares the cache with those above it, so fewer of its evaluations are retrained.\n\n"
        + summary(args.results)
        + "\n"
    )
    replace_file(args.results / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
