"""What is searched, and who searches: tables that the policy was not trained on."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.algorithms.registry import ALGORITHMS, find_agent
from agents.algorithms.transfer.sight import HORIZON
from agents.algorithms.transfer.weights import SHIPPED
from agents.run.settings import Settings
from benchmarks.common.recording import RESULTS
from benchmarks.compare.run import Job, Variant
from benchmarks.compare.suite import Entry, is_smallest, load
from releq_env.problem import Problem
from releq_env.tables import AccuracyTable
from releq_env.tables.shipped import DATA, TABLES

PUBLISHED = "published_transfer"
ALGORITHMS[PUBLISHED] = "benchmarks.transfer.published:PublishedTransfer"

AGENTS: tuple[Variant, ...] = (
    Variant("transfer", "transfer"),
    Variant("transfer/improvement", "transfer", ("weights=improvement",)),
    Variant("transfer/untrained", "transfer", ("weights=untrained",)),
    Variant("transfer/published", PUBLISHED),
    Variant("gp", "gp"),
    Variant("local", "local"),
    Variant("ppo", "ppo"),
    Variant("random", "random"),
)
"""What is compared. The trained policy; in its place the largest expected improvement by the same belief, so that it
is seen what training is worth; the policy before training; the policy over the published features; and what begins
anew with each network."""

DECISIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "tight": {"min_relative_accuracy": 0.999},
    "size": {"cost": "size"},
    "energy": {"cost": "energy"},
    "bounded": {"cost": "size", "max_cost": 0.35, "min_relative_accuracy": 1.0},
}
"""What is decided on each table, by name; as in the suite of the comparison."""

LOOKED_AT = ("digits", "mnist-wrpn")
"""Tables that were there when the prior and the features were made: the policy has not seen them, its makers have."""

_WORKS = 0.5  # of the full-precision accuracy; what guesses has a tenth
LATER = RESULTS / "transfer" / "tables"
"""Where tables are that were measured after that."""


@dataclass(frozen=True)
class OneByOne(Job):
    """A run in which a searcher asks for one assignment at a time: the most that 20 evaluations can be used for."""

    @property
    def settings(self) -> Settings:
        """Return the settings, as `agents.train` has them but for that."""
        settings = super().settings
        return replace(settings, n_envs=1) if find_agent(self.variant.algo).searches else settings

    def described(self) -> dict[str, Any]:
        """Return all that defines the run besides problem, label and seed: for trained policies their files, too."""
        from benchmarks.transfer import published  # only now: it needs torch

        folder = {"transfer": SHIPPED, "transfer/published": published.SHIPPED}.get(self.variant.label)
        if folder is None:
            return super().described()
        policies = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.npz"))}
        return super().described() | {"policies": policies}


def problems(folder: Path = LATER) -> tuple[list[Entry], list[str]]:
    """Return the problems over the tables that are there, and in words what is left out and why.

    Args:
        folder: Of tables beside the shipped ones; of the same name, they are taken in their place.
    """
    found: list[Entry] = []
    said = [f"{name}: no such table here yet" for name in TABLES if name not in _paths(folder)]
    for name, path in _paths(folder).items():
        if load(path).coverage(0) < 1.0:
            said.append(f"{name}: not measured completely")
            continue
        for decision, arguments in DECISIONS.items():
            entry = Entry(f"{name}/{decision}", path, arguments)
            problem = entry.problem()
            if is_smallest(problem):
                said.append(f"{entry.name}: the smallest assignment is its optimum")
            elif problem.optimum().relative_accuracy < _WORKS:
                said.append(f"{entry.name}: networks that small have collapsed, there is nothing to choose between")
            elif _candidates(problem) <= HORIZON:
                said.append(f"{entry.name}: {HORIZON} evaluations are all that there are")
            else:
                found.append(entry)
    return found, said


def others(without: str, folder: Path = LATER) -> list[AccuracyTable]:
    """Return the complete shipped tables but for one, and those of `folder` that are in their place."""
    tables = [load(path) for name, path in _paths(folder).items() if name in TABLES and name != without]
    return [table for table in tables if table.coverage(0) == 1.0]


def _paths(folder: Path) -> dict[str, str]:
    paths = [*DATA.glob("*.npz"), *folder.glob("*.npz")]
    return {path.stem: str(path) for path in sorted(paths, key=lambda path: (path.stem, path.parent == folder))}


def _candidates(problem: Problem) -> int:
    bound = 1.0 if problem.max_cost is None else problem.max_cost
    return int((problem.landscape.costs <= bound).sum())
