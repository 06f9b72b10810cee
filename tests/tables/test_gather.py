"""Tables out of caches and runs."""

import itertools
import json
from pathlib import Path

import pytest

from releq_env import AccuracyTable, Problem, ReLeQError
from releq_env.evaluation import EvaluationCache
from tests.fakes import FakeSource, digits_problem

FINGERPRINT = {"network": "fake"}


def problem(path: Path | None, fingerprint: dict[str, str] | None = FINGERPRINT) -> Problem:
    made = digits_problem(FakeSource(fingerprint=fingerprint), bitwidths=[2, 4, 8], cost="energy")
    made.evaluator.cache = None if path is None else EvaluationCache(path)
    return made


def test_from_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    asked = list(itertools.product([2, 4, 8], repeat=4))[::7]
    evaluations = problem(path).evaluator.evaluate_many([*asked, (1, 1, 1, 1)])
    table = AccuracyTable.from_cache(path, problem(None))
    assert [table.query(each.bitwidths) for each in evaluations[:-1]] == [each.accuracy for each in evaluations[:-1]]
    assert (len(table), table.size) == (len(asked), 81)
    assert (table.name, table.quantizer, table.layers) == ("digits", "lsq", problem(None).layers)
    assert table.query(asked[0], 0) == evaluations[0].accuracy


def test_what_a_cache_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    with pytest.raises(ReLeQError, match="there is no cache"):
        AccuracyTable.from_cache(path, problem(None))
    assert not path.exists()
    problem(path).evaluator.evaluate((2, 2, 2, 2))
    with pytest.raises(ReLeQError, match="knows nothing of digits as it would be measured here"):
        AccuracyTable.from_cache(path, problem(None, {"network": "another"}))
    with pytest.raises(ReLeQError, match="so no cache has them; use from_records"):
        AccuracyTable.from_cache(path, problem(None, None))
    wide = Problem.from_function(8, range(1, 9), lambda bits: 0.5)
    with pytest.raises(ReLeQError, match="has 16777216 assignments, and at most 1048576 are looked up"):
        AccuracyTable.from_cache(path, wide)


OF_PROBLEM = {"full_precision_accuracy": 0.98, "min_relative_accuracy": 0.9}


def run(folder: Path, cut: str = "", **depends: object) -> Path:
    """A run's folder, as far as it matters here."""
    folder.mkdir()
    depends = FINGERPRINT | {"retrain_seed": 3} | depends
    config = {"settings": {}, "accuracy_depends_on": depends, "problem": OF_PROBLEM, "versions": {}}
    (folder / "config.json").write_text(json.dumps(config))
    rows = ["2 2 4 8,0.49,0.5", "2 8 4 8,0.98,1.0"]
    (folder / "evaluations.csv").write_text("\n".join(["bitwidths,accuracy,relative_accuracy", *rows, cut]))
    return folder


def test_from_a_run(tmp_path: Path) -> None:
    table = AccuracyTable.from_run(run(tmp_path / "run", cut="2 4 4 8,0.9"))
    assert (len(table), table.seeds, table.full_precision_accuracy) == (2, (3,), 0.98)
    assert table.min_relative_accuracy == 0.9  # as the run had it, so that their optima are the same
    assert table.query((2, 8, 4, 8), 3) == 0.98
    assert table.choices == ((2,), (2, 8), (4,), (8,))
    known = AccuracyTable.from_run(tmp_path / "run", problem(None))
    assert (known.size, known.layers) == (81, problem(None).layers)


def test_the_seed_of_a_run_with_ones_own_loss(tmp_path: Path) -> None:
    folder = run(tmp_path / "run")
    for seed in (7, [7, 8]):
        (folder / "config.json").write_text(
            json.dumps({"accuracy_depends_on": None, "known": {"retrain_seed": seed}, "problem": OF_PROBLEM})
        )
        if seed == 7:
            table = AccuracyTable.from_run(folder)
            assert table.seeds == (7,)
            assert AccuracyTable.from_run(folder, problem(None, None)).seeds == (7,)
        else:
            with pytest.raises(ReLeQError, match=r"means over the seeds \(7, 8\)"):
                AccuracyTable.from_run(folder)


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="holds no run"):
        AccuracyTable.from_run(tmp_path)
    folder = run(tmp_path / "run")
    (folder / "evaluations.csv").write_text("bitwidths,accuracy,relative_accuracy\n")
    with pytest.raises(ReLeQError, match="has evaluated nothing yet"):
        AccuracyTable.from_run(folder)
    (folder / "evaluations.csv").write_text("bitwidths,accuracy\nx,0.5\n")
    with pytest.raises(ReLeQError, match="holds no run"):
        AccuracyTable.from_run(folder)


def test_a_run_of_another_problem(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", network="another")
    with pytest.raises(ReLeQError, match="is not of digits as it is measured here"):
        AccuracyTable.from_run(folder, problem(None))
    assert len(AccuracyTable.from_run(folder)) == 2


@pytest.mark.parametrize(
    ("depends", "said"),
    [
        ({"fill": "nearest"}, "some of its accuracies were never measured"),
        ({"retrain_seed": None}, "over the means of a table's seeds"),
        ({"retrain_seed": [0, 1]}, r"means over the seeds \(0, 1\)"),
    ],
)
def test_what_is_no_measurement_of_one_seed(depends: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match=said):
        AccuracyTable.from_run(run(tmp_path / "run", **depends))
