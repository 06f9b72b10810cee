"""Which runs are to be done, in which order, how long that will take; and doing them."""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from agents.algorithms.registry import ALGORITHMS
from benchmarks.compare import ablations
from benchmarks.compare.pool import Outcome, Pool
from benchmarks.compare.results import Key, Results
from benchmarks.compare.run import Job, Row, Variant
from benchmarks.compare.suite import Entry
from releq_env.errors import ReLeQError

_WRITE_SECONDS = 10.0  # between two writings of the CSV file
_POLL_SECONDS = 2.0  # between two looks whether another process has finished


class Estimate(NamedTuple):
    """How long the runs of an agent take.

    Attributes:
        algo: Its label.
        seconds: Mean of a run; NaN if none was made.
        processor_seconds: Mean that the processor was busy with the agent, which is nearly all of a run on a table.
        done: How many are there.
        left: How many are not.
    """

    algo: str
    seconds: float
    processor_seconds: float
    done: int
    left: int


def variants(names: Iterable[str], overrides: Iterable[str]) -> list[Variant]:
    """Return agents by name, none twice, with hyperparameters that differ.

    Args:
        names: Of agents, of groups in `ablations.GROUPS`, `all` (every agent but `exhaustive`), or `label=name` to
            call an agent something else.
        overrides: `"name:hyperparameter=value"` each; the name is an agent's or a label.

    Raises:
        ReLeQError: If a name is unknown, or an override is for none of them.
    """
    found: dict[str, Variant] = {}
    for given in names:
        label, _, algo = given.rpartition("=")
        if given == "all":
            chosen = [Variant(each, each) for each in ALGORITHMS if each != "exhaustive"]
        elif given in ablations.GROUPS:
            chosen = list(ablations.GROUPS[given])
        elif algo in ALGORITHMS:
            chosen = [Variant(label or algo, algo)]
        else:
            accepted = ", ".join(["all", *ablations.GROUPS, *ALGORITHMS])
            raise ReLeQError(f"--algos {given!r} is no agent; give some of {accepted}, or LABEL=AGENT")
        for variant in chosen:
            found.setdefault(variant.label, variant)
    for override in overrides:
        name, _, pair = override.partition(":")
        concerned = [variant for variant in found.values() if name in (variant.label, variant.algo)]
        if not concerned or "=" not in pair:
            raise ReLeQError(
                f"--hyperparams {override!r} is not accepted; give AGENT:NAME=VALUE with one of {', '.join(found)}, "
                "e.g. ppo:learning_rate=0.001"
            )
        for variant in concerned:
            found[variant.label] = replace(variant, hyperparams=(*variant.hyperparams, pair))
    return list(found.values())


def jobs(
    entries: Sequence[Entry], agents: Sequence[Variant], seeds: Iterable[int], budget: int, timesteps: int
) -> list[Job]:
    """Return the runs, in order: a seed of everything first, so that what is there at any time is a fair sample.

    A variant's own decision (its reward) takes the place of the problem's.
    """
    return [
        Job(replace(entry, decision={**entry.decision, **dict(variant.decision)}), variant, seed, budget, timesteps)
        for seed in seeds
        for entry in entries
        for variant in agents
    ]


def estimates(wanted: Sequence[Job], rows: Mapping[Any, Row]) -> list[Estimate]:
    """Return for each agent how long its runs took, and how many are left."""
    took: dict[str, list[tuple[float, float]]] = {job.variant.label: [] for job in wanted}
    for row in rows.values():
        if row.algo in took:
            took[row.algo].append((row.seconds, row.own_seconds))
    counts = {label: [0, 0] for label in took}  # left, done
    for job in wanted:
        counts[job.variant.label][job.key in rows] += 1
    found = []
    for label, made in took.items():
        wall, busy = np.mean(made, axis=0).tolist() if made else (math.nan, math.nan)
        left, done = counts[label]
        found.append(Estimate(label, wall, busy, done, left))
    return found


