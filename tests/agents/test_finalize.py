"""The command `python -m agents.finalize`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from agents.finalize import main
from agents.train import main as train
from tests.conftest import ROOT
from tests.failing import one_line

QUICK = ["--recipe", "epochs=1", "batch_size=200", "control_rates=[0.001]"]


error = partial(one_line, main)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a finished run."""
    folder = tmp_path / "run"
    kwargs = ["retrain_images=0", "bitwidths=[3,4]", "quantizer=wrpn", "workers=1", "precision=fp32"]
    settings = ["--algo", "random", "--budget", "2", "--log-dir", str(folder), "--env-kwargs", *kwargs]
    train(settings)
    return folder


def test_the_best_of_a_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(finished), "--seeds", "0,3", *QUICK])
    best = json.loads((finished / "best.json").read_text())["bitwidths"]
    folder = finished / "final" / "-".join(map(str, best))
    result = json.loads((folder / "result.json").read_text())
    assert (result["bitwidths"], result["quantizer"], result["seeds"]) == (best, "wrpn", [0, 3])
    assert result["place"]["precision"] == "float32"
    assert result["measured_on"] == "test"
    assert json.loads((folder / "assignment.json").read_text()) == json.loads(
        (finished / "assignment.json").read_text()
    )
    assert f"digits with wrpn: {' '.join(map(str, best))}" in capsys.readouterr().out


def test_another_assignment_of_a_run(finished: Path) -> None:
    main([str(finished), "--bits", "8,8,8,8", "--seeds", "0", "--validation-only", *QUICK])
    result = json.loads((finished / "final" / "8-8-8-8" / "result.json").read_text())
    assert (result["bitwidths"], result["measured_on"]) == ([8, 8, 8, 8], "validation")


def test_a_task_and_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--task", "digits", "--bits", "2,2,3,2", "--seeds", "0", "--output", str(tmp_path / "out"), *QUICK]
    main([*command, "--dry-run"])
    said = capsys.readouterr().out
    assert said.startswith("digits, lsq 2 2 3 2, 1 seed and 1 control: an epoch takes ")
    assert not (tmp_path / "out").exists()
    main([*command, "--validation-only"])
    said = capsys.readouterr().out
    for word in ("loss", "validation", "full precision", "2.25 a layer", "bytes of weights", str(tmp_path / "out")):
        assert word in said
    main([*command, "--validation-only"])
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give the folder of a run, or --task and --bits"),
        (["run", "--task", "digits", "--bits", "2,2,2,2"], "give the folder of a run, or --task and --bits"),
        (["--task", "digits"], "--task digits needs --bits"),
        (["--task", "mnist99", "--bits", "2,2"], "unknown task 'mnist99'; choose one of: digits"),
        (["--task", "digits", "--bits", "2,2"], "has 2 bitwidths; give 4, one a layer of digits"),
        (["--task", "digits", "--bits", "2,2,two,2"], "--bits 2,2,two,2 is not accepted; give whole numbers"),
        (
            ["--task", "digits", "--bits", "1,2,2,2", "--quantizer", "wrpn"],
            "which wrpn does not support; choose from 2",
        ),
        (["--task", "digits", "--bits", "2,2,2,2", "--seeds", "1,1"], "has one twice"),
        (["--task", "digits", "--bits", "2,2,2,2", "--recipe", "epoch=1"], "unknown value of the recipe 'epoch'"),
        (["--task", "digits", "--bits", "2,2,2,2", "--recipe", "epochs=no"], "epochs=False is not accepted"),
        (["nowhere"], "nowhere holds no run; give the folder of an agents.train"),
    ],
)
def test_wrong_input_is_one_line(args: list[str], message: str) -> None:
    assert message in error(*args)


def test_missing_data_are_one_line(tmp_path: Path) -> None:
    said = error("--task", "mnist", "--bits", "2,2,2,2", "--output", str(tmp_path / "out"))
    assert "the MNIST data in" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("best.json", None, "has no best assignment yet"),
        ("best.json", "{", "is damaged"),
        ("best.json", '{"bitwidths": [3, 3, 3, 3], "keeps_max_cost": false}', "keeps its max_cost"),
        ("config.json", "[]", "is damaged"),
        ("config.json", '{"settings": {"env": "releq_env:ReLeQ-v0", "env_kwargs": {}}}', "how its network is made"),
        ("config.json", '{"settings": {"env": "Nothing-v7", "env_kwargs": {}}}', "cannot be made"),
        ("config.json", '{"settings": {"env": "releq_env:ReLeQ-Digits-v0", "env_kwargs": {"x": 1}}}', "argument 'x'"),
    ],
)
def test_a_damaged_run_is_one_line(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    settings = {"settings": {"env": "releq_env:ReLeQ-Digits-v0", "env_kwargs": {}}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "best.json").write_text('{"bitwidths": [3, 3, 3, 3]}')
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    assert message in error(str(folder))


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on(tmp_path: Path) -> None:
    """kill -9 at ten moments of the real command; nothing that was finished is trained again."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def begun(out: str) -> "subprocess.Popen[bytes]":
        recipe = ["--recipe", "epochs=6", "control_rates=[0.001]"]
        args = ["--task", "digits", "--bits", "2,1,2,1", "--seeds", "0,1", *recipe, "--output", str(tmp_path / out)]
        cache = environment | {"RELEQ_CACHE": str(tmp_path / f"cache-{out}")}
        return subprocess.Popen([sys.executable, "-m", "agents.finalize", *args], env=cache, stderr=subprocess.DEVNULL)

    assert begun("whole").wait() == 0
    for moment in range(10):
        process = begun("killed")
        for _ in range(moment % 3 + 1):  # so many files are written first
            before = _files(tmp_path)
            while _files(tmp_path) == before and process.poll() is None:
                time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert begun("killed").wait() == 0
    names = ("seed-0.safetensors", "seed-1.safetensors", "network.safetensors", "test.json", "result.json")
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def _files(folder: Path) -> set[tuple[str, float]]:
    """Return the files under a folder, with when they were written."""
    found = set()
    for path in folder.rglob("*.*"):
        with contextlib.suppress(FileNotFoundError):  # a temporary one
            found.add((str(path), path.stat().st_mtime))
    return found
