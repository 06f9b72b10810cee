"""Remembers evaluations, and counts them."""

import contextlib
import operator
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tqdm.auto import tqdm

from releq_env.evaluation.cache import EvaluationCache, evaluation_key
from releq_env.evaluation.evaluator import Evaluation
from releq_env.evaluation.pool import PARALLEL, Assignment, Pool, check_parallel, make_pool
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
        parallel: How `evaluate_many` measures several at once: `"processes"`, `"ray"` or `"stacked"`.
        workers: How many processes or actors it may use. `None`: one a core (on CUDA an actor a
            device, and no further process), and processes only where they are faster.

    Attributes:
        budget: How many distinct evaluations may be asked for, or `None`.
        listener: Is told of every distinct evaluation.

    Raises:
        ReLeQError: If an argument is not accepted.
    """

    def __init__(
        self,
        retraining: RetrainingEvaluator,
        cache: EvaluationCache | None,
        parallel: str = "processes",
        workers: int | None = None,
    ) -> None:
        check_parallel(parallel, workers)
        self.retraining = retraining
        self.cache = cache
        self._parallel = parallel
        self.budget: int | None = None
        self.listener: EvaluationListener | None = None
        self._workers = workers
        self._known: dict[Assignment, Evaluation] = {}
        self._retrained = 0
        self._pool: Pool | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_pool": None, "listener": None}

    @property
    def parallel(self) -> str:
        """How `evaluate_many` measures several at once."""
        return self._parallel

    @property
    def workers(self) -> int | None:
        """How many processes or actors `evaluate_many` may use. Can be set; those that run end then."""
        return self._workers

    @workers.setter
    def workers(self, workers: int | None) -> None:
        check_parallel(self.parallel, workers)
        if workers != self._workers and self._pool is not None:
            self._pool.close()
            self._pool = None
        self._workers = workers

    @property
    def fingerprint(self) -> dict[str, object]:
        """Everything but the bitwidths that an accuracy depends on, JSON-able."""
        return self.retraining.fingerprint | {"parallel": PARALLEL[self.parallel].key}

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
        missing = [assignment for assignment in allowed if not self._found(assignment)]
        if missing:
            self._retrain(missing, progress)
        if len(allowed) < len(new):
            raise BudgetExhausted(f"the budget of {self.budget} distinct evaluations is used up")
        return [self._known[assignment] for assignment in wanted]

    def lookup(self, bitwidths: Sequence[int]) -> Evaluation | None:
        """Return what the cache file has of an assignment, without counting it as asked for."""
        if self.cache is None:
            return None
        found = self.cache.get(evaluation_key(self.fingerprint, bitwidths))
        return None if found is None else self._evaluation(tuple(bitwidths), *found)

    def remember(self, evaluations: Iterable[Evaluation], retrained: int) -> None:
        """Take up the evaluations of an earlier part of the same run, `retrained` of them retrained."""
        self._known |= {evaluation.bitwidths: evaluation for evaluation in evaluations}
        self._retrained += retrained

    def reseeded(self, retrain_seed: int) -> "CachedEvaluator":
        """Return an evaluator with another retraining seed and counters of its own.

        It shares the cache file and the workers.
        """
        other = CachedEvaluator(self.retraining.reseeded(retrain_seed), self.cache, self.parallel, self.workers)
        other._pool = self._made_pool()
        return other

    def close(self) -> None:
        """Close the cache file and end the workers. Both come back when they are needed."""
        if self.cache is not None:
            self.cache.close()
        if self._pool is not None:
            self._pool.close()

    def _retrain(self, assignments: list[Assignment], progress: bool) -> None:
        if self.listener is not None:
            self.listener.requested(assignments)
        before = len(self._known)
        missing = _Missing(assignments, self._found)
        results = self._made_pool().measure(missing, self.retraining.retrain_seed)
        bar = tqdm(total=len(assignments), desc="retraining", unit="assignment", disable=not progress)
        with contextlib.closing(results), bar:
            for assignment, (accuracy, seconds) in results:
                try:
                    if self.cache is not None:
                        self.cache.put(evaluation_key(self.fingerprint, assignment), assignment, accuracy, seconds)
                finally:  # on a full disk, too, is it known what was paid for
                    self._keep(self._evaluation(assignment, accuracy, seconds), retrained=True)
                bar.update(len(self._known) - before - bar.n)  # what was found meanwhile counts

    def _found(self, assignment: Assignment) -> bool:
        """Whether the cache file has an assignment by now; it is kept then."""
        found = self.lookup(assignment)
        if found is not None:
            self._keep(found, retrained=False)
        return found is not None

    def _made_pool(self) -> Pool:
        if self._pool is None:
            self._pool = make_pool(self.parallel, self.retraining, self.workers)
        return self._pool

    def _keep(self, evaluation: Evaluation, retrained: bool) -> None:
        self._known[evaluation.bitwidths] = evaluation
        self._retrained += retrained
        if self.listener is not None:
            self.listener.evaluated(evaluation, retrained)

    def _evaluation(self, assignment: tuple[int, ...], accuracy: float, seconds: float) -> Evaluation:
        return Evaluation(assignment, accuracy, accuracy / self.full_precision_accuracy, seconds)


class _Missing:
    """Assignments to measure, each looked for once more when its turn comes: another run may have measured it."""

    def __init__(self, assignments: Iterable[Assignment], found: Callable[[Assignment], bool]) -> None:
        self._left = deque(assignments)
        self._found = found

    def __iter__(self) -> "_Missing":
        return self

    def __next__(self) -> Assignment:
        while self._left:
            assignment = self._left.popleft()
            if not self._found(assignment):
                return assignment
        raise StopIteration

    def __len__(self) -> int:
        """Return how many are left at most."""
        return len(self._left)
