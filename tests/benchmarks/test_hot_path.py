import json
from pathlib import Path

import pytest

from benchmarks import hot_path
from benchmarks.common.stand_ins import BATCH, random_task


def test_a_run_prints_the_table_and_writes_the_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "hot_path.json"
    hot_path.main(["--networks", "simplenet", "--steps", "2", "--output", str(output)])
    written = json.loads(output.read_text())
    assert written["machine"]["threads"] == 1
    found = written["milliseconds a step"]["simplenet"]
    everything = found.pop("everything")
    assert sum(found.values()) == pytest.approx(everything)
    assert all(time > 0 for time in found.values())  # what were counted twice would be missing from everything else
    assert {"quantizer", "optimizer", "pooling and ReLU", "linear", "picking the batch", "everything else"} <= set(
        found
    )
    assert capsys.readouterr().out.startswith("| ms a step")


def test_only_training_steps_are_profiled() -> None:
    task, pretrained = random_task("svhn8", training=BATCH, validation=10)
    retraining = hot_path.Profiled(task, pretrained, retrain_images=BATCH)
    retraining.measure((4,) * 8)
    counts = {event.key: event.count for event in retraining.profiled.key_averages()}
    found = [(part, counts[name]) for name, part in hot_path.whole().items()]
    forward_and_backward = [("quantizer", 8), ("pooling and ReLU", 4)]
    assert sorted(found) == sorted([*forward_and_backward * 2, ("optimizer", 2)])  # weights; step sizes
    assert not any("batch_norm" in key for key in counts)  # it is folded by then


def test_operators_are_counted_alone_or_with_what_they_call() -> None:
    """As the profiler gives them: an operator's total has its children's time in it, its own time has not."""

    class Event:
        def __init__(self, key: str, own: float, total: float) -> None:
            self.key, self.self_cpu_time_total, self.cpu_time_total = key, own, total

    found = hot_path.by_part(
        [
            Event("steps", 5.0, 100.0),
            Event("aten::linear", 1.0, 31.0),
            Event("aten::addmm", 20.0, 30.0),
            Event("aten::copy_", 10.0, 10.0),
            Event(next(name for name, part in hot_path.whole().items() if part == "quantizer"), 4.0, 64.0),
            Event("aten::round", 60.0, 60.0),
        ]  # type: ignore[list-item]
    )
    assert found == {"quantizer": 64.0, "linear": 20.0, "everything else": 16.0, "everything": 100.0}
