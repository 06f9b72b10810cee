"""What a searcher is, and the loop that owns the budget."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from releq_env.evaluation import BudgetExhausted, Evaluation, Evaluator
from releq_env.problem import Problem
from releq_env.workers.waiting import Assignment


class Searcher(Protocol):
    """Says which assignments to evaluate next. Knows no budget, no files and no environments.

    It is made as `factory(problem, seed, **hyperparameters)`, and what it asks for is a function of the seed
    and of what it was told: a run is resumed by repeating it.
    """

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` assignments to evaluate, none if nothing is left to try."""
        ...

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take up the evaluations of what was asked for last, in that order."""
        ...


def search_loop(
    problem: Problem,
    searcher: Searcher,
    *,
    budget: int | None = None,
    batch: int = 1,
    evaluate: Callable[[Sequence[Assignment]], list[Evaluation]] | None = None,
) -> Iterator[list[Evaluation]]:
    """Ask, evaluate and tell; the caller may stop at any time. The best is `max(..., key=problem.merit)`.

    Example:
        >>> searcher = make_searcher("local", problem, seed=0)
        >>> found = [each for told in search_loop(problem, searcher, budget=60) for each in told]
        >>> best = max(found, key=problem.merit)

    Args:
        problem: What is searched.
        searcher: Says where to look.
        budget: Further distinct evaluations after which to end; `None` keeps the budget of the problem's evaluator.
        batch: How many assignments are asked for, and measured, at once.
        evaluate: Does the evaluating. Default: the problem's evaluator.

    Yields:
        What was just evaluated, repeats among it; the searcher has been told of it.

    Raises:
        ReLeQError: If the searcher asks for something that is no assignment of the problem.
    """
    evaluator = problem.evaluator
    before = evaluator.budget
    if budget is not None:
        evaluator.budget = evaluator.distinct_evaluations + budget
    evaluate = evaluate or evaluator.evaluate_many
    try:
        while evaluator.budget is None or evaluator.distinct_evaluations < evaluator.budget:
            asked = [problem.check(assignment) for assignment in searcher.ask(batch)]
            if not asked:
                return
            try:
                evaluations = evaluate(asked)
            except BudgetExhausted:  # some are beyond it; the others have been measured
                yield list(_within_budget(evaluator, asked))
                return
            searcher.tell(evaluations)
            yield evaluations
    finally:
        evaluator.budget = before  # others use it, too


def _within_budget(evaluator: Evaluator, assignments: Sequence[Assignment]) -> Iterator[Evaluation]:
    for assignment in assignments:
        with contextlib.suppress(BudgetExhausted):
            yield evaluator.evaluate(assignment)
