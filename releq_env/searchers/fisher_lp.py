"""Sensitivities and a knapsack: what HAWQ and the vendors' tools do."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.knapsack import knapsack_front
from releq_env.sensitivity import IMAGES, additive_losses
from releq_env.workers.waiting import Assignment


class FisherLP:
    """Asks for the assignments that a sum of the layers' sensitivities says to be best, one a budget, and ends.

    HAWQ-V2 (arXiv 1911.03852), HAWQ-V3 (arXiv 2011.10680) and vendors' tools measure each layer alone, add up, and
    solve an integer linear program for a budget that a person gives. Here all budgets are solved at once, exactly,
    and the budget is what is searched: by bisection for the cheapest whose assignment keeps the accuracy constraint,
    taking accuracy to rise along them; then the rest, the nearest first. That layers interact, it cannot know, and
    when every budget's assignment is known, it has nothing more to say.

    Args:
        problem: What is searched. From a table the stored sensitivities are taken, a network's are measured now.
        seed: Nothing depends on it.
        proxy: `"fisher"`, `"hessian"` or `"loss"`, see `releq_env.sensitivity.PROXIES`.
        sensitivities: Numbers to take instead, a row a layer and one a choice.
        images: How many training images they are measured on.

    Attributes:
        about: Where the sensitivities are from, what they cost, and how many `answers` they lead to; JSON-able.

    Raises:
        ReLeQError: In one line, if there are none to be had.
    """

    def __init__(
        self, problem: Problem, seed: int = 0, *, proxy: str = "fisher", sensitivities: Any = None, images: int = IMAGES
    ) -> None:
        losses, self.about = additive_losses(problem, proxy, sensitivities, images)
        self._least = problem.min_relative_accuracy
        self._answers = answers(problem, losses)
        self._index = {assignment: index for index, assignment in enumerate(self._answers)}
        self.about["answers"] = len(self._answers)
        self._asked: set[int] = set()
        self._low, self._high = 0, len(self._answers)  # the first that passes is in here, or at the end

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` answers of budgets that are not known yet; none when all are."""
        if self._low < self._high:
            cuts = np.linspace(self._low, self._high, min(n, self._high - self._low) + 2)[1:-1]
            chosen = list(dict.fromkeys(map(int, cuts)))
        else:
            left = [index for index in range(len(self._answers)) if index not in self._asked]
            chosen = sorted(left, key=lambda index: (abs(index - self._high), index))[:n]
        self._asked.update(chosen)
        return [self._answers[index] for index in chosen]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take up what was measured."""
        if self._low == self._high:
            return
        passed = {self._index[each.bitwidths]: each.relative_accuracy >= self._least for each in evaluations}
        self._high = min([self._high, *(index for index, keeps in passed.items() if keeps)])
        failed = [index + 1 for index, keeps in passed.items() if not keeps and index < self._high]
        self._low = max([self._low, *failed])


def answers(problem: Problem, losses: Any) -> list[Assignment]:
    """Return the assignments that lose least within some budget of the problem's cost, by rising cost.

    Args:
        problem: The problem; its `max_cost` is kept.
        losses: `L[layer, choice]`.
    """
    most = np.inf if problem.max_cost is None else problem.max_cost * float(problem.costs.max(axis=1).sum())
    rows = knapsack_front(problem.costs, losses, [len(of_layer) for of_layer in problem.choices], most)
    found = map(problem.assignment, rows.tolist())
    return [assignment for assignment in found if problem.keeps_max_cost(assignment)]
