"""Sensitivities in a table's file: read back as they were, and never believed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env import AccuracyTable, ReLeQError
from releq_env.tables.sensitivities import Cost, Proxy, Sensitivities, parse

numbers = st.floats(-1e9, 1e9)


@st.composite
def sensitivities(draw: st.DrawFn) -> Sensitivities:
    choices = tuple(draw(st.lists(st.sampled_from([(1, 2, 3), (2, 8), (5,)]), min_size=1, max_size=3)))
    counts = st.integers(0, 10**9)

    def proxy() -> Proxy:
        values = tuple(tuple(draw(numbers) for _ in of_layer) for of_layer in choices)
        return Proxy(values, Cost(draw(st.floats(0.0, 1e6)), draw(counts), draw(counts), draw(counts), draw(counts)))

    return Sensitivities(choices, {name: proxy() for name in draw(st.sets(st.sampled_from(["loss", "fisher", "own"])))})


@given(sensitivities())
def test_what_is_written_is_read(known: Sensitivities) -> None:
    assert parse(json.loads(json.dumps(known.as_dict())), len(known.choices)) == known


def test_a_matrix_of_fewer_choices() -> None:
    known = Sensitivities(((1, 2, 4), (2, 8)), {"own": Proxy(((3.0, 2.0, 1.0), (5.0, 4.0)), Cost(1.0))})
    assert known.matrix("own", ((1, 4), (8,))).tolist() == [[3.0, 1.0], [4.0, 4.0]]
    for choices, message in (
        (((1, 4),), "sensitivities are of 2 layers and the problem has 1"),
        (((1, 3), (8,)), "there is no sensitivity at 3 bits, only at 1, 2, 4"),
    ):
        with pytest.raises(ReLeQError, match=message):
            known.matrix("own", choices)
    with pytest.raises(ReLeQError, match="unknown proxy 'other'; choose one of: own"):
        known.matrix("other", known.choices)


GOOD: dict[str, Any] = Sensitivities(((1, 2),), {"own": Proxy(((3.0, 2.0),), Cost(1.0))}).as_dict()


@pytest.mark.parametrize(
    "hostile",
    [
        7,
        [1],
        "text",
        {"version": 1},
        GOOD | {"version": 99},
        GOOD | {"choices": [[1, 2], [1]]},
        GOOD | {"choices": [["1", 2]]},
        GOOD | {"choices": 3},
        GOOD | {"proxies": {"own": {"values": [[1.0]], "cost": {"seconds": 1.0}}}},
        GOOD | {"proxies": {"own": {"values": [["1", None]], "cost": {"seconds": 1.0}}}},
        GOOD | {"proxies": {"own": {"values": [[1.0, 1e999]], "cost": {"seconds": 1.0}}}},
        GOOD | {"proxies": {"own": {"values": [[1.0, 2.0]], "cost": {"seconds": -1.0}}}},
        GOOD | {"proxies": {"own": {"values": [[1.0, 2.0]], "cost": {"dollars": 1.0}}}},
        GOOD | {"proxies": [1]},
    ],
)
def test_what_is_damaged_is_refused_in_one_line(hostile: Any) -> None:
    table = AccuracyTable.from_records([[1], [2]], [0.8, 0.9], full_precision_accuracy=0.9, about={"sensitivities": hostile})  # noqa: E501  # fmt: skip
    with pytest.raises(ReLeQError, match=r"the sensitivities of the table are damaged \(.*\); build it again") as said:
        _ = table.sensitivities
    assert "\n" not in str(said.value)


def test_they_are_read_and_searched_without_torch(tmp_path: Path, python: Callable[..., str]) -> None:
    about = {"sensitivities": GOOD}
    AccuracyTable.from_records([[1], [2]], [0.8, 0.9], full_precision_accuracy=0.9, about=about).save(
        tmp_path / "t.npz"
    )
    code = f"""
import sys
from releq_env import AccuracyTable, Problem
from releq_env.searchers import make_searcher, search_loop
table = AccuracyTable.load({str(tmp_path / "t.npz")!r})
print(table.sensitivities.proxies["own"].values)
from releq_env.sensitivity import registry
of = Problem.from_table(table)
searcher = make_searcher("fisher_lp", of, sensitivities=[[3, 2]])
print([each.bitwidths for told in search_loop(of, searcher) for each in told])
print("torch" in sys.modules)
"""
    assert python(code).splitlines() == ["((3.0, 2.0),)", "[(2,), (1,)]", "False"]
