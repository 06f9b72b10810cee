"""The one place where evaluations are remembered and counted."""

import contextlib
import functools
import operator
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tqdm.auto import tqdm

from releq_env.errors import ReLeQError, short
from releq_env.evaluation.cache import EvaluationCache, Keys
from releq_env.evaluation.source import Source
from releq_env.seeds import Seed
from releq_env.workers.waiting import Assignment, Measured, Waiting


@dataclass(frozen=True)
class Evaluation:
    """What was measured of an assignment.

    Attributes:
        bitwidths: The assignment, one bitwidth a layer.
        accuracy: Validation accuracy after short retraining, in [0, 1].
        relative_accuracy: `accuracy` / full-precision validation accuracy.
        seconds: How long the retraining and measuring took when it was done.
    """

    bitwidths: tuple[int, ...]
    accuracy: float
    relative_accuracy: float
    seconds: float


class BudgetExhausted(Exception):  # noqa: N818  # the end of a search, not an error
    """A new assignment was asked for when the budget of distinct evaluations was used up."""


class EvaluationListener(Protocol):
    """Follows what a run asks for, e.g. to write it down."""

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        """Called the moment a distinct evaluation is there that was not recorded before."""
        ...

    def diverged(self) -> None:
        """Called if a run that is repeated from its records asks for something else than they say."""
        ...


