"""Simulated annealing: a walk that steps down, too, but ever less."""

import math
from collections.abc import Sequence

import numpy as np

from releq_env.errors import check_number
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.moves import draw_unknown, neighbours, starts
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment

_TRIES = 1000  # so many neighbours are drawn in a row before a walk over known ground ends


class Annealing:
    """Walks from neighbour to neighbour, to a worse one with probability `exp(-loss / temperature)`.

    After Kirkpatrick, Gelatt and Vecchi, *Optimization by Simulated Annealing*, Science 220, 1983. Neighbours differ
    in the bitwidth of one layer, by any amount. The walk begins at the best of the uniform assignments. The
    temperature falls with every assignment that is measured; at its end, or where all around is known, the walk
    begins anew, hot, at a random assignment. Steps to what is known cost nothing: nothing is asked for twice, and
    nothing above `max_cost`. Those of a batch are neighbours of the same assignment, and tried one after the other.

    Args:
        problem: What is searched.
        seed: Seeds it.
        temperature: The first one, over the standard deviation of all objectives so far.
        cooling: What an assignment multiplies the temperature by, in [0, 1).
        coldest: The last temperature over the first, in [0, 1).

    Raises:
        ReLeQError: If one of these is not accepted.
    """

    def __init__(
        self, problem: Problem, seed: int = 0, temperature: float = 0.03, cooling: float = 0.98, coldest: float = 0.02
    ) -> None:
        check_number("temperature", temperature, above=0.0)
        for name, share in (("cooling", cooling), ("coldest", coldest)):
            check_number(name, share, below=1.0)
        self._problem = problem
        self._generator = np.random.default_rng(seed)
        self._random = RandomSearch(problem, seed)
        self._hottest, self._cooling, self._coldest = temperature, cooling, temperature * coldest
        self._temperature = temperature
        self._uniform = starts(problem)
        self._starts = self._uniform.copy()
        self._known: dict[Assignment, tuple[bool, float, float]] = {}
        self._spread = 0.0
        self._at: Assignment | None = None

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` starts, or unknown neighbours of where the walk is."""
        asked = self._starts[:n]
        del self._starts[:n]
        if not asked and self._at is not None:
            asked = self._walk(self._at, n)
        if not asked:
            self._at, self._temperature = None, self._hottest
            asked = draw_unknown(self._random, self._known)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Step, or not, to each of what was measured."""
        self._known |= {evaluation.bitwidths: self._problem.merit(evaluation) for evaluation in evaluations}
        numbers = [objective for _, objective, _ in self._known.values() if objective > -math.inf]
        self._spread = float(np.std(numbers)) if numbers else 0.0
        for evaluation in evaluations:
            if evaluation.bitwidths in self._uniform:
                self._at = max(self._at or evaluation.bitwidths, evaluation.bitwidths, key=self._known.__getitem__)
                continue
            self._at = self._step(self._at or evaluation.bitwidths, evaluation.bitwidths)
            self._temperature *= self._cooling
        if self._temperature < self._coldest:
            self._at = None

    def _walk(self, at: Assignment, n: int) -> list[Assignment]:
        """Step over what is known until there are `n` unknown neighbours to step to, if there are."""
        unknown: dict[Assignment, None] = {}
        around = neighbours(self._problem, at)
        for _ in range(_TRIES if around else 0):
            neighbour = around[self._generator.integers(len(around))]
            if neighbour not in self._known:
                unknown[neighbour] = None
                if len(unknown) == n:
                    break
            elif (stepped := self._step(at, neighbour)) != at:
                at, around = stepped, neighbours(self._problem, stepped)
        self._at = at
        return list(unknown)

    def _step(self, at: Assignment, to: Assignment) -> Assignment:
        here, there = self._known[at], self._known[to]
        if there >= here:
            return to
        loss = here[1] - there[1] if there[1] > -math.inf else math.inf
        return to if self._generator.random() < math.exp(-loss / max(self._temperature * self._spread, 1e-12)) else at
