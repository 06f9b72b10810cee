"""A search in one call."""

import os
import sys
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from releq_env.errors import ReLeQError, check_choice, check_whole, short
from releq_env.evaluation import Evaluation
from releq_env.making import make_problem
from releq_env.problem import Problem
from releq_env.searchers.base import Searcher
from releq_env.searchers.folder import SearchFolder, settings
from releq_env.searchers.registry import SEARCHERS, make_searcher
from releq_env.searchers.result import SearchResult
from releq_env.workers.waiting import Assignment

if TYPE_CHECKING:
    from torch import nn

    from releq_env.tasks import Task


FRUITLESS = 1000
"""So many assignments asked for in a row, none of them new, end a search: a method may repeat itself for ever."""


def search(
    problem_or_model: "Problem | Task | str | nn.Module",
    train_data: Any = None,
    validation_data: Any = None,
    *,
    budget: int = 60,
    method: str = "gp",
    cost: str | None = None,
    max_cost: float | None = None,
    min_relative_accuracy: float | None = None,
    seed: int = 0,
    batch: int = 4,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **arguments: Any,
) -> SearchResult:
    """Search the bitwidths of a network's layers.

    Example:
        >>> result = releq_env.search(model, (images, labels), (validation_images, validation_labels), budget=60)
        >>> result.save("smaller")

    Args:
        problem_or_model: A network of one's own; or a `Problem`, a task or its name, or `"module:function"`.
        train_data: Of a network: see `Problem.from_network`.
        validation_data: Likewise.
        budget: Distinct evaluations after which to end. A search ends before where its method has nothing left to
            ask for, or where the last 1,000 assignments that it asked for were all known.
        method: A name in `releq_env.searchers.SEARCHERS`.
        cost: What is to become small, a name in `releq_env.cost.COSTS`. Default: `"size"`, or the problem's own.
        max_cost: Upper bound on the cost, over that at the largest bitwidths. Default: none, or the problem's own.
        min_relative_accuracy: Accuracy constraint in (0, 1]. Default: 0.99, or the task's or problem's own.
        seed: Seeds the searcher; no accuracy depends on it.
        batch: How many assignments are asked for, and measured, at once.
        folder: What was found is kept there at once; called again with it, the search goes on where it was
            stopped, and pays nothing twice. With a larger `budget` it is continued.
        progress: Whether to show a progress bar.
        **arguments: Of `Problem.from_network`, or of `Problem.from_task`.

    Raises:
        ReLeQError: In one line, if something is not accepted.
    """
    budget, batch = check_whole("budget", budget, 1, ""), check_whole("batch", batch, 1, "")
    seed = check_whole("seed", seed, 0)
    check_choice("method", method, SEARCHERS)
    if folder is not None and not isinstance(folder, str | os.PathLike):
        raise ReLeQError(f"folder={short(folder)} is not a path; give that of a folder")
    decision = {"cost": cost, "max_cost": max_cost, "min_relative_accuracy": min_relative_accuracy}
    decision = {name: value for name, value in decision.items() if value is not None}
    problem = _problem(problem_or_model, train_data, validation_data, decision, arguments)
    asked = settings(method, budget, seed, batch, problem)
    searcher = make_searcher(method, problem, seed)  # which may refuse, before a folder is begun
    if folder is None:
        found = _searched(problem, searcher, asked, None, progress)
    else:
        kept = SearchFolder(Path(folder), problem)
        with kept.held():
            before = kept.begin(asked)
            problem.evaluator.remember(before, problem.evaluator.fingerprint)
            try:
                found = _searched(problem, searcher, asked, kept, progress)
            finally:
                problem.evaluator.forget_recorded()
            kept.end()
            known = {each.bitwidths for each in found}
            found += [each for each in before if each.bitwidths not in known]  # what was recorded counts, too
    if not found:
        raise ReLeQError(f"{method} has asked for no assignment; give another method, or more bitwidths or max_cost")
    return SearchResult(problem, tuple(found), asked)


def _searched(
    problem: Problem, searcher: Searcher, asked: dict[str, Any], kept: SearchFolder | None, progress: bool
) -> list[Evaluation]:
    """Ask, evaluate and tell until the budget is used up, or nothing new is asked for any more.

    Whatever was known of the problem before counts, too.
    """
    evaluator = problem.evaluator
    found: dict[tuple[int, ...], Evaluation] = {}
    best: Evaluation | None = None
    fruitless = 0
    before = evaluator.listener
    evaluator.listener = kept or before
    try:
        with tqdm(total=asked["budget"], desc=problem.name, unit="evaluation", disable=not progress) as bar:
            while len(found) < asked["budget"] and fruitless < FRUITLESS:
                wanted = [problem.check(assignment) for assignment in searcher.ask(asked["n_envs"])]
                if not wanted:
                    break
                within = _first(wanted, found, asked["budget"] - len(found))
                told = evaluator.evaluate_many(within)
                if len(within) == len(wanted):  # else it is the end: the next part of the search asks for all of them
                    searcher.tell(told)
                fruitless = fruitless + len(told) if all(each.bitwidths in found for each in told) else 0
                for each in told:
                    found.setdefault(each.bitwidths, each)
                    if kept is not None:
                        kept.evaluated(each, False)  # what the evaluator has known before
                best = max(found.values(), key=problem.merit)
                bar.set_postfix_str(f"best {' '.join(map(str, best.bitwidths))}, {best.accuracy:.4f}", refresh=False)
                bar.update(len(found) - bar.n)
    finally:
        evaluator.listener = before
    return list(found.values())


def _first(wanted: list[Assignment], known: Container[Assignment], new: int) -> list[Assignment]:
    """Return the first of what is asked for, with at most so many that are new."""
    counted: set[Assignment] = set()
    for index, assignment in enumerate(wanted):
        counted |= {assignment} if assignment not in known else set()
        if len(counted) > new:
            return wanted[:index]
    return wanted


def _is_task(given: Any) -> bool:
    task = getattr(sys.modules.get("releq_env.tasks"), "Task", ())  # who has one has imported it; others need no torch
    return isinstance(given, task)


def _problem(
    given: Any, train_data: Any, validation_data: Any, decision: dict[str, Any], more: dict[str, Any]
) -> Problem:
    data = {"train_data": train_data, "validation_data": validation_data}
    if isinstance(given, Problem) or (isinstance(given, str) and ":" in given):
        if unwanted := [name for name, value in (data | more).items() if value is not None]:
            raise ReLeQError(f"{unwanted[0]}= was given beside a problem, which has its own; make the problem with it")
        return make_problem(given).replace(**decision)
    if isinstance(given, str) or _is_task(given):
        if unwanted := [name for name, value in data.items() if value is not None]:
            raise ReLeQError(f"{unwanted[0]}= was given beside a task, which has its own; give a network with it")
        return make_problem(given, **{"cost": "size"} | decision | more)
    if missing := [name for name, value in data.items() if value is None]:
        raise ReLeQError(f"{missing[0]}= is missing; give it with the network {short(type(given).__name__)}")
    return make_problem(None, model=given, **data, **{"cost": "size"} | decision | more)