class Evaluator:
    """Measures assignments by a source: what it has been asked for is remembered, counted and kept.

    An accuracy is a function of the assignment, so it is measured once. Safe under threads. A deep copy
    is the evaluator itself; one that is sent to another process shares the cache file and counts apart.

    Args:
        source: Where accuracies come from.
        cache: File of results, shared with other processes and runs; `None` keeps them in memory only.

    Attributes:
        source: As given.
        cache: As given; without a fingerprint of the source nothing is kept there.
        budget: How many distinct evaluations may be asked for, or `None`.
        listener: Is told of every distinct evaluation.
    """

    def __init__(self, source: Source, cache: EvaluationCache | None = None) -> None:
        self.source = source
        self.cache = cache
        self.budget: int | None = None
        self.listener: EvaluationListener | None = None
        self._forget()

    def _forget(self) -> None:
        self._asked: dict[Assignment, Evaluation] = {}  # by this run
        self._recorded: dict[Assignment, Evaluation] = {}  # by an earlier part of it, and not asked for again yet
        self._retrained: set[Assignment] = set()
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, object]:
        return {"source": self.source, "cache": self.cache, "budget": self.budget, "listener": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __deepcopy__(self, memo: dict[int, object]) -> "Evaluator":
        return self

    @property
    def fingerprint(self) -> Mapping[str, object] | None:
        """Everything but the bitwidths that an accuracy depends on, JSON-able; `None` if that is unknown."""
        return self.source.fingerprint

    @property
    def full_precision_accuracy(self) -> float:
        """Validation accuracy of the network before quantizing, in (0, 1]."""
        return self.source.full_precision_accuracy

    @property
    def distinct_evaluations(self) -> int:
        """Assignments that were asked for at least once: the unit of cost of a search."""
        return len(self._asked)

    @property
    def retrained(self) -> int:
        """How many of them were measured here, not found in the cache or in an earlier part of the run."""
        return len(self._retrained)

    def has_retrained(self, bitwidths: Sequence[int]) -> bool:
        """Return whether an assignment was measured here, not found in the cache or in an earlier part of the run."""
        return _assignment(bitwidths) in self._retrained

    def evaluate(self, bitwidths: Sequence[int]) -> Evaluation:
        """Measure one assignment, or remember it.

        Raises:
            BudgetExhausted: If it is a new one and the budget is used up.
            ReLeQError: If it is not a list of integers, or the source cannot measure it.
        """
        try:
            known = self._asked.get(bitwidths)  # type: ignore[call-overload]  # all that a step asks for in training
        except TypeError:  # a list has no hash
            known = None
        return self.evaluate_many([bitwidths])[0] if known is None else known

    def evaluate_many(self, assignments: Sequence[Sequence[int]], progress: bool = False) -> list[Evaluation]:
        """Measure several assignments, results in order; repeats are measured once.

        Every result is kept the moment it is ready.

        Args:
            assignments: The assignments.
            progress: Whether to show a progress bar with the time left.

        Raises:
            BudgetExhausted: If more of them are new than the budget allows. Those within it are
                measured before.
            ReLeQError: If one is not a list of integers, or the source cannot measure it.
        """
        wanted = list(map(_assignment, assignments))
        with self._lock:
            allowed, _ = self._within_budget(wanted)
            for assignment in allowed:
                self.source.check(assignment)
            if self._recorded:
                self._repeat(allowed)
            allowed, beyond = self._within_budget(wanted)
            missing = [assignment for assignment in allowed if not self._found(assignment)]
            if missing:
                self._measure(missing, progress)
            if beyond:
                raise BudgetExhausted(f"the budget of {self.budget} distinct evaluations is used up")
            return [self._asked[assignment] for assignment in wanted]

    def lookup(self, bitwidths: Sequence[int]) -> Evaluation | None:
        """Return what is known of an assignment, without counting it as asked for."""
        assignment = _assignment(bitwidths)
        known = self._asked.get(assignment) or self._recorded.get(assignment)
        if known is not None or self.cache is None or self._keys is None:
            return known
        found = self.cache.get(self._keys(assignment))
        return None if found is None else self._evaluation(assignment, Measured(*found))

    def remember(self, evaluations: Iterable[Evaluation], fingerprint: Mapping[str, object] | None = None) -> None:
        """Take up what an earlier part of the same run has recorded.

        Each counts when it is asked for again, and costs nothing then. If something is asked for that was
        not recorded while some of them are left, the run has taken another course: all of them count at
        once, and the listener is told.

        Args:
            evaluations: What was recorded.
            fingerprint: What their accuracies depended on: a kill may have come between a record and the
                cache, and so they are kept there now. `None`: they are not.
        """
        keys = None if fingerprint is None else Keys(fingerprint)
        with self._lock:
            for evaluation in evaluations:
                if evaluation.bitwidths not in self._asked:
                    self._recorded[evaluation.bitwidths] = evaluation
                self._keep(evaluation, keys)

    def forget_recorded(self) -> None:
        """Forget what `remember` has taken up and nothing has asked for: the run that it was a part of is over."""
        with self._lock:
            self._recorded = {}

    def reseeded(self, retrain_seed: Seed) -> "Evaluator":
        """Return an evaluator with another retraining seed and counters of its own; it shares cache and workers."""
        return Evaluator(self.source.reseeded(retrain_seed), self.cache)

    def close(self) -> None:
        """Close the cache file and release what the source holds. Both come back when they are needed."""
        if self.cache is not None:
            self.cache.close()
        self.source.close()

    def _within_budget(self, assignments: list[Assignment]) -> tuple[list[Assignment], list[Assignment]]:
        """Return those that have not been asked for before: as far as the budget goes, and beyond it."""
        new = [assignment for assignment in dict.fromkeys(assignments) if assignment not in self._asked]
        left = len(new) if self.budget is None else max(self.budget - len(self._asked), 0)
        return new[:left], new[left:]

    def _measure(self, assignments: list[Assignment], progress: bool) -> None:
        before = len(self._asked)
        results = self.source.measure(Waiting(assignments, self._found))
        bar = tqdm(total=len(assignments), desc="retraining", unit="assignment", disable=not progress)
        with contextlib.closing(results), bar:
            for assignment, measured in results:
                self._retrained.add(assignment)
                self._count(self._evaluation(assignment, measured), retrained=True)
                bar.update(len(self._asked) - before - bar.n)  # what was found meanwhile counts
        if lacking := [assignment for assignment in assignments if assignment not in self._asked]:
            raise ReLeQError(f"the source has not measured {lacking[0]}; let it give all that is waiting, or raise")

    def _repeat(self, assignments: list[Assignment]) -> None:
        """Count those that were recorded. With others among them, nothing recorded may be left then."""
        for assignment in assignments:
            if assignment in self._recorded:
                self._asked[assignment] = self._recorded.pop(assignment)
        if self._recorded and not all(assignment in self._asked for assignment in assignments):
            self._asked |= self._recorded
            self._recorded = {}
            if self.listener is not None:
                self.listener.diverged()

    def _found(self, assignment: Assignment) -> bool:
        """Whether an assignment needs no measuring; it counts from now on."""
        if assignment in self._asked:
            return True
        found = self.lookup(assignment)
        if found is not None:
            self._count(found, retrained=False)
        return found is not None

    def _count(self, evaluation: Evaluation, retrained: bool) -> None:
        """Count it, tell it and keep it; whatever of that fails, nothing that was paid for is lost."""
        self._asked[evaluation.bitwidths] = evaluation
        try:
            if self.listener is not None:
                self.listener.evaluated(evaluation, retrained)
        finally:
            if retrained:
                self._keep(evaluation, self._keys)

    @functools.cached_property
    def _keys(self) -> Keys | None:
        return None if self.fingerprint is None else Keys(self.fingerprint)

    def _keep(self, evaluation: Evaluation, keys: Keys | None) -> None:
        if self.cache is not None and keys is not None:
            key = keys(evaluation.bitwidths)
            self.cache.put(key, evaluation.bitwidths, evaluation.accuracy, evaluation.seconds)

    def _evaluation(self, assignment: Assignment, measured: Measured) -> Evaluation:
        accuracy, seconds = measured
        if not 0.0 <= accuracy <= 1.0:  # percent, or NaN
            raise ReLeQError(
                f"the source has given the accuracy {accuracy!r} for {assignment}; let it give one in [0, 1]"
            )
        return Evaluation(assignment, accuracy, accuracy / self.full_precision_accuracy, seconds)


def _assignment(bitwidths: Sequence[int]) -> Assignment:
    try:
        return tuple(map(operator.index, bitwidths))
    except TypeError:
        raise ReLeQError(
            f"the assignment {short(bitwidths)} is not a list of integers; give one bitwidth a layer"
        ) from None
