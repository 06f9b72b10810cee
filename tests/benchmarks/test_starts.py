"""The two starts of learned steps are compared with the same retrainings."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import starts
from releq_env.quantization import QUANTIZERS


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_published_start(bits: int) -> None:
    weight = 0.05 * torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    n = 2 ** (bits - 1) - 1
    expected = 2 * np.abs(weight.numpy().reshape(6, -1)).mean(axis=1) / np.sqrt(n)
    quantizer = starts.published(weight, bits)
    assert isinstance(quantizer, starts.PublishedLSQ)
    np.testing.assert_allclose(quantizer.step.detach(), expected, rtol=1e-5)


def test_every_row_is_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(starts, "BITS", (3, 8))
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    starts.main(["--task", "digits", "--seeds", "2", "--output", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / "digits.csv").open()))
    assert {(row["quantizer"], row["bits"], row["seed"]) for row in rows if row["images"] != "0"} == {
        (quantizer, bits, seed) for quantizer in starts.STARTS for bits in ("3", "8") for seed in ("0", "1")
    }
    found = {(row["quantizer"], row["bits"]): float(row["accuracy"]) for row in rows if row["images"] == "0"}
    assert found["published", "3"] != found["lsq", "3"]
    assert "published" not in QUANTIZERS
    printed = capsys.readouterr().out
    for accuracy in found.values():
        assert f"{100 * accuracy:.2f}" in printed
    assert printed.count("±") == 4
