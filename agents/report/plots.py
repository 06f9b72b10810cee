"""The pictures of a run, in its folder."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.report.files import explained
from agents.report.summary import Candidate
from agents.report.text import MONITOR, PROBABILITIES
from releq_env.problem import Problem
from releq_env.report import pictures
from releq_env.report.reading import read_episodes, read_probabilities
from releq_env.report.run import Row, Run


def draw(
    path: Path,
    problem: Problem,
    rows: Sequence[Mapping[str, Any]],
    candidates: Sequence[Candidate] = (),
    action_mode: str = "flexible",
) -> None:
    """Draw `pareto.png`, and `episodes.png` and `probabilities.png` where the folder has what they show.

    Args:
        path: The run's folder.
        problem: What is searched.
        rows: Of `evaluations.csv`.
        candidates: What was confirmed at the end.
        action_mode: Of the environments: what the actions mean.
    """
    restricted = action_mode == "restricted"
    run = Run(
        folder=path.name,
        settings={"env_kwargs": {"action_mode": action_mode}},
        names=tuple(layer.name for layer in problem.layers),
        choices=problem.choices,
        costs=tuple(map(tuple, problem.costs.tolist())),
        full_precision_accuracy=problem.full_precision_accuracy,
        min_relative_accuracy=problem.min_relative_accuracy,
        max_cost=problem.max_cost,
        reward=problem.reward if isinstance(problem.reward, str) else None,
        rows=tuple(Row(**{**row, "retrained": bool(row["retrained"])}) for row in rows),
        candidates=tuple(candidate.compared(problem) for candidate in candidates),
        episodes=read_episodes(path / MONITOR) if (path / MONITOR).exists() else None,
        probabilities=read_probabilities(path / PROBABILITIES, problem.choices, restricted)
        if (path / PROBABILITIES).exists()
        else None,
    )
    draw_run(path, run)


def draw_run(path: Path, run: Run) -> list[Path]:
    """Draw the same of what the files of a run say, and return the pictures' files."""
    drawn = {"pareto.png": pictures.tradeoff(run)}
    if run.episodes is not None:
        drawn["episodes.png"] = pictures.episodes(run.episodes)
    if run.probabilities is not None:
        drawn["probabilities.png"] = pictures.policy(run, run.probabilities)
    for name, figure in drawn.items():
        with explained(path / name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of characters in a layer's name that the font lacks
            figure.savefig(path / name, dpi=150)
    return [path / name for name in drawn]
