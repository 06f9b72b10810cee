"""Groups of layers that share a bitwidth, over a stand-in for the live source."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env import AccuracyTable, Problem
from releq_env.cost import COSTS, cost_matrix, cost_model
from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluator
from releq_env.evaluation.grouped import GroupedSource, grouped
from releq_env.layer_info import LayerInfo
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


@pytest.mark.parametrize("cost", COSTS)
def test_a_group_costs_what_its_layers_cost(cost: str) -> None:
    sizes = [(4, 5), (3, 300), (10, 7)]
    layers = tuple(
        LayerInfo(f"l{n}", n=n, c=each, k=1, weights=n * each, macs=n * each * 17, std=0.1, scales=n)
        for n, each in sizes
    )
    fake: Any = FakeSource()
    fake.layers = layers
    single, group = (
        Problem("fake", made.layers, choices, choices, Evaluator(made), "lsq", cost=cost)
        for made, choices in ((fake, ((1, 3, 8),) * 3), (grouped(fake, [["l4", "l3"]]), ((1, 3, 8),) * 2))
    )
    assert group.terms((3, 8)) == pytest.approx(single.terms((3, 3, 8)))
    assert group.terms((3, 8))["average_bits"] == pytest.approx(14 / 3)
    assert group.size_in_bytes((3, 8)) == single.size_in_bytes((3, 3, 8))


def test_costs_of_a_file_are_those_of_the_groups_layers(tmp_path: Path) -> None:
    made = source([["conv2", "fc1"]])
    rows = [f"{layer.name},2,{index + 1}\n" for index, layer in enumerate(DIGITS_LAYERS)]
    (tmp_path / "costs.csv").write_text("layer,bits,cost\n" + "".join(rows))
    model = cost_model(f"csv:{tmp_path / 'costs.csv'}")
    assert cost_matrix("csv", model, made.layers, ((2,),) * 3).tolist() == [[1.0], [2.0 + 3.0], [4.0]]


def test_a_group_comes_back_from_a_table(tmp_path: Path) -> None:
    layers = source([["conv2", "fc1"]]).layers
    table = AccuracyTable.from_records([[2, 2, 2]], [0.9], full_precision_accuracy=0.98, layers=layers)
    table.save(tmp_path / "table.npz")
    assert AccuracyTable.load(tmp_path / "table.npz").layers == layers


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


def test_a_group_of_one_keeps_its_name_and_what_is_cached() -> None:
    made = source({"head": ["fc2"]}, fingerprint={"data": 1})
    assert [layer.name for layer in made.layers] == ["conv1", "conv2", "fc1", "head"]
    assert made.layers[3].modules == ("fc2",)
    assert made.fingerprint == {"data": 1}
    assert Evaluator(made).evaluate((1, 2, 3, 4)).accuracy == smooth_accuracy((1, 2, 3, 4))
    assert isinstance(source({"fc2": ["fc2"]}), FakeSource)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["typo"]], "groups has 'typo', which is no layer; there are conv1, conv2, fc1, fc2"),
        ({"head": ["typo"]}, "groups has 'typo', which is no layer"),
        ([["fc1"], ["fc1"]], "groups has 'fc1' twice"),
        ([["fc1"], ["fc1", "fc2"]], "groups has 'fc1' twice"),
        ([["fc1", "fc2"], ["fc1", "fc2"]], "groups has 'fc1' twice"),
        ({1: ["conv1", "conv2"], "1": ["fc1", "fc2"]}, "groups has two of the name '1'"),
        ([[["fc1"], "fc2"]], r"groups has \['fc1'\], which is no layer"),
        ([[3, "fc2"]], "groups has 3, which is no layer"),
        ([[]], r"groups has \[\]; give lists"),
        (iter([["fc1", "fc2"]]), "is not accepted; give lists"),  # it is read more than once
        ({"conv1": ["fc1", "fc2"]}, "a name that is a layer's, too"),
    ],
    ids=range(11),
)
def test_what_makes_no_groups_gets_one_line(groups: Any, message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        source(groups)
    assert "\n" not in str(raised.value)


def test_another_length_is_refused() -> None:
    made = source([["conv1", "conv2"]])
    assert isinstance(made, GroupedSource)
    with pytest.raises(ReLeQError, match="give 3, one a layer or group"):
        made.check((1, 1, 1, 1))
