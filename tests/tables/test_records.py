"""What may be made a table, and what is asked of it."""

import copy
import csv
import pickle
import timeit
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from releq_env import AccuracyTable, ReLeQError
from releq_env.layer_info import LayerInfo
from tests.tables.strategies import Made, tables


def table(**kwargs: Any) -> AccuracyTable:
    return AccuracyTable.from_records([[1, 2], [4, 2], [4, 8]], [0.5, 0.6, 0.9], full_precision_accuracy=0.95, **kwargs)


@given(tables(seeds=3))
def test_queries_give_what_was_measured(made: Made) -> None:
    known = {(bitwidths, seed): accuracy for bitwidths, seed, accuracy in made.records}
    assert made.table.seeds == tuple(sorted({seed for _, seed in known}))
    assert len(made.table) == len({bitwidths for bitwidths, _ in known})
    for (bitwidths, seed), accuracy in known.items():
        assert made.table.query(bitwidths, seed) == accuracy
        assert made.table.query(np.array(bitwidths), seed) == accuracy
    for seed in made.table.seeds:
        count = sum(its == seed for _, its in known)
        assert made.table.coverage(seed) == count / made.table.size
    whole = [seed for seed in made.table.seeds if all((each, seed) in known for each, _ in known)]
    assert made.table.whole_seeds == tuple(whole)
    for bitwidths in {bitwidths for bitwidths, _ in known}:
        values = [known.get((bitwidths, seed)) for seed in whole or made.table.seeds]
        if None in values:
            assert made.table.get(bitwidths) is None
        else:
            assert made.table.query(bitwidths) == pytest.approx(np.mean(values))


@given(tables(seeds=3))
def test_records_make_the_same_table_again(made: Made) -> None:
    bitwidths, seeds, accuracy = made.table.records()
    again = AccuracyTable.from_records(bitwidths, accuracy, seeds=seeds, full_precision_accuracy=11 / 12)
    assert again.digest == made.table.digest
    assert sorted(zip(map(tuple, bitwidths.tolist()), seeds, accuracy, strict=True)) == sorted(made.records)


def test_one_seed_is_its_own_mean() -> None:
    assert table().query((4, 8)) == table().query((4, 8), 0) == 0.9


def test_a_second_seed_of_some_leaves_the_mean_alone() -> None:
    some = AccuracyTable.from_records([[1], [2], [2]], [0.5, 0.6, 0.9], seeds=[0, 0, 1], full_precision_accuracy=1.0)
    assert (some.query((2,)), some.query((2,), 1), some.whole_seeds) == (0.6, 0.9, (0,))
    assert some.seed_noise() == pytest.approx(0.3)
    assert table().seed_noise() is None


def test_seed_noise_is_the_mean_over_pairs_of_seeds() -> None:
    rng = np.random.default_rng(0)
    accuracy = rng.random((3, 5))
    bits = np.tile(np.arange(1, 6)[:, None], (3, 1))
    made = AccuracyTable.from_records(
        bits, accuracy.ravel(), seeds=np.repeat([0, 1, 2], 5), full_precision_accuracy=1.0
    )
    pairs = [(accuracy[a] - accuracy[b]) ** 2 for a in range(3) for b in range(a)]
    assert made.seed_noise() == pytest.approx(np.sqrt(np.mean(pairs)))
    above = np.array(pairs)[:, accuracy.mean(axis=0) >= 0.5]
    assert 0 < above.shape[1] < 5
    assert made.seed_noise(0.5) == pytest.approx(np.sqrt(np.mean(above)))
    assert made.seed_noise(1.0) is None


@pytest.mark.parametrize(
    ("asked", "seed", "message"),
    [
        ((1, 8), None, r"lacks the assignment \(1, 8\): 3 of 4 were measured with all seeds"),
        ((1, 8), 0, r"lacks the assignment \(1, 8\): 3 of 4 were measured with seed 0"),
        (
            (3, 8),
            None,
            r"\(3, 8\) does not fit the table 'table'; give 2 bitwidths, one a layer, out of \(1, 4\), \(2, 8\)",
        ),
        ((1, 8, 8), None, "does not fit"),
        (("1", "8"), None, "does not fit"),
        (7, None, "does not fit"),
        ((4, 8), 3, "has no seed 3; choose from 0, or None for the mean"),
        ((4, 8), True, "has no seed True"),
    ],
)
def test_what_cannot_be_answered(asked: Any, seed: Any, message: str) -> None:
    with pytest.raises(ReLeQError, match=message):
        table().query(asked, seed)


