"""A run on a landscape, and the CSV file of all runs."""

import csv
import functools
import io
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.algorithms.registry import find_agent
from agents.run.bare import STEPS_AN_EVALUATION
from benchmarks.common import machine
from benchmarks.dyna.landscapes import landscape
from releq_env.files import replace_file
from releq_env.searchers import search_loop
from releq_env.testing.landscapes import Landscape

AT = (25, 50, 100, 300)


class Job(NamedTuple):
    """What defines a run.

    Attributes:
        landscape: Name, as `landscape` takes it.
        agent: Label, in `AGENTS` or `ABLATION`.
        seed: Of the landscape and of the agent.
        budget: Distinct evaluations.
    """

    landscape: str
    agent: str
    seed: int
    budget: int


class Row(NamedTuple):
    """What came of it; a row of the file.

    Attributes:
        landscape: As in `Job`.
        agent: As in `Job`.
        seed: As in `Job`.
        budget: As in `Job`.
        distinct_evaluations: Those that were asked for.
        at_25: Best objective after 25 of them, normalised; empty if the budget is smaller. So the next three.
        at_50: "
        at_100: "
        at_300: "
        auc: Mean of the normalised best so far over the budget.
        found_at: The evaluation that found the optimum; empty if none did.
        own_seconds: Processor time of the agent itself.
        processor: Of the machine; empty of the rows that were made before it was recorded.
        revision: Of the code; likewise, and outside a checkout.
    """

    landscape: str
    agent: str
    seed: int
    budget: int
    distinct_evaluations: int
    at_25: str
    at_50: str
    at_100: str
    at_300: str
    auc: float
    found_at: str
    own_seconds: float
    processor: str = ""
    revision: str = ""

    @property
    def job(self) -> Job:
        """What defines it."""
        return Job(self.landscape, self.agent, self.seed, self.budget)


def run(job: Job, algo: str, settings: dict[str, Any]) -> Row:
    """Do a run; evaluations are asked for one at a time.

    Args:
        job: The run.
        algo: Name of the agent, a searcher's.
        settings: Hyperparameters.

    Raises:
        ReLeQError: If there is no such agent, or it does not take a setting.
    """
    drawn = landscape(job.landscape, job.seed)
    begun = time.process_time()
    curve = _curve(drawn, job, find_agent(algo).make(drawn.problem, job.seed, **settings))
    seconds = time.process_time() - begun
    distinct = len(curve)
    curve = np.append(curve, np.full(job.budget - distinct, curve[-1]))
    best = np.flatnonzero(curve >= 1.0 - 1e-9)
    at: dict[str, Any] = {f"at_{count}": f"{curve[count - 1]:.6f}" if count <= job.budget else "" for count in AT}
    found_at = str(best[0] + 1) if len(best) else ""
    return Row(
        **job._asdict(),
        distinct_evaluations=distinct,
        **at,
        auc=round(float(curve.mean()), 6),
        found_at=found_at,
        own_seconds=round(seconds, 3),
        processor=machine.processor(),
        revision=_revision(),
    )


@functools.cache
def _revision() -> str:
    return machine.revision() or ""  # of what was imported: a later commit changes nothing of it


def _curve(drawn: Landscape, job: Job, searcher: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the normalised best so far after every distinct evaluation."""
    problem, best, curve, asked = drawn.problem, -np.inf, list[float](), 0
    for told in search_loop(problem, searcher, budget=job.budget):
        asked += len(told)
        best = max([best, *(drawn.normalised(problem.objective(each)) for each in told)])
        curve += [best] * (problem.evaluator.distinct_evaluations - len(curve))
        if asked * problem.num_layers >= STEPS_AN_EVALUATION * job.budget:
            break
    return np.array(curve)


class Rows:
    """All runs there are; appending writes at once.

    Args:
        path: The file. What a killed process left of a line is measured again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        self._before = list(csv.DictReader(whole.splitlines()))
        self.rows = {row.job: row for row in map(_parsed, self._before)}
        self._written = False

    def append(self, row: Row) -> None:
        """Keep a row, on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._written:  # the first time: without half a line, and with all columns
            replace_file(self.path, _csv(self._before, header=True))
            self._written = True
        with self.path.open("a", newline="") as file:
            file.write(_csv([row._asdict()]))
            file.flush()
            os.fsync(file.fileno())
        self.rows[row.job] = row


def _csv(rows: Iterable[Mapping[str, Any]], header: bool = False) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, Row._fields, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _parsed(line: dict[str, str]) -> Row:
    kinds = Row.__annotations__
    return Row(**{name: kinds[name](value) for name, value in line.items()})
