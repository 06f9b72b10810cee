"""A search by what counts: the loss after a third of the final retraining, not after a short one.

Where an assignment of few bits stands is told badly by a short retraining. A third of the final one sees many times as
many images (CIFAR-10: 10 epochs of 35,000 with two seeds, beside 10,000), so that few assignments are asked for.
"""

from collections.abc import Iterable
from typing import Protocol

from benchmarks.reproduce.rows import Row
from benchmarks.reproduce.searching import SEED, Found
from benchmarks.reproduce.smoothing import smoothed
from benchmarks.reproduce.walking import Step, calibrated
from releq_env.problem import Problem
from releq_env.searchers.gp import GPSearch
from releq_env.workers.waiting import Assignment

_POINTS = 100.0
_FIRST = 0.995
"""The constraint where nothing says which one stands for the allowed loss."""


class Measures(Protocol):
    """What is known, or measured now, of assignments after a third of the final retraining."""

    def loss(self, bitwidths: Assignment) -> float:
        """Return the mean loss, in percentage points."""
        ...


def refine(row: Row, steps: Iterable[Step], screened: Measures) -> tuple[list[Found], float]:
    """Return all that was measured, with its expected accuracy, and the constraint that was searched with.

    Accuracies are relative to a control that has all: one less the loss. The constraint is the one that stands for the
    loss allowed after the whole retraining, by a straight line through what was measured both ways.

    Args:
        row: Gives choices and budget. What was measured before it was begun does not count; what an earlier part of
            this search has measured does.
        steps: What was retrained in full before; at least one.
        screened: Measures a third of a retraining.
    """
    both = [step._replace(found=_found(step.found.bitwidths, screened)) for step in steps]
    least = calibrated(both, _FIRST)
    problem = Problem.from_function(
        len(both[0].found.bitwidths),
        row.bitwidths,
        lambda bitwidths: min(1.0, max(0.0, _found(bitwidths, screened).relative_accuracy)),
        min_relative_accuracy=least,
    )
    searcher = GPSearch(problem, SEED)
    found = {step.found.bitwidths: step.found for step in both}
    searcher.tell(problem.evaluator.evaluate_many(list(found)))
    paid = 0
    while paid < row.refining_budget and (asked := searcher.ask(1)):
        searcher.tell([problem.evaluator.evaluate(asked[0])])
        paid += asked[0] not in found
        found[asked[0]] = _found(asked[0], screened)
    return smoothed(found.values(), least), least


def _found(bitwidths: Assignment, screened: Measures) -> Found:
    return Found(bitwidths, 1.0 - screened.loss(bitwidths) / _POINTS)
