"""Draw the pictures of a run again, or several runs on one axis.

python -m agents.plot runs/mnist
python -m agents.plot runs/ppo_1 runs/ppo_2 runs/gp_1 --out rewards.png
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from agents.report.files import explained
from agents.report.plots import draw_run
from agents.run.option import optional
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError
from releq_env.report import Run, pictures, read_run


@dataclass
class Options:
    """Draw the pictures of a run again; of several, the best reward so far against distinct evaluations."""

    folders: tyro.conf.Positional[list[Path]]
    """The runs' folders: what --log-dir was."""
    out: Annotated[Path | None, optional("FILE", "rewards.png")] = None
    """Of several runs: the file to draw, .png, .svg or .pdf."""


def plot(folders: Sequence[Path], out: Path | None = None) -> list[Path]:
    """Draw the pictures of runs, and return their files; see `Options`.

    Raises:
        ReLeQError: In one line, if there is nothing to draw, or it cannot be written.
    """
    if not folders:
        raise ReLeQError("no run was given; give the --log-dir of one or of several")
    runs = [read_run(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        if run.best is None:
            raise ReLeQError(f"the run in {folder} has evaluated nothing yet; let it go on, or leave it out")
    if len(runs) == 1:
        if out is not None:
            raise ReLeQError(f"--out {out} is for several runs; the pictures of one go into its folder: leave it out")
        return draw_run(folders[0], runs[0])
    if len(set(map(_problem, runs))) > 1:
        print("these runs searched different problems: their rewards do not compare", file=sys.stderr)
    target = out or Path("rewards.png")
    if target.suffix not in (".png", ".svg", ".pdf"):
        raise ReLeQError(f"--out {target} is no picture; give a name that ends in .png, .svg or .pdf")
    figure = pictures.rewards(_by_agent(runs))
    with explained(target):
        figure.savefig(target, dpi=150)
    return [target]


def _problem(run: Run) -> str:
    """Return what rewards of two runs have to share to be compared; not the retraining seed."""
    names = ("names", "choices", "costs", "reward", "min_relative_accuracy", "max_cost", "quantizer")
    known = [getattr(run, name) for name in (*names, "full_precision_accuracy")]
    return json.dumps([known, {**run.depends_on, "retrain_seed": None}], sort_keys=True)


def _by_agent(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Return the runs of each agent on each environment; its name is that of the agent where there is one only."""
    envs = {run.settings["env"] for run in runs}
    groups: dict[str, list[Run]] = {}
    for run in runs:
        env = str(run.settings["env"]).rpartition(":")[2]
        groups.setdefault(run.settings["algo"] + (f" on {env}" if len(envs) > 1 else ""), []).append(run)
    return list(groups.items())


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, draw, and print which files there are."""
    options = tyro.cli(Options, args=argv, prog="python -m agents.plot", description=Options.__doc__)
    with ends_in_one_line():
        for path in plot(options.folders, options.out):
            print(path)


if __name__ == "__main__":
    main()