def seconds_left(found: Sequence[Estimate], workers: int) -> float:
    """Return how long the rest will take; an agent that has made no run counts as the mean of the others."""
    known = [each.seconds for each in found if not math.isnan(each.seconds)]
    usual = sum(known) / len(known) if known else math.nan
    left = [(usual if math.isnan(each.seconds) else each.seconds) * each.left for each in found if each.left]
    return sum(left) / workers


def do(wanted: Sequence[Job], results: Results, pool: Pool, tell: Callable[[str], None]) -> list[Outcome]:
    """Do the runs that are not there, each once however many processes are at it; return what failed.

    What an agent refuses on a problem is not asked again with another seed.

    Args:
        wanted: The runs.
        results: Takes them up.
        pool: Does them; is closed.
        tell: Is told at once, in one line, of each that failed.
    """
    doing = _Doing(wanted, results, pool, tell)
    try:
        doing.to_the_end()
    finally:
        doing.close()
    return doing.failed


class _Doing:
    """What is to be done, under way, or with another process."""

    def __init__(self, wanted: Sequence[Job], results: Results, pool: Pool, tell: Callable[[str], None]) -> None:
        self.failed: list[Outcome] = []
        self._wanted, self._results, self._pool, self._tell = wanted, results, pool, tell
        self._todo = deque(job for job in wanted if job.key not in results.rows)
        self._elsewhere: list[Job] = []  # another process is at them
        self._under_way: dict[Key, FileLock] = {}
        self._refused: set[tuple[str, str]] = set()
        self._written = time.monotonic()
        self._bar = _bar(len(wanted), len(wanted) - len(self._todo))

    def to_the_end(self) -> None:
        while self._todo or self._elsewhere or self._under_way:
            while self._todo and len(self._under_way) < self._pool.capacity:
                self._begin(self._todo.popleft())
            for outcome in self._pool.next() if self._under_way else []:
                self._take_up(outcome)
            if self._elsewhere and not self._todo and not self._under_way:
                time.sleep(_POLL_SECONDS)
                self._results.refresh()
                self._todo, self._elsewhere = deque(self._elsewhere), []
            self._show()
            if time.monotonic() - self._written > _WRITE_SECONDS:
                self._results.write()
                self._written = time.monotonic()

    def close(self) -> None:
        self._bar.close()
        self._pool.close()
        for lock in self._under_way.values():
            self._results.release(lock)
        self._results.write()

    def _begin(self, job: Job) -> None:
        """Give out a job, unless it is done, or another process is at it."""
        if job.key in self._results.rows or job.key[:2] in self._refused:
            return
        lock = self._results.claim(job.key)
        if lock is None:
            self._elsewhere.append(job)
            return
        self._results.refresh()  # the other process may have finished it a moment ago
        if job.key in self._results.rows:
            self._results.release(lock)
            return
        self._under_way[job.key] = lock
        self._pool.submit(job)

    def _take_up(self, outcome: Outcome) -> None:
        key = outcome.job.key
        if outcome.row is not None:
            self._results.append(outcome.row)
        elif key[:2] not in self._refused:
            self.failed.append(outcome)
            self._tell(f"{' '.join(map(str, key))} failed: {outcome.error}")
            self._refused |= {key[:2]} if outcome.refused else set()
        self._results.release(self._under_way.pop(key))

    def _show(self) -> None:
        found = estimates(self._wanted, self._results.rows)
        left = seconds_left(found, self._pool.capacity)
        if not math.isnan(left):
            self._bar.set_postfix_str(f"{tqdm.format_interval(left)} left", refresh=False)
        self._bar.update(sum(each.done for each in found) - self._bar.n)


def _bar(total: int, initial: int) -> Any:
    watched = sys.stderr.isatty()
    return tqdm(
        total=total, initial=initial, unit="run", mininterval=0.5 if watched else 30.0, dynamic_ncols=watched,
        bar_format="{percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt} runs [{elapsed} gone{postfix}]",
    )  # fmt: skip
