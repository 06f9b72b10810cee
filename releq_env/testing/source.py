"""What every source of accuracies has to keep to."""

import json
import pickle

import pytest

from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluator
from releq_env.evaluation.source import Source
from releq_env.seeds import each_seed
from releq_env.workers.waiting import Assignment, Waiting


class SourceContract:
    """Subclass it in a test module under a name that begins with `Test`, and override `make` and `assignments`.

    Attributes:
        is_pickled: Whether it can be sent to another process.
    """

    is_pickled = True

    def make(self) -> Source:
        """Return a new source; two of them measure the same."""
        raise NotImplementedError("return a source")

    def assignments(self) -> list[Assignment]:
        """Return at least two assignments that it can measure."""
        raise NotImplementedError("return assignments that the source can measure")

    def measured(self, source: Source, assignments: list[Assignment]) -> dict[Assignment, float]:
        """Return what a source measures."""
        waiting = Waiting(list(assignments), lambda assignment: False)
        return {assignment: measured.accuracy for assignment, measured in source.measure(waiting)}

    def test_is_a_source(self) -> None:
        assert isinstance(self.make(), Source)

    def test_full_precision_accuracy_is_a_share(self) -> None:
        assert 0.0 < self.make().full_precision_accuracy <= 1.0

    def test_measures_all_that_waits(self) -> None:
        found = self.measured(self.make(), self.assignments())
        assert set(found) == set(self.assignments())
        assert all(0.0 <= accuracy <= 1.0 for accuracy in found.values())

    def test_an_accuracy_is_a_function_of_the_assignment(self) -> None:
        """Whatever was measured before it, or beside it, and by whichever of two sources."""
        together = self.measured(self.make(), self.assignments())
        source = self.make()
        alone: dict[Assignment, float] = {}
        for assignment in reversed(self.assignments()):
            alone |= self.measured(source, [assignment])
        assert alone == together

    def test_nothing_waits(self) -> None:
        assert self.measured(self.make(), []) == {}

    def test_what_does_not_fit_is_refused_in_one_line(self) -> None:
        source, fitting = self.make(), self.assignments()[0]
        for assignment in (fitting[:-1], (*fitting, fitting[0]), ()):
            with pytest.raises(ReLeQError) as refused:
                source.check(assignment)
            assert "\n" not in str(refused.value)
        for assignment in self.assignments():
            source.check(assignment)

    def test_a_fingerprint_says_what_accuracies_depend_on(self) -> None:
        first, second = self.make().fingerprint, self.make().fingerprint
        if first is None:
            assert second is None
        else:
            assert json.loads(json.dumps(dict(first))) == json.loads(json.dumps(dict(second or {})))

    def test_another_seed_has_another_fingerprint_or_there_are_no_seeds(self) -> None:
        source = self.make()
        unseen = max(each_seed(source.retrain_seed)) + 1
        other = source.reseeded(unseen)
        assert isinstance(other, Source)
        if other is not source:
            assert other.retrain_seed == unseen
            assert source.fingerprint is None or other.fingerprint != source.fingerprint
        same = source.reseeded(source.retrain_seed)
        assert self.measured(same, self.assignments()[:1]) == self.measured(source, self.assignments()[:1])

    def test_comes_back_after_closing(self) -> None:
        source = self.make()
        before = self.measured(source, self.assignments()[:1])
        source.close()
        source.close()
        assert self.measured(source, self.assignments()[:1]) == before
        source.close()

    def test_an_evaluator_counts_over_it(self) -> None:
        evaluator = Evaluator(self.make())
        assignments = self.assignments()
        for _ in range(2):
            evaluations = evaluator.evaluate_many([*assignments, assignments[0]])
        assert evaluator.distinct_evaluations == evaluator.retrained == len(set(assignments))
        assert evaluations[0] == evaluations[-1]
        full = evaluator.full_precision_accuracy
        assert all(each.relative_accuracy == each.accuracy / full for each in evaluations)
        evaluator.close()

    def test_is_sent_to_another_process(self) -> None:
        if not self.is_pickled:
            pytest.skip("it is not")
        source = self.make()
        sent = pickle.loads(pickle.dumps(source))
        assert self.measured(sent, self.assignments()) == self.measured(source, self.assignments())
