"""The examples run, whole or with less of everything."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"


def run(name: str, cwd: Path, *options: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *options],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.processes
def test_a_network_of_ones_own_in_short(tmp_path: Path) -> None:
    printed = run("own_network.py", tmp_path, "--quick")
    folder = tmp_path / "runs" / "own_network"
    (final,) = folder.glob("final/*/result.json")  # where the report looks
    result = json.loads(final.read_text())
    assert result["measured_on"] == "test"
    assert result["bitwidths"] == json.loads((folder / "best.json").read_text())["bitwidths"]
    again = re.search(r"read back: ([\d.]+)% of the test data", printed)
    assert again is not None
    assert float(again[1]) == pytest.approx(100.0 * result["accuracies"][0], abs=0.3)  # bf16 may turn one of 397
    smaller = result["full_precision_bytes"] / (final.parent / "network.safetensors").stat().st_size
    assert smaller > 4.0
    for name in ("assignment.json", "evaluations.csv", "config.json", "network.safetensors"):
        assert (folder / name).exists()


def test_it_is_short() -> None:
    assert len((EXAMPLES / "own_network.py").read_text().splitlines()) < 60


@pytest.mark.slow
def test_a_network_for_signals(tmp_path: Path) -> None:
    printed = run("own_signals.py", tmp_path)
    assert len(re.findall(r"bytes: [\d ]+, accuracy 0\.\d", printed)) >= 1
    assert (tmp_path / "runs" / "own_signals" / "network.safetensors").exists()


@pytest.mark.slow
def test_a_network_of_ones_own_on_real_data(tmp_path: Path, real_data: str) -> None:
    run("own_network.py", tmp_path, RELEQ_DATA=real_data)
    (final,) = (tmp_path / "runs" / "own_network").glob("final/*/result.json")
    result = json.loads(final.read_text())
    assert result["full_precision_bytes"] / result["file_bytes"] >= 8.0
    assert result["loss"] <= 1.0
