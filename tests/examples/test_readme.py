"""The lines of the README for a network of one's own run, with a small network and a shorter search."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BEFORE = """
import torch

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
images, validation_images = torch.randn(2, 64, 8)
labels, validation_labels = (model(each).argmax(1) for each in (images, validation_images))
"""


@pytest.mark.processes
def test_from_a_network_to_a_file(tmp_path: Path) -> None:
    (lines,) = re.findall(r"```py\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(lines.splitlines()) <= 10
    assert "budget=60" in lines
    script = tmp_path / "mine.py"
    script.write_text(BEFORE + lines.replace("budget=60", "budget=2, seconds=0.1"))
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "(2 evaluations)" in done.stdout
    assert "tensor([" in done.stdout
    assert (tmp_path / "runs" / "mine" / "network.safetensors").stat().st_size < 4096
