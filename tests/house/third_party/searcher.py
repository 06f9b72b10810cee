"""Evolution with one parent: the best so far, a few of its layers changed."""

from collections.abc import Sequence

import numpy as np

from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers import SEARCHERS
from releq_env.searchers.moves import within_max_cost


class OneParent:
    def __init__(self, problem: Problem, seed: int = 0, rate: float = 0.3) -> None:
        self._problem, self._rate = problem, rate
        self._generator = np.random.default_rng(seed)
        self._parent: Evaluation | None = None

    def ask(self, n: int) -> list[tuple[int, ...]]:
        return [within_max_cost(self._problem, self._child(), self._generator) for _ in range(n)]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        known = [evaluation for evaluation in (self._parent, *evaluations) if evaluation is not None]
        self._parent = max(known, key=self._problem.merit)

    def _child(self) -> tuple[int, ...]:
        drawn = [int(self._generator.choice(bits)) for bits in self._problem.choices]
        if self._parent is None:
            return tuple(drawn)
        changed = self._generator.random(len(drawn)) < self._rate
        return tuple(np.where(changed, drawn, self._parent.bitwidths).tolist())


SEARCHERS["one_parent"] = OneParent
