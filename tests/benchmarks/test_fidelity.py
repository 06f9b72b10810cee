import json
from pathlib import Path

import pytest

from benchmarks.fidelity import __main__ as fidelity
from benchmarks.fidelity.plain import Pair, engine, plain_accuracy
from benchmarks.fidelity.statistics import markdown, statistics_of
from tests.failing import one_line

ACCURACIES = [  # fast and plain of three assignments, with seed 0 and with seed 1
    [(0.90, 0.901), (0.95, 0.949), (0.98, 0.980)],
    [(0.92, 0.919), (0.93, 0.931), (0.99, 0.990)],
]
PAIRS = [
    Pair("digits", (bits,), seed, fast, plain)
    for seed, part in enumerate(ACCURACIES)
    for bits, (fast, plain) in enumerate(part)
]


def test_statistics() -> None:
    found = statistics_of(PAIRS)
    assert (found.assignments, found.seeds) == (3, 2)
    assert found.mean == pytest.approx(0.0, abs=1e-9)
    assert found.interval == pytest.approx((0.0, 0.0), abs=1e-9)  # the seeds' differences cancel out
    assert found.spread == pytest.approx(0.1)
    assert found.seed_spread == pytest.approx(1.890, abs=1e-3)  # of -1.8, 1.8, -1.0
    assert (found.rank, found.seed_rank, found.mean_rank) == pytest.approx((1.0, 1.0, 1.0))
    assert found.met == (True, True, True)


def test_the_order_of_the_pairs_does_not_matter() -> None:
    assert statistics_of(PAIRS[::-1]) == statistics_of(PAIRS)


def test_a_bias_is_seen() -> None:
    found = statistics_of([pair._replace(plain=pair.plain - 0.01) for pair in PAIRS])
    assert found.mean == pytest.approx(1.0)
    assert found.met[0] is False


def pairs(fast: list[list[float]], plain: list[list[float]]) -> list[Pair]:
    """Of accuracies by seed, in points."""
    return [
        Pair("digits", (bits,), seed, one / 100, other / 100)
        for seed, parts in enumerate(zip(fast, plain, strict=True))
        for bits, (one, other) in enumerate(zip(*parts, strict=True))
    ]


def test_the_interval_is_that_of_the_assignments_means() -> None:
    found = statistics_of(pairs(fast=[[90, 93, 94], [91, 92, 95]], plain=[[90, 91, 92], [91, 92, 93]]))
    assert found.mean == pytest.approx(1.0)  # of 0, 1 and 2
    assert found.interval == pytest.approx((1.0 - 4.302653 / 3**0.5, 1.0 + 4.302653 / 3**0.5))  # t of two degrees
    assert found.met[0] is True  # 0 is inside


def test_a_spread_beyond_that_of_seeds_is_seen() -> None:
    found = statistics_of(pairs(fast=[[90, 94, 95], [93, 91, 97]], plain=[[90, 91, 92], [90, 91, 92.1]]))
    assert found.seed_spread < 0.1 < found.spread
    assert found.met[2] is False


def test_another_order_is_seen() -> None:
    swapped = [pair._replace(fast=1.0 - pair.fast) for pair in PAIRS]
    found = statistics_of(swapped)
    assert (found.rank, found.mean_rank) == pytest.approx((-1.0, -1.0))
    assert found.met[1] is False


def test_the_table_has_a_line_a_task() -> None:
    text = markdown({"mnist": statistics_of(PAIRS), "cifar10": statistics_of(PAIRS)}).splitlines()
    assert len(text) == 4
    assert len({row.count("|") for row in text}) == 1


def test_assignments_are_distinct_and_the_first_ones_stay() -> None:
    assert len(set(fidelity.assignments(4, 50))) == 50
    assert fidelity.assignments(4, 5) == fidelity.assignments(4, 50)[:5]


def test_plain_is_what_the_engine_measures_up_to_rounding() -> None:
    fast = engine("digits", 64)
    assert plain_accuracy(fast, (4, 4, 4, 4), 0) == pytest.approx(fast.measure((4, 4, 4, 4))[0], abs=0.03)


def test_what_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "fidelity.json"
    drawn = fidelity.assignments(4, 3)
    known = [pair._replace(bitwidths=drawn[pair.bitwidths[0]]) for pair in PAIRS]
    settings = {"digits": engine("digits", 64).fingerprint}
    output.write_text(json.dumps({"settings": settings, "rows": [pair._asdict() for pair in known]}))
    assert fidelity.run(output, ["digits"], 3, 2, 64) == known  # nothing is measured, no process is started
    with pytest.raises(SystemExit, match="other settings"):
        fidelity.run(output, ["digits"], 3, 2, 128)


def test_the_report_is_of_whatever_rows_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of another engine, and of a run that was interrupted: of an assignment that lacks a seed nothing counts."""
    output = tmp_path / "fidelity.json"
    lacking = Pair("digits", (9,), 0, 0.1, 0.9)
    rows = [pair._asdict() for pair in [lacking, *PAIRS]]
    output.write_text(json.dumps({"settings": {"digits": {"engine": 0}}, "rows": rows}))
    fidelity.main(["--report", "--output", str(output)])
    assert capsys.readouterr().out == markdown({"digits": statistics_of(PAIRS)}) + "\n"
    with pytest.raises(SystemExit, match="error: .*other settings"):
        fidelity.main(["--tasks", "digits", "--output", str(output)])
    output.write_text(json.dumps({"rows": rows[:3]}))
    for path in (output, tmp_path / "nowhere.json"):
        assert "holds no rows to report" in one_line(fidelity.main, "--report", "--output", str(path))


@pytest.mark.parametrize("few", [["--assignments", "2"], ["--seeds", "1"]])
def test_too_little_for_statistics_is_said_before_it_is_measured(
    few: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fidelity.main(["--tasks", "digits", "--output", str(tmp_path / "fidelity.json"), *few])
    assert "at least three assignments and two seeds" in capsys.readouterr().err
