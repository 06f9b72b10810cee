"""The problems that agents are compared on, by name. Frozen before the runs; `--check` says what each is like.

A name is `table/variant`. None of the main ones has the smallest assignment for its optimum; those that have, and
Digits, on which hyperparameters may be tuned, stand apart and are not averaged in.
"""

import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.run.settings import parse_pairs
from releq_env.errors import ReLeQError, check_choice
from releq_env.problem import Problem
from releq_env.tables import AccuracyTable
from releq_env.tables.shipped import TABLES, table_path

_TAKEN = ("bitwidths", "reward", "cost", "max_cost", "min_relative_accuracy")


@dataclass(frozen=True)
class Entry:
    """A problem over a table.

    Attributes:
        name: `table/variant`.
        table: Name of a shipped table, or a path.
        decision: Arguments of `Problem.from_table`; what is not given is the table's, or the default.
        seed: The retraining seed that is searched.
    """

    name: str
    table: str
    decision: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def problem(self) -> Problem:
        """Return the problem, with an evaluator of its own.

        Raises:
            ReLeQError: If there is no such table, or it does not take an argument.
        """
        return Problem.from_table(load(self.table), seed=self.seed, **self.decision)


def _named(name: str, **decision: Any) -> Entry:
    return Entry(name, name.partition("/")[0], decision)


# With a constraint that hardly an assignment within the bound meets, the reward rises with the accuracy: the question
# is for the most accurate assignment of that size.
_MOST_ACCURATE = {"min_relative_accuracy": 1.0}

MAIN: tuple[Entry, ...] = (
    _named("cifar10/default"),
    _named("cifar10/energy", cost="energy"),
    _named("cifar10/bounded", cost="size", max_cost=0.35, **_MOST_ACCURATE),
    _named("fashion-mnist/default"),
    _named("fashion-mnist/size", cost="size"),
    _named("cifar10-wrpn/default"),
    _named("cifar10-wrpn/size", cost="size"),
    _named("mnist-wrpn/tight", min_relative_accuracy=0.999),
)
"""The main suite."""

APART: tuple[Entry, ...] = (
    _named("mnist/default"),
    _named("mnist-wrpn/default"),
    _named("digits/default"),
)
"""Shown by themselves: trivial ones, and what hyperparameters may be tuned on."""

PAPER: tuple[Entry, ...] = (_named("mnist-wrpn/paper"), _named("cifar10-wrpn/paper"))
"""The two tables with the paper's quantizer, for its ablations; rewards are the ablations'."""

DEFAULTS: tuple[Entry, ...] = tuple(_named(f"{table}/default") for table in TABLES)
"""Each table with its own constraint: how many evaluations an agent needs until it has the optimum."""

GROUPS: dict[str, tuple[Entry, ...]] = {"main": MAIN, "apart": APART, "tables": DEFAULTS, "paper": PAPER}
"""What `--envs` takes beside the names of problems and the paths of tables."""


@functools.cache
def load(table: str) -> AccuracyTable:
    """Return a table, read once a process."""
    return AccuracyTable.load(table)


def find(names: Iterable[str], folder: Path | None = None) -> list[Entry]:
    """Return the problems of that name, in order, none twice.

    Args:
        names: Of groups, of problems, of tables, or paths of tables; behind these two may stand what differs from the
            defaults: `toy.npz:cost=size,bitwidths=[2, 4, 8]`.
        folder: Where `<table>.npz` is looked for before the shipped ones.

    Raises:
        ReLeQError: If something is none of these.
    """
    known = {entry.name: entry for group in GROUPS.values() for entry in group}
    found: dict[str, Entry] = {}
    for name in names:
        given = GROUPS[name] if name in GROUPS else (known[name],) if name in known else (_own(name, known),)
        for entry in given:
            found.setdefault(entry.name, _placed(entry, folder))
    return list(found.values())


def missing(entries: Sequence[Entry]) -> list[str]:
    """Return the shipped tables that the problems need and that are not there."""
    tables = dict.fromkeys(entry.table for entry in entries if entry.table in TABLES)
    return [table for table in tables if not _there(table)]


def check_line(entry: Entry) -> dict[str, Any]:
    """Return what a problem is like, for `--check`: size, share passing, optimum and how hard it is."""
    problem = entry.problem()
    landscape = problem.landscape
    optimum = landscape.optimum()
    size = math.prod(map(len, problem.choices))
    return {
        "problem": entry.name,
        "assignments": size,
        "measured": f"{len(landscape) / size:.1%}",
        "passing": f"{landscape.passing():.2%}",
        "optimum": " ".join(map(str, optimum.bitwidths)),
        "reward": f"{optimum.objective:.4f}",
        "accuracy": f"{optimum.relative_accuracy:.4f}",
        "cost": f"{optimum.state_of_quantization:.4f}",
        "smallest": "yes" if is_smallest(problem) else "no",
        "random needs": f"{landscape.random_search_evaluations():.0f}",
        "local optima": len(landscape.local_optima()),
    }


def is_smallest(problem: Problem) -> bool:
    """Return whether the optimum gives every layer its least bitwidth."""
    return problem.optimum().bitwidths == tuple(of_layer[0] for of_layer in problem.choices)


def _own(name: str, known: Mapping[str, Entry]) -> Entry:
    """Return the problem of a table that is named by itself, with what differs from the defaults."""
    table, _, text = name.partition(":")
    if table not in TABLES and not Path(table).is_file():
        raise ReLeQError(
            f"--envs {name!r} is neither a problem nor a table; give one of {', '.join([*GROUPS, *known])}, or "
            f"TABLE[:NAME=VALUE,...] with the path of an .npz file or one of {', '.join(TABLES)}"
        )
    pairs = re.split(r",(?=\w+=)", text) if text else []  # not at the commas of a list
    decision = parse_pairs(pairs, f"--envs {name}", "cost=size,max_cost=0.4")
    for argument in decision:
        check_choice(f"argument in --envs {name}", argument, _TAKEN)
    called = table if table in TABLES else load(table).name
    return Entry(f"{called}/{text or 'default'}", table, decision)


def _placed(entry: Entry, folder: Path | None) -> Entry:
    path = None if folder is None else folder / f"{entry.table}.npz"
    return entry if path is None or not path.is_file() else Entry(entry.name, str(path), entry.decision, entry.seed)


def _there(table: str) -> bool:
    try:
        table_path(table)
    except ReLeQError:
        return False
    return True
