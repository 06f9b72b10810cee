"""What is known of a problem beforehand, by its table: what runs are measured against."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.compare.suite import Entry, is_smallest
from releq_env.problem import Problem
from releq_env.tables import AccuracyTable, Landscape, TableSource

Point = tuple[float, float]
"""Cost q and relative accuracy."""


class Facts(NamedTuple):
    """Of a problem; a row of `problems.csv`.

    Attributes:
        env: Its name.
        reward: Name of the reward.
        table: Name of the table.
        digest: Hash of what was measured.
        seed: The retraining seed that is searched.
        unseen: The other seeds of the table, joined by blanks.
        cost: Name of the cost.
        max_cost: Bound on q, empty if there is none.
        min_relative_accuracy: The accuracy constraint.
        layers: How many there are.
        assignments: How many were measured.
        passing: Share of them that keeps the constraints.
        optimum: The best assignment, joined by blanks.
        optimum_reward: Its reward: normalised 1.
        random_reward: Mean reward of a uniformly random assignment that keeps `max_cost`: normalised 0.
        smallest: 1 if the optimum gives every layer its least bitwidth, else 0.
        hypervolume: Area that the Pareto front dominates in cost and relative accuracy, from (1, 0).
        front: The Pareto front, packed.
        uniform_reward: The best reward of an assignment that gives every layer the same bitwidth; NaN if none was
            measured, or the file is older than this column.
    """

    env: str
    reward: str
    table: str
    digest: str
    seed: int
    unseen: str
    cost: str
    max_cost: str
    min_relative_accuracy: float
    layers: int
    assignments: int
    passing: float
    optimum: str
    optimum_reward: float
    random_reward: float
    smallest: int
    hypervolume: float
    front: str
    uniform_reward: float = math.nan

    @property
    def scale(self) -> float:
        """How far the optimum's reward is above the random mean; 1 where all assignments are alike."""
        return self.optimum_reward - self.random_reward or 1.0


def facts_of(entry: Entry) -> Facts:
    """Return what is known of a problem.

    Raises:
        ReLeQError: If its table is not there, or does not take an argument.
    """
    problem = entry.problem()
    landscape, optimum = problem.landscape, problem.optimum()
    table = _source(problem).table
    return Facts(
        entry.name,
        str(problem.reward),
        table.name,
        table.digest[:16],
        entry.seed,
        " ".join(map(str, _unseen(problem))),
        problem.cost,
        "" if problem.max_cost is None else f"{problem.max_cost:g}",
        problem.min_relative_accuracy,
        problem.num_layers,
        len(landscape),
        round(landscape.passing(), 6),
        " ".join(map(str, optimum.bitwidths)),
        optimum.objective,
        optimum.objective - float(landscape.random_search_regret(1)[0]),
        int(is_smallest(problem)),
        landscape.hypervolume(reference=(1.0, 0.0)) / table.full_precision_accuracy,
        pack_front((each.state_of_quantization, each.relative_accuracy) for each in landscape.pareto_front()),
        max((landscape.answer(each).objective for each in _uniform(problem)), default=math.nan),
    )


def unseen_regret(problem: Problem, bitwidths: Sequence[int]) -> tuple[float, float] | None:
    """Return how an assignment does on the seeds that were not searched; `None` if the table has no others.

    Args:
        problem: What was searched.
        bitwidths: What was recommended.

    Returns:
        Its mean regret, each against that seed's own optimum, and on what share of them it keeps the constraints.
    """
    seeds = _unseen(problem)
    if not seeds:
        return None
    landscapes = [_landscape(_source(problem).table, seed, *_decision(problem)) for seed in seeds]
    kept = [landscape.answer(bitwidths).relative_accuracy >= problem.min_relative_accuracy for landscape in landscapes]
    share = sum(kept) / len(kept) if problem.keeps_max_cost(bitwidths) else 0.0
    return sum(landscape.regret(bitwidths) for landscape in landscapes) / len(landscapes), share


def pack_front(points: Iterable[Point]) -> str:
    """Return a Pareto front as it stands in a file, `"q:a q:a"`; each cost once."""
    by_cost = {f"{q:.5g}": f"{a:.5g}" for q, a in points}
    return " ".join(f"{q}:{a}" for q, a in by_cost.items())


def unpack_front(text: str) -> list[Point]:
    """Return the front that stands in a file."""
    pairs = [part.split(":") for part in text.split()]
    return [(float(q), float(a)) for q, a in pairs]


def from_row(row: Mapping[str, str]) -> Facts:
    """Return what a row of `problems.csv` says."""
    kinds: dict[str, Any] = Facts.__annotations__
    return Facts(**{name: kinds[name](row[name]) for name in Facts._fields if name in row})


def _uniform(problem: Problem) -> list[tuple[int, ...]]:
    """Return the uniform assignments that were measured and keep `max_cost`."""
    source = _source(problem)
    measured = [each for each in problem.uniform() if source.table.get(each, source.seed) is not None]
    return [each for each in measured if problem.keeps_max_cost(each)]


def _source(problem: Problem) -> TableSource:
    source = problem.evaluator.source
    assert isinstance(source, TableSource)
    return source


def _unseen(problem: Problem) -> list[int]:
    source = _source(problem)
    return [seed for seed in source.table.whole_seeds if seed != source.seed]


def _decision(problem: Problem) -> tuple[Any, ...]:
    """Return what of a problem its landscape depends on besides the accuracies."""
    return problem.choices, problem.reward, problem.cost, problem.max_cost, problem.min_relative_accuracy


@functools.lru_cache(maxsize=64)
def _landscape(table: AccuracyTable, seed: int, *decision: Any) -> Landscape:
    names = ("bitwidths", "reward", "cost", "max_cost", "min_relative_accuracy")
    return table.landscape(seed, **dict(zip(names, decision, strict=True)))
