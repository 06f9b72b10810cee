"""Remembers evaluations, and counts them."""

from collections.abc import Sequence

from releq_env.evaluation.cache import EvaluationCache, evaluation_key
from releq_env.evaluation.evaluator import Evaluation
from releq_env.evaluation.retraining import RetrainingEvaluator


class CachedEvaluator:
    """An `Evaluator` that retrains what neither this process nor the cache file knows.

    Args:
        retraining: Measures what is not remembered.
        cache: Where results are kept; `None` keeps them in memory only.
    """

    def __init__(self, retraining: RetrainingEvaluator, cache: EvaluationCache | None) -> None:
        self.retraining = retraining
        self.cache = cache
        self._known: dict[tuple[int, ...], Evaluation] = {}
        self._retrained = 0

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
        """Measure one assignment, or remember it."""
        assignment = tuple(int(bits) for bits in bitwidths)
        if assignment not in self._known:
            self._known[assignment] = self.lookup(assignment) or self._retrain(assignment)
        return self._known[assignment]

    def evaluate_many(self, assignments: Sequence[Sequence[int]]) -> list[Evaluation]:
        """Measure several assignments, in order; repeats are measured once."""
        return [self.evaluate(assignment) for assignment in assignments]

    def lookup(self, bitwidths: Sequence[int]) -> Evaluation | None:
        """Return what the cache file has of an assignment, without counting it as asked for."""
        if self.cache is None:
            return None
        found = self.cache.get(evaluation_key(self.retraining.fingerprint, bitwidths))
        return None if found is None else self._evaluation(tuple(bitwidths), *found)

    def close(self) -> None:
        """Close the cache file."""
        if self.cache is not None:
            self.cache.close()

    def _retrain(self, assignment: tuple[int, ...]) -> Evaluation:
        accuracy, seconds = self.retraining.measure(assignment)
        if self.cache is not None:
            self.cache.put(evaluation_key(self.retraining.fingerprint, assignment), assignment, accuracy, seconds)
        self._retrained += 1
        return self._evaluation(assignment, accuracy, seconds)

    def _evaluation(self, assignment: tuple[int, ...], accuracy: float, seconds: float) -> Evaluation:
        return Evaluation(assignment, accuracy, accuracy / self.full_precision_accuracy, seconds)
