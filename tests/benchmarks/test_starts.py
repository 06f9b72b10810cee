"""The two starts of learned steps are compared with the same retrainings."""

import csv
from pathlib import Path

import pytest

from benchmarks import starts


def test_every_row_is_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(starts, "BITS", (3, 8))
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    starts.main(["--task", "digits", "--seeds", "2", "--output", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / "digits.csv").open()))
    assert {(row["quantizer"], row["bits"], row["seed"]) for row in rows if row["images"] != "0"} == {
        (quantizer, bits, seed) for quantizer in starts.QUANTIZERS for bits in ("3", "8") for seed in ("0", "1")
    }
    found = {(row["quantizer"], row["bits"]): float(row["accuracy"]) for row in rows if row["images"] == "0"}
    assert found["lsq_mse", "3"] != found["lsq", "3"]
    printed = capsys.readouterr().out
    for accuracy in found.values():
        assert f"{100 * accuracy:.2f}" in printed
    assert printed.count("±") == 4
