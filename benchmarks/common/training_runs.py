"""Runs of `agents.train` that are kept as results."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

KEPT = ("config.json", "best.json", "assignment.json", "evaluations.csv", "report.md", "report.json", "time.json")
PICTURES = ("episodes.png", "probabilities.png", "pareto.png")


def train(options: Sequence[str], folder: Path) -> bool:
    """Run the training command, or the rest of a run; return whether the run was new.

    Args:
        options: Of a new run, without its folder.
        folder: Of the run.

    Raises:
        subprocess.CalledProcessError: If it fails; it has said why.
    """
    resumed = (folder / "config.json").exists()
    given = ["--resume", str(folder)] if resumed else [*options, "--log-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "agents.train", *given], check=True)
    return not resumed


def prune(folder: Path) -> None:
    """Delete what is not part of the result: the agent, its settings and the episodes (in the pictures)."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        elif path.name not in (*KEPT, *PICTURES):
            path.unlink()
