import json
from pathlib import Path

import pytest
import torch

from benchmarks import stacked


def test_a_run_prints_the_table_and_writes_every_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = tmp_path / "new" / "stacked.json"
    arguments = "--network simplenet --images 64 --epochs 2 --validation-images 10 --most 2 --stacked 3 --single 1"
    stacked.main([*arguments.split(), "--rounds", "2", "--output", str(output)])
    written = json.loads(output.read_text())
    assert written["K"] == 2
    for side, evaluations in (("stacked", 3), ("single", 1)):
        measured = written[side]
        assert measured["evaluations"] == evaluations
        assert len(measured["seconds"]) == 2
        for seconds, images, a_minute in zip(
            measured["seconds"], measured["images_a_second"], measured["evaluations_a_minute"], strict=True
        ):
            assert images * seconds == pytest.approx(2 * 64 * evaluations)
            assert a_minute * seconds == pytest.approx(60 * evaluations)
    assert written["command"].startswith("python -m benchmarks.stacked --network simplenet --images 64 ")
    assert {"processor", "versions", "revision"} <= set(written["machine"])
    printed = capsys.readouterr()
    assert "| stacked, K = 2 |" in printed.out
    assert stacked.MEANT_FOR_GPUS in printed.err
