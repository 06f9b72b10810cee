"""Records out of what searches leave behind: the cache of evaluations, the folder of a run."""

import csv
import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from releq_env.errors import ReLeQError
from releq_env.evaluation.cache import EvaluationCache, Keys
from releq_env.paths import expanded
from releq_env.tables.described import Described
from releq_env.workers.waiting import Assignment

_LARGEST_SPACE = 2**20  # assignments that are looked up one by one


class Found(NamedTuple):
    """One record."""

    bitwidths: Assignment
    seed: int
    accuracy: float


def from_cache(path: str | os.PathLike[str], problem: Described, seeds: int | Sequence[int] | None) -> list[Found]:
    """Return what a cache file knows of a problem. It is asked for every assignment of its choices.

    Args:
        path: The file; it has to be there.
        problem: Says what the accuracies have to depend on.
        seeds: Retraining seeds, or one. Default: the problem's own.

    Raises:
        ReLeQError: If the file is not there, the choices are too many, or accuracies cannot be told apart.
    """
    if not expanded(path).is_file():
        raise ReLeQError(f"there is no cache {os.fspath(path)}; give the file that the problem was made with (cache=)")
    size = math.prod(map(len, problem.choices))
    if size > _LARGEST_SPACE:
        raise ReLeQError(
            f"{problem.name} has {size} assignments, and at most {_LARGEST_SPACE} are looked up; narrow it with "
            "problem.replace(bitwidths=...)"
        )
    if seeds is None or isinstance(seeds, int):
        seeds = _single(problem.evaluator.source.retrain_seed if seeds is None else seeds)
    cache = EvaluationCache(path)
    try:
        return list(_looked_up(cache, problem, seeds))
    finally:
        cache.close()


def _single(seed: Any) -> list[int]:
    if isinstance(seed, tuple | list):
        raise ReLeQError(f"these accuracies are means over the seeds {tuple(seed)}; a table has those of single seeds")
    return [int(seed)]


def _seed_of_run(depends: dict[str, Any]) -> int:
    if depends.get("fill") is not None:
        raise ReLeQError("this run was over a table with fill=, and some of its accuracies were never measured")
    if depends.get("retrain_seed", 0) is None:
        raise ReLeQError("this run was over the means of a table's seeds; a table has accuracies of single seeds")
    return _single(depends.get("retrain_seed", 0))[0]


def _check_problem(path: Path, problem: Described, depends: Any, full_precision_accuracy: float) -> None:
    own = problem.evaluator.source.fingerprint
    same = math.isclose(full_precision_accuracy, problem.full_precision_accuracy, rel_tol=1e-4)
    if same and own is not None:  # the seed is each record's own
        here, there = json.loads(json.dumps(dict(own))) | {"retrain_seed": 0}, dict(depends or {}) | {"retrain_seed": 0}
        same = here == there
    if not same:
        raise ReLeQError(
            f"the run in {path} is not of {problem.name} as it is measured here; give its own problem, or none"
        )


def _looked_up(cache: EvaluationCache, problem: Described, seeds: Sequence[int]) -> Iterator[Found]:
    for seed in seeds:
        fingerprint = problem.evaluator.source.reseeded(seed).fingerprint
        if fingerprint is None:
            raise ReLeQError(
                f"what the accuracies of {problem.name} depend on is not known, so no cache has them; use from_records"
            )
        keys = Keys(fingerprint)
        for bitwidths in itertools.product(*problem.choices):
            found = cache.get(keys(bitwidths))
            if found is not None:
                yield Found(bitwidths, seed, found[0])


class OfRun(NamedTuple):
    """What a run has left behind.

    Attributes:
        found: Its records.
        full_precision_accuracy: Of its network.
        min_relative_accuracy: Its constraint.
    """

    found: list[Found]
    full_precision_accuracy: float
    min_relative_accuracy: float


def from_run(folder: str | os.PathLike[str], problem: Described | None = None) -> OfRun:
    """Return what a run has evaluated.

    Raises:
        ReLeQError: If there is no run in the folder, it is damaged, or not of the problem.
    """
    path = expanded(folder)
    try:
        config = json.loads((path / "config.json").read_text())
        depends = config["accuracy_depends_on"]
        seed = _seed_of_run(depends or config.get("known") or {})  # of one's own loss only what is known
        text = (path / "evaluations.csv").read_text()
        rows = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))  # a kill may have cut the last one
        found = [Found(tuple(map(int, row["bitwidths"].split())), seed, float(row["accuracy"])) for row in rows]
        of_problem = config["problem"]
        full, least = (float(of_problem[name]) for name in ("full_precision_accuracy", "min_relative_accuracy"))
        if not found:
            raise ReLeQError(f"the run in {path} has evaluated nothing yet; let it go on")
        if problem is not None:
            _check_problem(path, problem, depends, full)
        return OfRun(found, full, least)
    except ReLeQError:
        raise
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ReLeQError(f"{path} holds no run ({type(error).__name__}: {error}); give its --log-dir") from error
