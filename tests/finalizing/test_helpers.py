"""Processes that help with final retraining: the same result, whatever becomes of them."""

import multiprocessing
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from releq_env import ReLeQError
from releq_env.finalizing import FinalResult, finalize, job
from releq_env.finalizing.progress import Progress
from releq_env.finalizing.sharing import Piece, make_all
from releq_env.tasks import Task
from tests.finalizing.small import BITS, RECIPE, Trainings, small_task


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def _run(folder: str, workers: int | None = None, task: Task | None = None, epochs: int = 2) -> FinalResult:
    recipe = replace(RECIPE, epochs=epochs)
    arguments: dict[str, Any] = {"recipe": recipe, "folder": folder, "controls": f"{folder}-controls"}
    return finalize(task or small_task(), BITS, seeds=(0, 1), progress=False, workers=workers, **arguments)


def _once(there: Callable[[], object], then: Callable[[], None]) -> Callable[..., None]:
    """Return a `make_all` that begins only once something is there."""

    def waiting(pieces: Iterable[Piece], progress: Progress, wait: bool = True) -> None:
        for _ in range(1200):
            if there():
                break
            time.sleep(0.05)
        else:
            pytest.fail("no helper has come")
        then()
        make_all(pieces, progress, wait)

    return waiting


@pytest.mark.processes
def test_a_helper_does_what_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = _run("alone", 1)
    trainings = Trainings(monkeypatch)
    monkeypatch.setattr(job, "make_all", _once(Path("helped/seed-1.json").exists, lambda: None))
    together = _run("helped", 2)
    assert not {0, 1} & set(trainings.seeds)
    assert replace(together, folder=alone.folder) == alone
    for name in ("seed-0.safetensors", "seed-1.safetensors"):
        assert Path("alone", name).read_bytes() == Path("helped", name).read_bytes()


@pytest.mark.processes
def test_what_a_killed_helper_leaves_behind_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = _run("alone", 1, epochs=300)

    def kill() -> None:
        (helper,) = multiprocessing.active_children()
        helper.kill()
        helper.join()
        assert not Path("helped/seed-1.json").exists()

    begun = Path("helped/seed-0.checkpoint.safetensors").exists
    monkeypatch.setattr(job, "make_all", _once(begun, kill))
    assert replace(_run("helped", 2, epochs=300), folder=alone.folder) == alone


def test_nobody_is_asked_to_help_with_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: pytest.fail("a process is started"))
    _run("little")


def test_a_network_that_no_other_process_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))

    task = small_task(network=Local)
    with pytest.raises(ReLeQError, match="no other process can help with the retraining: .*Local"):
        _run("asked", 2, task)
    monkeypatch.setattr(job, "_PAYS", 0.0)
    with pytest.warns(UserWarning, match="going on in this process alone"):
        found = _run("unasked", task=task)
    assert replace(found, folder=Path("alone")) == _run("alone", 1, task)


@pytest.mark.parametrize("workers", [0, 1.5, "two"])
def test_a_number_of_workers(workers: Any) -> None:
    with pytest.raises(ReLeQError, match="workers=.* is not accepted; give a whole number"):
        _run("wrong", workers)


def test_the_bar_counts_every_epoch_once() -> None:
    progress = Progress("small", False)
    row = [0.5, 0.9, 1.0]
    progress.expect(6, 2)
    progress.begin("seed 0")
    progress.epoch_done(row, True)
    progress.heard("seed 1", row, True)
    progress.heard("seed 1", row, True)  # and then it dies
    progress.epoch_done(row, True)
    assert progress.left == 2
    progress.begin("seed 1")
    assert progress.left == 4
    progress.epoch_done(row, False)
    progress.epoch_done(row, False)
    assert progress.left == 2
    progress.heard("seed 2", row, True)
    progress.done_elsewhere("seed 2", 2)
    assert progress.left == 0
