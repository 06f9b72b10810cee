"""What counts as the same accuracies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tables import build, verify
from benchmarks.tables.build import Growing, in_random_order
from benchmarks.tables.verify import check_same, compare
from releq_env import AccuracyTable, ReLeQError
from releq_env.tables.records import check_records
from tests.tables.measured import SeededSource, seeded_problem

RNG = np.random.default_rng(0)
KNOWN = 0.9 + 0.05 * RNG.random(30)
NOISE = 0.002 * RNG.standard_normal(30)
NOISE -= NOISE.mean()


@pytest.mark.parametrize(
    ("differences", "same_machine", "seed_spread", "passed"),
    [
        (0.0, True, None, True),
        (NOISE, True, None, False),  # there it has to be equal
        (NOISE, False, 0.002, True),
        (NOISE, False, 0.001, False),  # noisier than seeds
        (NOISE + 0.002, False, 0.01, False),  # of a direction
        (NOISE, False, None, False),
        (0.0, False, None, True),
    ],
)
def test_verdicts(differences: Any, same_machine: bool, seed_spread: float | None, passed: bool) -> None:
    verdict = compare(KNOWN, KNOWN + differences, same_machine, seed_spread)
    assert verdict.passed == passed
    assert verdict.rank > 0.97


def test_the_statistics() -> None:
    verdict = compare(np.array([0.5, 0.6, 0.7]), np.array([0.5, 0.7, 0.6]), False, 0.03)
    assert (verdict.equal, verdict.rank, verdict.seed_spread) == (1, 0.5, 3.0)
    assert verdict.spread == pytest.approx(10 * np.sqrt(2 / 3))
    assert (verdict.mean, verdict.standard_error) == (pytest.approx(0.0, abs=1e-12), pytest.approx(10 / np.sqrt(3)))


BEFORE = {"engine": 3, "precision": "bf16", "network": {"weights": "a", "computes": "b"}}


def test_what_may_differ_elsewhere() -> None:
    assert check_same(BEFORE, dict(BEFORE))
    assert not check_same(BEFORE, BEFORE | {"precision": "fp32", "instructions": "other"})
    assert not check_same(BEFORE, BEFORE | {"network": {"weights": "a", "computes": "c"}})
    for other in ({"engine": 4}, {"network": {"weights": "z", "computes": "b"}}, {"retrain_images": 0}):
        with pytest.raises(
            ReLeQError, match=f"the table was measured otherwise: {next(iter(other))} .*; build it again"
        ):
            check_same(BEFORE, BEFORE | other)


def built(path: Path, seeds: tuple[int, ...] = (0, 1)) -> AccuracyTable:
    problem = seeded_problem()
    Growing(path, problem, "mine", "build", 1e9).measure(in_random_order(problem), seeds)
    return AccuracyTable.load(path)


def test_a_right_table_is_equal(tmp_path: Path) -> None:
    source = SeededSource()
    verdict = verify.verify(built(tmp_path / "table.npz"), seeded_problem(source), 30, seed=0)
    assert (verdict.entries, verdict.equal, verdict.same_machine, verdict.passed) == (30, 30, True, True)
    assert len(source.calls) == 30


def changed(table: AccuracyTable, by: float) -> AccuracyTable:
    bitwidths, seeds, accuracy = table.records()
    table.bitwidths, table.seeds, table.accuracy = check_records(bitwidths, np.clip(accuracy + by, 0, 1), seeds)
    return table


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_wrong_table_is_found_out(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    table = changed(built(tmp_path / "table.npz", seeds), 0.01)
    assert not verify.verify(table, seeded_problem(), 30, seed=0).passed
    elsewhere = seeded_problem(SeededSource(depends={"torch": "2"}))
    verdict = verify.verify(table, elsewhere, 30, seed=0)
    assert (verdict.same_machine, verdict.passed) == (False, False)
    assert verdict.seed_spread is not None and 0.05 < verdict.seed_spread < 0.3


@pytest.mark.parametrize("seeds", [(5,), (5, 6)])
def test_elsewhere_another_seed_passes(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    table = built(tmp_path / "table.npz", seeds)
    bitwidths, of_record, accuracy = table.records()  # another machine acts like other seeds
    table.bitwidths, table.seeds, table.accuracy = check_records(bitwidths, accuracy, of_record - 5)
    verdict = verify.verify(table, seeded_problem(SeededSource(depends={"torch": "2"})), 60, seed=1)
    assert verdict.equal < 20
    assert verdict.passed


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.npz"
    arguments = [
        "--task",
        "digits",
        "--bits",
        "2,4",
        "--retrain-images",
        "32",
        "--workers",
        "1",
        "--sensitivity-images",
        "0",
    ]
    build.main([*arguments, "--assignments", "6", "--out", str(path)])
    with pytest.raises(SystemExit) as ended:
        verify.main([str(path), "--entries", "3"])
    assert not ended.value.code
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "table.npz" in line and "yes" in line]
    assert [cell.strip() for cell in line.split("|")][2:5] == ["3", "same", "3"]
    monkeypatch.setattr(verify, "DATA", tmp_path)
    for wrong, message in (([], "no table comes with this version"), (["nowhere"], "there is no table 'nowhere'")):
        with pytest.raises(SystemExit, match=message):
            verify.main(wrong)
    AccuracyTable.from_records([[1]], [0.5], full_precision_accuracy=1.0).save(path)
    with pytest.raises(SystemExit, match="does not say how it was measured"):
        verify.main([str(path)])
