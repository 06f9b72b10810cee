"""Groups of layers that share a bitwidth, over a stand-in for the live source."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluator
from releq_env.evaluation.grouped import GroupedSource, grouped
from releq_env.workers.waiting import Waiting
from tests.fakes import DIGITS_LAYERS, FakeSource, smooth_accuracy


def source(groups: Any, **kwargs: Any) -> Any:
    fake: Any = FakeSource(**kwargs)
    fake.layers = DIGITS_LAYERS
    return grouped(fake, groups)


def test_no_groups_are_the_source_itself() -> None:
    assert isinstance(source([]), FakeSource)
    assert isinstance(source([["conv1"]]), FakeSource)


@given(st.lists(st.tuples(*[st.integers(1, 8)] * 3), min_size=1, max_size=6))
def test_every_assignment_is_measured_as_that_of_all_layers(assignments: list[tuple[int, ...]]) -> None:
    made = source({"ends": ["conv1", "fc2"]})
    evaluations = Evaluator(made).evaluate_many(assignments)
    for (ends, conv2, fc1), evaluation in zip(assignments, evaluations, strict=True):
        assert evaluation.bitwidths == (ends, conv2, fc1)
        assert evaluation.accuracy == smooth_accuracy((ends, conv2, fc1, ends))


def test_a_group_has_the_sum_of_its_layers() -> None:
    made = source([["conv2", "fc1"]])
    _, together, last = made.layers
    assert (together.name, together.members, together.modules) == ("conv2+fc1", ("conv2", "fc1"), ("conv2", "fc1"))
    assert together.weights == DIGITS_LAYERS[1].weights + DIGITS_LAYERS[2].weights
    assert together.macs == DIGITS_LAYERS[1].macs + DIGITS_LAYERS[2].macs
    assert together.scales == 96
    assert last == DIGITS_LAYERS[3]
    assert last.modules == ("fc2",)


def test_what_is_put_back_is_taken_again() -> None:
    class Twice(FakeSource):
        def measure(self, waiting: Waiting) -> Any:
            first = waiting.take()
            assert first is not None
            waiting.put_back(first)
            assert len(waiting) == 2
            yield from super().measure(waiting)

    fake: Any = Twice()
    fake.layers = DIGITS_LAYERS
    made = grouped(fake, [["conv1", "conv2"]])
    found = dict(made.measure(Waiting([(2, 3, 4), (5, 6, 7)])))
    assert {a: each.accuracy for a, each in found.items()} == {
        (2, 3, 4): smooth_accuracy((2, 2, 3, 4)),
        (5, 6, 7): smooth_accuracy((5, 5, 6, 7)),
    }


def test_the_fingerprint_tells_groups_apart() -> None:
    known = {"data": 1}
    first, second = (source(groups, fingerprint=known) for groups in ([["conv1", "conv2"]], [["fc1", "fc2"]]))
    assert first.fingerprint != second.fingerprint
    assert {**first.fingerprint, **known} == first.fingerprint
    assert source([["conv1", "conv2"]]).fingerprint is None


def test_another_length_is_refused() -> None:
    made = source([["conv1", "conv2"]])
    assert isinstance(made, GroupedSource)
    with pytest.raises(ReLeQError, match="give 3, one a layer or group"):
        made.check((1, 1, 1, 1))
