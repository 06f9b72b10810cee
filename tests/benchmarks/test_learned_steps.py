"""The variants of learned steps are compared with the same retrainings."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import learned_steps
from releq_env.quantization import QUANTIZERS


@pytest.mark.parametrize("bits", range(2, 9))
def test_as_published(bits: int) -> None:
    weight = 0.05 * torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    most, least = 2 ** (bits - 1) - 1, -(2 ** (bits - 1))
    quantizer = learned_steps.Published(weight, bits)
    w, step = weight.numpy().reshape(6, -1), quantizer.step.detach().numpy()
    np.testing.assert_allclose(step, 2 * np.abs(w).mean(axis=1) / np.sqrt(most), rtol=1e-5)
    expected = np.clip(np.round(w / step[:, None]), least, most) * step[:, None]
    np.testing.assert_allclose(quantizer(weight).detach().numpy().reshape(6, -1), expected, atol=1e-6)


@pytest.mark.parametrize("bits", range(2, 9))
def test_with_zero(bits: int) -> None:
    quantized = learned_steps.WithZero(weight := torch.linspace(-1.0, 1.0, 2001)[None], bits)(weight)
    assert len(quantized.unique()) == 2**bits - 1
    assert (quantized == 0).any()


@pytest.mark.parametrize("bits", range(2, 9))
def test_without_zero(bits: int) -> None:
    quantized = learned_steps.WithoutZero(weight := torch.linspace(-1.0, 1.0, 2001)[None], bits)(weight)
    assert len(quantized.unique()) == 2**bits
    assert not (quantized == 0).any()


def test_every_row_is_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(learned_steps, "BITS", (3, 8))
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    learned_steps.main(["--task", "digits", "--seeds", "2", "--output", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / "digits.csv").open()))
    assert {(row["variant"], row["bits"], row["seed"]) for row in rows if row["images"] != "0"} == {
        (variant, bits, seed) for variant in learned_steps.VARIANTS for bits in ("3", "8") for seed in ("0", "1")
    }
    found = {(row["variant"], row["bits"]): float(row["accuracy"]) for row in rows if row["images"] == "0"}
    assert len({found[variant, "3"] for variant in learned_steps.VARIANTS}) > 1  # two may agree by chance
    assert found["lsq", "3"] == found["without_zero", "3"]
    assert found["lsq", "8"] == found["with_zero", "8"]
    printed = capsys.readouterr().out
    for accuracy in found.values():
        assert f"{100 * accuracy:.2f}" in printed
    assert printed.count("±") == 8
    assert set(QUANTIZERS) == {"lsq", "wrpn", "dorefa"}
