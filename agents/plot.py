"""Draw the pictures of a run again, or several runs on one axis.

python -m agents.plot runs/mnist
python -m agents.plot runs/ppo_1 runs/ppo_2 runs/gp_1 --out rewards.png
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

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
    try:
        figure.savefig(target, dpi=150)
    except OSError as error:
        raise ReLeQError(f"{target} cannot be written ({error.strerror or error}); give another --out") from error
    return [target]


def _problem(run: Run) -> str:
    """Return what rewards of two runs have to share to be compared; not the retraining seed."""
    names = ("names", "choices", "costs", "reward", "min_relative_accuracy", "max_cost", "quantizer")
    known = [getattr(run, name) for name in (*names, "full_precision_accuracy")]
    return json.dumps([known, {**run.depends_on, "retrain_seed": None}], sort_keys=True)


def _by_agent(runs: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Return together the runs that differ in their seeds alone, named by the agent and what differs from its others.

    That can be the environment, the problem, the hyperparameters, and how many environments are side by side.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([_said(run), _problem(run)], sort_keys=True), []).append(run)
    said = [_said(members[0]) for members in groups.values()]
    labels: list[str] = []
    for each in said:
        alike = [other for other in said if other["algo"] == each["algo"]]
        differing = [name for name in each if len({repr(other.get(name)) for other in alike}) > 1]
        label = " ".join([each["algo"], *(f"{name}={each[name]}" for name in differing)])
        same = sum(other == label or other.startswith(f"{label} (") for other in labels)
        labels.append(f"{label} ({same + 1})" if same else label)  # of another problem, of which more differs
    return list(zip(labels, groups.values(), strict=True))


def _said(run: Run) -> dict[str, Any]:
    """Return what was asked for that can make runs of one agent differ, by name; neither seed nor length."""
    settings = run.settings
    table = (settings.get("env_kwargs") or {}).get("table")
    found = {"algo": settings["algo"], "env": str(settings["env"]).rpartition(":")[2], "n_envs": settings.get("n_envs")}
    found |= {} if table is None else {"table": Path(str(table)).stem}
    return found | dict(settings.get("hyperparams") or {})


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, draw, and print which files there are."""
    options = tyro.cli(Options, args=argv, prog="python -m agents.plot", description=Options.__doc__)
    with ends_in_one_line():
        for path in plot(options.folders, options.out):
            print(path)


if __name__ == "__main__":
    main()
