import json
from pathlib import Path

import pytest

from benchmarks import fidelity
from benchmarks.fidelity_table import markdown, statistics_of

ROWS = [
    {"fast": 0.90, "fast_other_seed": 0.92, "plain": 0.901},
    {"fast": 0.95, "fast_other_seed": 0.93, "plain": 0.949},
    {"fast": 0.98, "fast_other_seed": 0.99, "plain": 0.980},
]


def test_statistics() -> None:
    found = statistics_of(ROWS)
    assert found.mean == pytest.approx(0.0, abs=1e-9)
    assert found.spread == pytest.approx(0.1)
    assert found.interval[1] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert found.rank == pytest.approx(1.0)
    assert found.met == (True, True, True)


def test_a_bias_is_seen() -> None:
    found = statistics_of([row | {"plain": row["plain"] - 0.01} for row in ROWS])
    assert found.mean == pytest.approx(1.0)
    assert found.met[0] is False


def test_the_table_has_a_line_a_task() -> None:
    text = markdown({"mnist": statistics_of(ROWS), "cifar10": statistics_of(ROWS)}).splitlines()
    assert len(text) == 4
    assert len({row.count("|") for row in text}) == 1


def test_assignments_are_distinct_and_the_first_ones_stay() -> None:
    assert len(set(fidelity.assignments(4, 50))) == 50
    assert fidelity.assignments(4, 5) == fidelity.assignments(4, 50)[:5]


def test_plain_is_what_the_engine_measures_up_to_rounding() -> None:
    plain = fidelity.plain_accuracy(fidelity.engine("digits", 64), (4, 4, 4, 4))
    assert plain == pytest.approx(fidelity.engine("digits", 64).measure((4, 4, 4, 4))[0], abs=0.03)


def test_what_is_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "fidelity.json"
    bits = fidelity.assignments(4, 3)
    rows = [{"task": "digits", "bitwidths": list(b)} | row for b, row in zip(bits, ROWS, strict=True)]
    settings = {"digits": fidelity.engine("digits", 64).fingerprint}
    output.write_text(json.dumps({"settings": settings, "rows": rows}))
    assert fidelity.run(output, ["digits"], 3, 64) == rows  # nothing is measured, no process is started
    with pytest.raises(SystemExit, match="other settings"):
        fidelity.run(output, ["digits"], 3, 128)
