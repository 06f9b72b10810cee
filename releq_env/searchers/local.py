"""Local search: one change after the other, from the best uniform assignment."""

from collections.abc import Sequence

import numpy as np

from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.moves import neighbours, starts
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment


class LocalSearch:
    """Moves to the first neighbour that is better, and begins anew at random where none is.

    Neighbours differ in the bitwidth of one layer, by any amount, and are tried in random order. It begins at the best
    of the uniform assignments. Nothing is asked for twice, and nothing above `max_cost`. A batch of more than one
    assignment may hold neighbours that an improvement before them makes useless.

    Args:
        problem: What is searched.
        seed: Seeds it.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._random = RandomSearch(problem, seed)
        self._merits: dict[Assignment, tuple[bool, float, float]] = {}
        self._best: Assignment | None = None  # since the last start
        self._centre: Assignment | None = None  # whose neighbours are tried
        self._starts = starts(problem)
        self._neighbours: list[Assignment] = []

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` starts, or neighbours of the best assignment since the last start."""
        while not self._starts and not self._neighbours:
            start = self._random.ask(1)
            if not start:
                return []
            if start[0] not in self._merits:
                self._starts, self._best, self._centre = start, None, None
        source = self._starts or self._neighbours
        asked = source[:n]
        del source[:n]
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Move to what is better."""
        for evaluation in evaluations:
            self._merits[evaluation.bitwidths] = self._problem.merit(evaluation)
            self._best = self._better(evaluation.bitwidths)
        while not self._starts and self._best is not None and self._centre != self._best:
            self._centre = self._best
            around = neighbours(self._problem, self._centre, self._generator)
            self._neighbours = [neighbour for neighbour in around if neighbour not in self._merits]
            for neighbour in around:  # what is known of them needs no asking
                if neighbour in self._merits:
                    self._best = self._better(neighbour)

    def _better(self, assignment: Assignment) -> Assignment:
        if self._best is None or self._merits[assignment] > self._merits[self._best]:
            return assignment
        return self._best
