"""Which assignment of a row gets the test: the fewest bits that keep the accuracy after final retraining.

The short retraining of a search is not the final one, so that a search's own constraint is only where to begin. From
there the walk looks for the total of bits where the final accuracy begins to hold. Of each total that it tries, the
assignments that are expected to be most accurate are screened, and the best of them is retrained in full. What was
walked over calibrates the constraint: a second search with it looks again where the answer lies.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from benchmarks.reproduce.searching import Found
from releq_env.errors import ReLeQError
from releq_env.workers.waiting import Assignment

LIMIT = 0.3
"""What the paper allows to be lost, in percentage points."""
MARGIN = 0.1
"""What is kept free of it on validation, where the best of several is taken, in percentage points."""
ALLOWED = LIMIT - MARGIN
MOST = 5
"""How many totals of bits a walk may try."""
SCREENED = 6
"""How many assignments of a total are screened."""


class Step(NamedTuple):
    """An assignment on the walk.

    Attributes:
        found: With its accuracy after short retraining.
        loss: After final retraining on validation, in percentage points.
    """

    found: Found
    loss: float

    @property
    def keeps(self) -> bool:
        """Whether it loses little enough."""
        return self.loss <= ALLOWED


def levels(found: Iterable[Found]) -> list[list[Found]]:
    """Return what was found of every total of bits, from the fewest to the most, the most accurate first.

    Totals are left out of which nothing is more accurate than something of fewer bits, but for those of more bits than
    the most accurate of all: where that does not keep the final accuracy, something of more bits may.
    """
    by_total: dict[int, list[Found]] = {}
    for each in found:
        by_total.setdefault(sum(each.bitwidths), []).append(each)
    every = [sorted(level, key=lambda each: -each.relative_accuracy) for _, level in sorted(by_total.items())]
    accuracies = [level[0].relative_accuracy for level in every]
    highest = int(np.argmax(accuracies)) if every else 0
    return [
        level
        for index, level in enumerate(every)
        if index > highest or accuracies[index] > max(accuracies[:index], default=-np.inf)
    ]


def walk(
    found: Iterable[Found],
    least: float,
    best: Callable[[list[Found]], Found],
    loss: Callable[[Assignment], float],
    most: int = MOST,
) -> list[Step]:
    """Return the steps from where a constraint points to the fewest bits that keep the final accuracy.

    In steps that double until the border is passed, then by halves.

    Args:
        found: What a search has paid for, with its expected accuracy.
        least: The constraint: relative accuracy after short retraining.
        best: Screens the assignments of a total, at most `SCREENED`, the most accurate first.
        loss: Measures an assignment's loss after final retraining, in percentage points.
        most: How many totals it may try.

    Raises:
        ReLeQError: If nothing was found.
    """
    every = levels(found)
    if not every:
        raise ReLeQError("a search has found no assignment to choose from; give it more to spend")
    steps: list[Step] = []
    fails, keeps = -1, len(every)  # between these two lies the border
    # The first that keeps the constraint, or the most accurate.
    accuracies = [level[0].relative_accuracy for level in every]
    index = next((i for i, accuracy in enumerate(accuracies) if accuracy >= least), int(np.argmax(accuracies)))
    stride = 1
    while keeps - fails > 1 and len(steps) < most:
        tried = best(every[index][:SCREENED])
        steps.append(Step(tried, loss(tried.bitwidths)))
        if steps[-1].keeps:
            keeps = index
        else:
            fails = index
        if fails < 0:
            index = max(keeps - stride, 0)
        elif keeps == len(every):
            index = min(fails + stride, len(every) - 1)
        else:
            index = (fails + keeps) // 2
        stride *= 2
    return steps


def chosen(steps: Iterable[Step]) -> Step:
    """Return the fewest bits that keep the accuracy, else what loses least."""
    steps = list(steps)
    keeping = [step for step in steps if step.keeps]
    if keeping:
        return min(keeping, key=lambda step: (sum(step.found.bitwidths), step.loss))
    return min(steps, key=lambda step: step.loss)


def calibrated(steps: Iterable[Step], least: float) -> float:
    """Return the constraint after short retraining that stands for the loss allowed after final retraining.

    A straight line through the steps, read at the allowed loss, within the accuracies that were seen.

    Args:
        steps: What was measured both ways.
        least: The constraint so far, which stays where there is no such line.
    """
    seen = list({step.found.bitwidths: step for step in steps}.values())
    accuracy = np.array([step.found.relative_accuracy for step in seen])
    losses = np.array([step.loss for step in seen])
    if len(seen) < 2 or np.ptp(losses) == 0.0:
        return least
    slope, offset = np.polyfit(losses, accuracy, 1)
    if slope >= 0.0:  # noise: less accurate after short retraining, and better at last
        return least
    most = min(accuracy.max(), 1.0)  # what no constraint exceeds
    return round(float(np.clip(slope * ALLOWED + offset, min(accuracy.min(), most), most)), 4)
