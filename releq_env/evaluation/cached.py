"""Remembers evaluations, and counts them."""

import operator
from collections.abc import Iterable, Sequence
from typing import Protocol

from tqdm.auto import tqdm

from releq_env.evaluation.cache import EvaluationCache, evaluation_key
from releq_env.evaluation.evaluator import Evaluation
from releq_env.evaluation.parallel import WorkerPool
from releq_env.evaluation.retraining import RetrainingEvaluator


class BudgetExhausted(Exception):  # noqa: N818  # the end of a search, not an error
    """A new assignment was asked for when the budget of distinct evaluations was used up."""


class EvaluationListener(Protocol):
    """Follows what a run asks for, e.g. to write it down."""

    def requested(self, assignments: Sequence[tuple[int, ...]]) -> None:
        """Called before new assignments are retrained."""
        ...

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        """Called the moment a distinct evaluation is there."""
        ...


class CachedEvaluator:
    """An `Evaluator` that retrains what neither this process nor the cache file knows.

    Args:
        retraining: Measures what is not remembered.
        cache: Where results are kept; `None` keeps them in memory only.

    Attributes:
        budget: How many distinct evaluations may be asked for, or `None`.
        workers: How many processes `evaluate_many` may retrain in.
        listener: Is told of every distinct evaluation.
    """

    def __init__(self, retraining: RetrainingEvaluator, cache: EvaluationCache | None) -> None:
        self.retraining = retraining
        self.cache = cache
        self.budget: int | None = None
        self.workers = 1
        self.listener: EvaluationListener | None = None
        self._known: dict[tuple[int, ...], Evaluation] = {}
        self._retrained = 0
        self._pool: WorkerPool | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_pool": None, "listener": None}

    @property
    def distinct_evaluations(self) -> int:
        """Assignments that were asked for at least once."""
        return len(self._known)

    @property
    def retrained(self) -> int:
        """How many of them were retrained, not found in the cache."""
        return self._retrained

    @property
    def full_precision_accuracy(self) -> float:
        """Validation accuracy of the pre-trained network, in [0, 1]."""
        return self.retraining.pretrained.accuracy

    def evaluate(self, bitwidths: Sequence[int]) -> Evaluation:
        """Measure one assignment, or remember it.

        Raises:
            BudgetExhausted: If it is a new one and the budget is used up.
        """
        return self.evaluate_many([bitwidths])[0]

    def evaluate_many(self, assignments: Sequence[Sequence[int]], progress: bool = False) -> list[Evaluation]:
        """Measure several assignments, results in order; repeats are measured once.

        Every result is in the cache the moment it is ready.

        Args:
            assignments: The assignments.
            progress: Whether to show a progress bar with the time left.

        Raises:
            BudgetExhausted: If more of them are new than the budget allows. Those within it are
                measured before.
        """
        wanted = [tuple(map(operator.index, assignment)) for assignment in assignments]
        new = [assignment for assignment in dict.fromkeys(wanted) if assignment not in self._known]
        allowed = new if self.budget is None else new[: max(self.budget - len(self._known), 0)]
        missing = []
        for assignment in allowed:
            found = self.lookup(assignment)
            if found is None:
                missing.append(assignment)
            else:
                self._keep(found, retrained=False)
        if missing:
            self._retrain(missing, progress)
        if len(allowed) < len(new):
            raise BudgetExhausted(f"the budget of {self.budget} distinct evaluations is used up")
        return [self._known[assignment] for assignment in wanted]

    def lookup(self, bitwidths: Sequence[int]) -> Evaluation | None:
        """Return what the cache file has of an assignment, without counting it as asked for."""
        if self.cache is None:
            return None
        found = self.cache.get(evaluation_key(self.retraining.fingerprint, bitwidths))
        return None if found is None else self._evaluation(tuple(bitwidths), *found)

    def remember(self, evaluations: Iterable[Evaluation], retrained: int) -> None:
        """Take up the evaluations of an earlier part of the same run, `retrained` of them retrained."""
        self._known |= {evaluation.bitwidths: evaluation for evaluation in evaluations}
        self._retrained += retrained

    def reseeded(self, retrain_seed: int) -> "CachedEvaluator":
        """Return an evaluator with another retraining seed and counters of its own.

        It shares the cache file and the worker processes.
        """
        other = CachedEvaluator(self.retraining.reseeded(retrain_seed), self.cache)
        other.workers, other._pool = self.workers, self._started_pool()
        return other

    def close(self) -> None:
        """Close the cache file and end the workers. Both come back when they are needed."""
        if self.cache is not None:
            self.cache.close()
        if self._pool is not None:
            self._pool.close()

    def _retrain(self, assignments: list[tuple[int, ...]], progress: bool) -> None:
        if self.listener is not None:
            self.listener.requested(assignments)
        if self.workers > 1 and len(assignments) > 1:
            results = self._started_pool().measure(assignments, self.retraining.retrain_seed)
        else:
            results = ((assignment, self.retraining.measure(assignment)) for assignment in assignments)
        bar = tqdm(results, total=len(assignments), desc="retraining", unit="assignment", disable=not progress)
        for assignment, (accuracy, seconds) in bar:
            if self.cache is not None:
                key = evaluation_key(self.retraining.fingerprint, assignment)
                self.cache.put(key, assignment, accuracy, seconds)
            self._keep(self._evaluation(assignment, accuracy, seconds), retrained=True)

    def _started_pool(self) -> WorkerPool:
        if self._pool is None:
            self._pool = WorkerPool(self.retraining, self.workers)
        self._pool.workers = self.workers
        return self._pool

    def _keep(self, evaluation: Evaluation, retrained: bool) -> None:
        self._known[evaluation.bitwidths] = evaluation
        self._retrained += retrained
        if self.listener is not None:
            self.listener.evaluated(evaluation, retrained)

    def _evaluation(self, assignment: tuple[int, ...], accuracy: float, seconds: float) -> Evaluation:
        return Evaluation(assignment, accuracy, accuracy / self.full_precision_accuracy, seconds)
