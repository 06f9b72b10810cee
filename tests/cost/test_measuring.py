"""python -m benchmarks.costs and its table."""

import csv
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.costs import __main__ as costs
from benchmarks.costs import table
from releq_env.cost import COSTS, cost_model
from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo
from releq_env.tables import AccuracyTable

LAYER = LayerInfo("layer", n=4, c=2, k=0, weights=8, macs=8, std=0.1)
MEASURED = {"layer": {2: 3e-6, 4: 2e-6, 8: 1e-6}, "other": {2: 7e-6, 4: 7e-6, 8: 7e-6}}


def test_bits_cost_what_the_integers_that_hold_them_take(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    costs.write(path, costs.rows(MEASURED), "by hand, at home")
    model = cost_model(f"csv:{path}")
    assert [model(LAYER, bits) for bits in range(1, 9)] == [3.0, 3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert {row["measured"] for row in rows} == {"by hand, at home"}


def refused(*arguments: str) -> str:
    with pytest.raises(SystemExit) as raised:
        costs.main(arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = ("--out", str(tmp_path / "costs.csv"))
    pytest.importorskip("onnxruntime")
    assert "unknown task 'moon'" in refused("--task", "moon", *out)
    assert "--model needs --input-shape" in refused("--model", "torch.nn:Flatten", *out)
    shape = ("--input-shape", "3")
    assert "cannot be made (No module named 'nowhere')" in refused("--model", "nowhere:x", *shape, *out)
    assert "no torch.nn.Module" in refused("--model", "tests.cost.test_measuring:LAYER", *shape, *out)
    assert "has no quantizable layer" in refused("--model", "torch.nn:Flatten", *shape, *out)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "benchmarks.costs.timing", raising=False)
    monkeypatch.delitem(sys.modules, "releq_env.export.onnx_run", raising=False)
    assert "this needs onnxruntime, which is not installed" in refused("--task", "digits", *out)
    assert not (tmp_path / "costs.csv").exists()


def test_the_time_is_that_of_one_run() -> None:
    pytest.importorskip("onnxruntime")
    from benchmarks.costs.timing import seconds

    def work(size: int) -> torch.Tensor:
        return torch.ones(size).cumsum(0)

    found = seconds({2: lambda: work(1_000_000), 8: lambda: work(10)}, rounds=3)
    assert 0 < found[8] < found[2] / 10


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.unused = nn.Linear(6, 6)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(self.layer(inputs).relu())


def test_a_layer_is_timed_with_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from benchmarks.costs import timing

    given: list[torch.Tensor] = []

    def runs_of(layer: nn.Module, inputs: torch.Tensor, folder: Path, once: bool) -> dict[int, timing.Run]:
        given.append(inputs)
        return {}

    monkeypatch.setattr(timing, "runs_of", runs_of)
    monkeypatch.setattr(timing, "seconds", lambda runs, rounds: {2: 0.5})
    inputs = torch.randn(3, 6)
    assert timing.measured(Twice(), ["layer"], inputs, rounds=1) == {"layer": {2: 1.0}}  # it is called twice
    assert torch.equal(given[0], inputs)
    with pytest.raises(ReLeQError, match="'unused' is not called by itself"):
        timing.measured(Twice(), ["unused"], inputs, rounds=1)


@pytest.mark.slow
def test_a_file_of_this_machine(tmp_path: Path) -> None:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    path = tmp_path / "costs.csv"
    command = ["--model", "tests.cost.test_measuring:Twice", "--input-shape", "6", "--rounds", "2", "--batch", "2"]
    costs.main([*command, "--out", str(path)])
    model = cost_model(f"csv:{path}")
    assert all(0 < model(LAYER, bits) < 1e6 for bits in range(1, 9))


def test_the_table_has_every_cost_beside_full_precision() -> None:
    rows = {row[1].strip("`"): row for row in table.rows("digits")}
    assert list(rows) == list(COSTS)
    assert rows["size"][3:5] == ["152,640", "38,648 (3.9)"]  # 38,160 weights of 4 bytes; of 1, and 122 scales
    assert rows["weighted_bits"][3:7] == ["32", "8 (4.0)", "4 (8.0)", "2 (16.0)"]
    assert {len(row) for row in rows.values()} == {8}


def test_what_was_found_is_what_was_chosen_or_the_optimum_of_the_table(tmp_path: Path) -> None:
    assert table.found("svhn", tmp_path) is None
    assert table.found("digits", tmp_path) == list(AccuracyTable.load("digits").optimum().bitwidths)
    (tmp_path / "digits-lsq").mkdir()
    (tmp_path / "digits-lsq" / "chosen.json").write_text('{"bitwidths": [2, 1, 2, 1]}')
    assert table.found("digits", tmp_path) == [2, 1, 2, 1]