@pytest.mark.parametrize(
    ("bitwidths", "accuracy", "more", "message"),
    [
        ([[1], [2]], [0.5], {}, r"accuracy has the shape \(1,\) for 2 records"),
        ([[1], [2]], [[0.5], [0.6]], {}, "accuracy has the shape"),
        ([[1], [2, 3]], [0.5, 0.6], {}, "does not fit; give integers, one row a record"),
        ([[1.5]], [0.5], {}, "give integers"),
        ([1, 2], [0.5, 0.5], {}, r"bitwidths has the shape \(2,\)"),
        ([], [], {}, "does not fit; give integers"),
        (np.empty((0, 2), dtype=int), [], {}, r"bitwidths has the shape \(0, 2\)"),
        ([[0]], [0.5], {}, r"the assignment \[0\] has bitwidths that are not in 1 to 32"),
        ([[2**40]], [0.5], {}, "not in 1 to 32"),
        ([[1], [2]], [0.5, float("nan")], {}, r"the accuracy of \(2,\) is nan; give numbers in \[0, 1\]"),
        ([[1]], [float("inf")], {}, "is inf"),
        ([[1]], [97.5], {}, "is 97.5"),
        ([[1]], [-0.1], {}, "is -0.1"),
        ([[1]], ["a"], {}, "give numbers"),
        ([[1], [1]], [0.5, 0.6], {}, r"two records of \(1,\) with the seed 0 say 0.5 and 0.6"),
        ([[1]], [0.5], {"seeds": -1}, "seeds=-1 does not fit"),
        ([[1]], [0.5], {"seeds": [0, 1]}, "does not fit 1 records"),
        ([[1]], [0.5], {"seeds": 2**70}, "does not fit"),
        ([[1]], [0.5], {"seeds": "a"}, "does not fit"),
        ([[1]], [0.5], {"choices": [2, 4]}, "a record has 1 bits for layer0; its choices are 2, 4"),
        ([[1]], [0.5], {"choices": [1, 64]}, "64"),
        ([[1]], [0.5], {"full_precision_accuracy": 0.0}, "full_precision_accuracy=0.0 is out of range"),
        ([[1]], [0.5], {"layers": []}, "layers describes 0 layers and assignments have 1"),
        ([[1]], [0.5], {"layers": [LayerInfo("a", 1, 1, 1, -4, 1, 1.0)]}, "is not described by numbers from 0"),
        ([[1, 1]], [0.5], {"layers": [LayerInfo("a", 1, 1, 1, 1, 1, 1.0)] * 2}, "two layers have the same name"),
    ],
)
def test_what_is_no_table(bitwidths: Any, accuracy: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        AccuracyTable.from_records(bitwidths, accuracy, **{"full_precision_accuracy": 1.0, **more})
    assert "\n" not in str(raised.value)


def test_what_it_says_of_seeds_and_constants() -> None:
    with pytest.raises(ReLeQError, match="seeds='a' does not fit; give one whole number from 0, or one a record"):
        AccuracyTable.from_records([[1]], [0.9], full_precision_accuracy=1.0, seeds="a")
    with pytest.raises(ReLeQError, match="released_constants=None are none"):
        AccuracyTable.from_records([[1]], [0.9], full_precision_accuracy=1.0, released_constants=None)


def test_tables_never_change() -> None:
    known = table()
    for array in (known.bitwidths, known.accuracy, known.values(0)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert copy.deepcopy(known) is known
    again = pickle.loads(pickle.dumps(known))
    assert (again.digest, again.choices, again.layers) == (known.digest, known.choices, known.layers)


def test_the_digest_tells_contents_apart() -> None:
    one, other = (
        AccuracyTable.from_records([[1], [2]], [0.5, accuracy], full_precision_accuracy=1.0) for accuracy in (0.6, 0.7)
    )
    assert one.digest != other.digest


def test_csv(tmp_path: Path) -> None:
    made = AccuracyTable.from_records([[1], [2], [2]], [1 / 3, 0.6, 0.9], seeds=[0, 0, 5], full_precision_accuracy=1.0)
    made.to_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["layer0"] for row in rows] == ["1", "2"]
    assert [float(row["accuracy_seed0"]) for row in rows] == [1 / 3, 0.6]
    assert [row["accuracy_seed5"] for row in rows] == ["", "0.9"]


def test_a_query_takes_less_than_five_microseconds() -> None:
    known = table()
    known.query((4, 8), 0)
    assert min(timeit.repeat(lambda: known.query((4, 8), 0), number=2000, repeat=10)) / 2000 < 5e-6


def test_a_summary_is_json_able() -> None:
    summary = table(name="mine").summary(min_relative_accuracy=0.6)
    assert summary["assignments"] == 3
    assert (summary["coverage"], summary["passing"]) == (0.75, pytest.approx(2 / 3))
    assert summary["optimum"]["bitwidths"] == (4, 2)
    assert (summary["local_optima"], summary["random_search_evaluations"]) == (1, 2.0)
    assert list(summary["random_search_regret"]) == [1]
