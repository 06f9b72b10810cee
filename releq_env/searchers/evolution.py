"""Regularized evolution: the oldest dies, not the worst."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from releq_env.errors import check_whole
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.moves import draw_unknown, neighbours, starts
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment

_MUTATIONS = 100  # so many in a row that lead to what is known are followed by a random assignment


class Evolution:
    """Changes one bitwidth of the best of a few, drawn from those measured last.

    After Real, Aggarwal, Huang and Le, *Regularized Evolution for Image Classifier Architecture Search*, AAAI 2019.
    Deviations: 1. The first population has the uniform assignments among random ones. 2. Nothing is asked for twice: a
    child that is known is mutated again until it is none. 3. Nothing is above `max_cost`: mutations that are, are not
    drawn. 4. The population is small, for searches of a few hundred assignments.

    Args:
        problem: What is searched.
        seed: Seeds it.
        population: How many of those measured last may be parents.
        tournament: How many of them are drawn; the best of these is the parent.

    Raises:
        ReLeQError: If one of these two is no whole number from 1.
    """

    def __init__(self, problem: Problem, seed: int = 0, population: int = 20, tournament: int = 10) -> None:
        population = check_whole("population", population, 1, "")
        self._tournament = check_whole("tournament", tournament, 1, "")
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._random = RandomSearch(problem, seed)
        self._known: dict[Assignment, tuple[bool, float, float]] = {}
        self._alive: deque[Assignment] = deque(maxlen=population)
        uniform = starts(problem)[:population]
        self._starts = list(dict.fromkeys([*uniform, *self._random.ask(population - len(uniform))]))

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` of the first population, or children."""
        asked = self._starts[:n]
        del self._starts[:n]
        if not asked:
            asked = self._children(n)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Let each take the place of the oldest."""
        for evaluation in evaluations:
            self._known[evaluation.bitwidths] = self._problem.merit(evaluation)
            self._alive.append(evaluation.bitwidths)

    def _children(self, n: int) -> list[Assignment]:
        children: dict[Assignment, None] = {}
        while len(children) < n:
            drawn = self._generator.choice(len(self._alive), min(self._tournament, len(self._alive)), replace=False)
            child = max((self._alive[index] for index in drawn), key=self._known.__getitem__)
            for _ in range(_MUTATIONS):
                around = neighbours(self._problem, child)
                child = around[self._generator.integers(len(around))] if around else child
                if child not in self._known and child not in children:
                    break
            else:
                unknown = draw_unknown(self._random, self._known.keys() | children)
                if not unknown:
                    break
                child = unknown[0]
            children[child] = None
        return list(children)
