"""Greedy descent: what a person does by hand."""

from collections.abc import Iterator, Sequence

import numpy as np

from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.moves import draw_unknown, starts
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment


class Greedy:
    """Lowers the layer that costs least accuracy per saved cost, from the best uniform assignment.

    In each round every layer is tried at its next cheaper choice, and of those that raise the objective the one with
    the least ratio of lost accuracy to saved cost is kept.
    Where none raises it, the descent is over, and the next one begins: at the next best uniform assignment, then at
    random assignments. What is known is not asked for again, and nothing above `max_cost`. A batch is never larger
    than what is unknown of a round.

    Args:
        problem: What is searched.
        seed: Seeds it: the order within a round, and the random assignments.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._random = RandomSearch(problem, seed)
        self._known: dict[Assignment, Evaluation] = {}
        self._uniform = starts(problem)
        self._at: Assignment | None = None

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` of the uniform assignments, or of a round."""
        unknown = [start for start in self._uniform if start not in self._known]
        while not unknown:
            if self._at is None:
                self._at = self._start()
                if self._at is None:
                    return []
            tried = list(self._lowered(self._at)) if self._at in self._known else [self._at]
            unknown = [assignment for assignment in tried if assignment not in self._known]
            if not unknown:
                self._at = self._next(self._at, tried)
        return unknown[:n]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take up what was measured."""
        self._known |= {evaluation.bitwidths: evaluation for evaluation in evaluations}

    def _start(self) -> Assignment | None:
        if self._uniform:
            best = max(self._uniform, key=self._merit)
            self._uniform.remove(best)
            return best
        return next(iter(draw_unknown(self._random, self._known)), None)

    def _lowered(self, at: Assignment) -> Iterator[Assignment]:
        """Return what `at` becomes if one layer has its next cheaper choice."""
        for layer in self._generator.permutation(len(at)):
            costs = dict(zip(self._problem.choices[layer], self._problem.costs[layer].tolist(), strict=False))
            cheaper = [bits for bits, cost in costs.items() if cost < costs[at[layer]]]
            if cheaper:
                yield (*at[:layer], max(cheaper, key=costs.__getitem__), *at[layer + 1 :])

    def _next(self, at: Assignment, lowered: Sequence[Assignment]) -> Assignment | None:
        """Return where the descent goes on, or `None` at its end."""

        def lost_per_saved(to: Assignment) -> tuple[float, float]:
            lost = max(self._known[at].accuracy - self._known[to].accuracy, 0.0)
            saved = self._problem.state_of_quantization(at) - self._problem.state_of_quantization(to)
            return lost / max(saved, 1e-12), -saved

        better = [to for to in lowered if self._merit(to) > self._merit(at)]
        return min(better, key=lost_per_saved, default=None)

    def _merit(self, assignment: Assignment) -> tuple[bool, float, float]:
        return self._problem.merit(self._known[assignment])
