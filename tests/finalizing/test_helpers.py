"""Processes that help with final retraining: the same result, whatever becomes of them."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from releq_env import Problem, ReLeQError
from releq_env.export.__main__ import main as export
from releq_env.finalizing import FinalResult, estimate, finalize, job
from releq_env.finalizing.progress import Listener, Progress
from releq_env.finalizing.sharing import Piece, make_all
from releq_env.tasks import Dataset, Examples, Task
from releq_env.tasks.own_data import OwnData
from tests.conftest import ROOT
from tests.finalizing.small import BITS, RECIPE, Counted, Small, Trainings, small_task

SCRIPT = """
import logging
import signal
import sys

import releq_env

log = logging.getLogger(__name__)
print("begun", flush=True)


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    recipe = releq_env.FinalRecipe(epochs=int(sys.argv[1]), batch_size=32, control_rates=(1e-3,))
    result = releq_env.finalize("digits", (2, 2, 2, 2), seeds=(0, 1), recipe=recipe, folder="final", workers=2)
    print("measured on", result.measured_on)

"""
GUARDED, UNGUARDED = SCRIPT + 'if __name__ == "__main__":\n    main()\n', SCRIPT + "main()\n"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "cores", lambda: 2)


def _run(folder: str, workers: int | None = None, what: Any = None, bits: Any = BITS, **arguments: Any) -> FinalResult:
    given: dict[str, Any] = {"recipe": RECIPE, "folder": folder, "controls": f"{folder}-controls", "progress": False}
    return finalize(small_task() if what is None else what, bits, seeds=(0, 1), workers=workers, **given | arguments)


def _once(there: Callable[[], object], then: Callable[[], None] = lambda: None) -> Callable[..., None]:
    """Return a `make_all` that begins only once something is there."""

    def waiting(pieces: Iterable[Piece], progress: Listener, wait: bool = True) -> None:
        assert _comes(there), "no helper has come"
        then()
        make_all(pieces, progress, wait)

    return waiting


def _comes(there: Callable[[], object]) -> bool:
    for _ in range(1200):
        if there():
            return True
        time.sleep(0.05)
    return False


def own_problem() -> Problem:
    """A small network with data of its own, test data among them."""
    torch.manual_seed(0)
    inputs, targets = torch.rand(360, 1, 8, 8), torch.randint(0, 10, (360,))
    parts = list(zip(inputs.split(120), targets.split(120), strict=True))
    return Problem.from_network(Small(), *parts[:2], test_data=parts[2], retraining=small_task().retraining, cache=None)


@pytest.mark.processes
@pytest.mark.parametrize("asked", [2, None])
def test_a_helper_does_what_is_not_begun(asked: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    what = "digits" if asked else own_problem()
    bits = (2, 3, 2, 3) if asked else BITS
    recipe = replace(RECIPE, warm_start=1, batch_size=64)
    alone = _run("alone", 1, what, bits, recipe=recipe)
    trainings, sent = Trainings(monkeypatch), []

    def watched(count: int, make: Any, data: Any, arguments: tuple[Any, ...], *rest: Any) -> Any:
        sent.append(arguments[0])
        return job_helped(count, make, data, arguments, *rest)

    job_helped = job.helped
    monkeypatch.setattr(job, "helped", watched)
    monkeypatch.setattr(job, "_PAYS", 0.0)
    monkeypatch.setattr(job, "make_all", _once(Path("helped/seed-1.json").exists))
    together = _run("helped", asked, what, bits, recipe=recipe)
    assert not {0, 1} & set(trainings.seeds)
    assert replace(together, folder=alone.folder) == alone
    for name in ("seed-0.safetensors", "seed-1.safetensors", "network.safetensors", "test.json"):
        assert Path("alone", name).read_bytes() == Path("helped", name).read_bytes()
    (subject,) = sent
    assert subject.test is None
    if isinstance(subject.engine.task.dataset, OwnData):
        assert subject.engine.task.dataset.parts[2] is None
    else:  # the file says of which task it is
        export(["helped", "--format", "packed", "--output", "out.safetensors"])


@pytest.mark.processes
def test_what_a_killed_helper_leaves_behind_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, epochs=120, control_rates=(1e-3,))
    alone = _run("alone", 1, recipe=recipe)
    found: list[bool] = []
    epoch_done = Progress.epoch_done

    def noting(progress: Progress, row: list[float], new: bool) -> None:
        found.append(new)
        epoch_done(progress, row, new)

    def kill() -> None:
        (helper,) = multiprocessing.active_children()
        helper.kill()
        helper.join()
        assert not Path("helped/seed-1.json").exists()
        found.clear()

    begun = Path("helped/seed-0.checkpoint.safetensors").exists
    monkeypatch.setattr(job, "make_all", _once(begun, kill))
    monkeypatch.setattr(Progress, "epoch_done", noting)
    assert replace(_run("helped", 2, recipe=recipe), folder=alone.folder) == alone
    assert not all(found)


class OnlyHere(Counted):
    """Data that no worker can read."""

    def __call__(self, root: Path, train: bool, download: bool) -> Examples:
        if multiprocessing.parent_process() is not None:
            raise OSError("no such data here")
        return super().__call__(root, train, download)


@pytest.mark.processes
def test_a_helper_that_fails_is_named_and_not_missed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset("OnlyHere", (1, 8, 8), OnlyHere(), validation_images=40, scale=16.0, cache_key="only here")
    task = small_task(dataset=dataset)
    alone = _run("alone", 1, task)
    said: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda progress, line: said.append(line))
    monkeypatch.setattr(job, "make_all", _once(lambda: said))
    assert replace(_run("helped", 2, task), folder=alone.folder) == alone
    assert len(said) == 1
    assert said[0].startswith("a process that helped with the retraining is lost, the others go on: ")
    assert "no such data here" in said[0]


def test_nobody_is_asked_to_help_with_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: pytest.fail("a process is started"))
    _run("little")


@pytest.mark.parametrize("workers", [2, None])
def test_a_daemon_retrains_alone(workers: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    monkeypatch.setattr(job, "_PAYS", 0.0)
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: pytest.fail("a process is started"))
    _run("daemon", workers)


def test_a_network_that_no_other_process_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))

    task = small_task(network=Local)
    with pytest.raises(ReLeQError, match=r"no other process can help with the retraining: .*Local"):
        _run("asked", 2, task)
    monkeypatch.setattr(job, "_PAYS", 0.0)
    with pytest.warns(UserWarning, match="going on in this process alone") as warned:
        found = _run("unasked", None, task)
    assert warned[0].filename == __file__
    assert replace(found, folder=Path("alone")) == _run("alone", 1, task)


def _loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, targets)


@pytest.mark.filterwarnings("ignore:the weights of small are not kept")
def test_a_loss_that_other_processes_cannot_tell_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    task: Task = small_task(loss=_loss)
    with pytest.raises(ReLeQError, match=r"workers=2 is not accepted .*; give the task a cache_key= .*, or workers=1"):
        _run("asked", 2, task)
    assert not Path("asked").exists()
    monkeypatch.setattr(job, "_PAYS", 0.0)
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: pytest.fail("a process is started"))
    _run("unasked", None, task)


@pytest.mark.parametrize("workers", [0, 1.5, "two"])
def test_a_number_of_workers(workers: Any) -> None:
    with pytest.raises(ReLeQError, match=r"workers=.* is not accepted; give a whole number"):
        _run("wrong", workers)


def test_the_estimate_counts_processes() -> None:
    said = [estimate(small_task(), BITS, recipe=RECIPE, folder="final", workers=workers) for workers in (1, 2, 4)]
    assert ["shared by" in each for each in said] == [False, True, True]
    assert said[2].endswith("of one core, shared by 4 processes")


@pytest.mark.processes
def test_an_unguarded_script_does_its_work_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, "script.py", "60"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "measured on test"
    assert done.stdout.count("measured") == 1
    assert done.stderr.count("worker processes import the script that starts them") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.processes
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_helpers_end_with_the_process_they_help(sent: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(GUARDED)
    parent = subprocess.Popen(
        [sys.executable, "script.py", "100000"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        checkpoints = [tmp_path / "final" / f"seed-{seed}.checkpoint.safetensors" for seed in (0, 1)]
        assert _comes(lambda: all(path.exists() for path in checkpoints))
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert children
        parent.send_signal(sent)
        _, said = parent.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            parent.kill()
    assert _comes(lambda: not any(_runs(child) for child in children))
    assert "semaphore" not in said
    if sent == signal.SIGINT:
        left = {path.name for path in (tmp_path / "final").glob(".*") if not path.name.endswith(".lock")}
        assert not left


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_bar_counts_every_epoch_once() -> None:
    progress = Progress("small", False)
    row = [0.5, 0.9, 1.0]
    progress.expect(6, 2)
    progress.begin("seed 0")
    progress.epoch_done(row, True)
    progress.begins("seed 1")
    progress.heard("seed 1", row, True)
    progress.heard("seed 1", row, True)  # and then it dies
    progress.epoch_done(row, True)
    assert progress.left == 2
    progress.begins("seed 1")  # another one goes on with it, and dies as well
    assert progress.left == 4
    progress.heard("seed 1", row, False)
    assert progress.left == 3
    progress.begin("seed 1")
    assert progress.left == 4
    progress.epoch_done(row, False)
    progress.epoch_done(row, False)
    assert progress.left == 2
    progress.heard("seed 2", row, True)
    progress.done_elsewhere("seed 2", 2)
    assert progress.left == 0
