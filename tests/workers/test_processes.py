import contextlib
import dataclasses
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation, EvaluationCache, Evaluator
from releq_env.evaluation.cache import Keys
from releq_env.evaluation.live import LiveSource, live_source
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import TASKS, load_pretrained
from releq_env.workers.loop import StartError, WorkerError
from releq_env.workers.main_module import check_main
from releq_env.workers.processes import ProcessPool
from releq_env.workers.waiting import Waiting
from tests.conftest import ROOT
from tests.fakes import random_dataset

pytestmark = pytest.mark.processes
ASSIGNMENTS = [(1, 1, 1, 1), (2, 2, 2, 2), (1, 2, 1, 2), (8, 1, 8, 1)]


def build(workers: int | None = None) -> Evaluator:
    return Evaluator(live_source("digits", retrain_images=64, workers=workers))


@pytest.fixture(scope="module")
def parallel() -> Iterator[Evaluator]:
    """One pool for all tests: starting it costs seconds."""
    evaluator = build(workers=2)
    yield evaluator
    evaluator.close()


def test_accuracies_are_those_of_one_process(parallel: Evaluator) -> None:
    results = parallel.evaluate_many(ASSIGNMENTS)
    alone = build().evaluate_many(ASSIGNMENTS)
    assert [(r.bitwidths, r.accuracy) for r in results] == [(r.bitwidths, r.accuracy) for r in alone]
    assert (parallel.distinct_evaluations, parallel.retrained) == (4, 4)


def test_reseeded_shares_the_workers_but_not_the_seed(parallel: Evaluator) -> None:
    other = parallel.reseeded(1)
    results = other.evaluate_many(ASSIGNMENTS)
    alone = build().reseeded(1).evaluate_many(ASSIGNMENTS)
    assert [r.accuracy for r in results] == [r.accuracy for r in alone]
    assert other.distinct_evaluations == 4
    assert workers_of(other) is workers_of(parallel)


def workers_of(evaluator: Evaluator) -> list[Any]:
    source: Any = evaluator.source
    return source._made_pool()._workers


class Spy:
    """Tells of every evaluation, and kills busy workers when it is told to."""

    def __init__(self, evaluator: Evaluator, deadly: tuple[int, ...] | None = None, times: int = 0) -> None:
        self.done: list[tuple[int, ...]] = []
        self._workers, self._deadly, self.times = workers_of(evaluator), deadly, times
        threading.Thread(target=self._kill, daemon=True).start()

    def diverged(self) -> None: ...

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        self.done.append(evaluation.bitwidths)

    def _kill(self) -> None:
        while self.times:
            for worker in list(self._workers):
                if worker.assignment == self._deadly and worker.alive:
                    os.kill(worker.pid, signal.SIGKILL)
                    self.times -= 1
                    while worker.alive:
                        time.sleep(0.001)
            time.sleep(0.001)


def test_a_worker_killed_under_way_costs_no_evaluation(parallel: Evaluator) -> None:
    more = [(3, 3, 3, 3), (4, 4, 4, 4), (5, 5, 5, 5)]
    spy = parallel.listener = Spy(parallel, deadly=more[1], times=1)
    results = parallel.evaluate_many(more)
    parallel.listener = None
    assert spy.times == 0  # it was killed
    assert [r.accuracy for r in results] == [r.accuracy for r in build().evaluate_many(more)]


def test_a_second_death_names_the_assignment_and_harms_no_other(parallel: Evaluator) -> None:
    more = [(3, 1, 3, 1), (4, 1, 4, 1), (5, 1, 5, 1), (6, 1, 6, 1)]
    spy = parallel.listener = Spy(parallel, deadly=more[1], times=2)
    with pytest.raises(ReLeQError, match=r"two workers died measuring \(4, 1, 4, 1\)") as raised:
        parallel.evaluate_many(more)
    parallel.listener = None
    assert "\n" not in str(raised.value)
    assert sorted(spy.done) == [more[0], more[2], more[3]]
    assert parallel.evaluate((4, 1, 4, 1)).accuracy == build().evaluate((4, 1, 4, 1)).accuracy


@pytest.mark.slow
def test_idle_workers_that_were_killed_are_replaced(parallel: Evaluator) -> None:
    parallel.evaluate_many([(6, 6, 6, 6), (7, 7, 7, 7)])
    for worker in workers_of(parallel):
        os.kill(worker.pid, signal.SIGKILL)
    assert len(parallel.evaluate_many([(8, 8, 8, 8), (1, 8, 1, 8)])) == 2


def test_an_exception_in_a_worker_arrives_with_its_cause(parallel: Evaluator) -> None:
    pool: Any = parallel.source._made_pool()  # type: ignore[attr-defined]
    with pytest.raises(WorkerError, match=r"measuring \((1, 1|2, 2), 1, 1\) failed in a worker: TypeError") as raised:
        list(pool.measure(Waiting([(1, 1, 1, 1), (2, 2, 1, 1)]), retrain_seed="none"))
    assert "Traceback" in str(raised.value.__cause__)
    assert parallel.evaluate((2, 2, 4, 4)).accuracy > 0.5  # and the pool still works


def test_wrong_input_in_a_worker_stays_one_line(parallel: Evaluator) -> None:
    pool: Any = parallel.source._made_pool()  # type: ignore[attr-defined]
    with pytest.raises(ReLeQError, match="9 for conv1, which lsq does not support"):
        list(pool.measure(Waiting([(9, 9, 9, 9), (9, 1, 1, 1)]), retrain_seed=0))


def test_workers_end_with_the_evaluator_and_come_back() -> None:
    evaluator = build(workers=2)
    evaluator.evaluate_many(ASSIGNMENTS[:2])
    workers = list(workers_of(evaluator))
    assert len(workers) == 2
    evaluator.close()
    evaluator.close()
    assert not any(worker.alive for worker in workers)
    assert evaluator.evaluate_many([(3, 3, 3, 3), (4, 4, 4, 4)])
    assert all(worker.alive for worker in workers_of(evaluator))
    evaluator.close()


def test_one_worker_is_this_process() -> None:
    evaluator = build(workers=1)
    evaluator.evaluate_many([(5, 5, 5, 5), (6, 6, 6, 6)])
    assert workers_of(evaluator) == []


class FullDisk:
    """A cache that cannot be written."""

    def get(self, key: str) -> None:
        return None

    def put(self, *args: object) -> None:
        raise ReLeQError("no space left")


def test_no_worker_goes_on_after_an_error(parallel: Evaluator) -> None:
    evaluator = parallel.reseeded(3)
    evaluator.cache = FullDisk()  # type: ignore[assignment]
    with pytest.raises(ReLeQError, match="no space left") as raised:
        evaluator.evaluate_many(ASSIGNMENTS)
    assert not any(worker.assignment for worker in workers_of(evaluator))
    assert raised.tb is not None  # even while the traceback is held
    evaluator.cache = None
    assert evaluator.distinct_evaluations == 1  # what had been measured is still known
    results = evaluator.evaluate_many(ASSIGNMENTS)
    assert evaluator.retrained == 4
    assert [r.accuracy for r in results] == [r.accuracy for r in build().reseeded(3).evaluate_many(ASSIGNMENTS)]


class Paced:
    """Stands in for retraining that takes so many seconds: its accuracies are the numbers of the processes."""

    device = torch.device("cpu")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def measure(self, bitwidths: Sequence[int], retrain_seed: int) -> tuple[float, float]:
        return os.getpid(), self.seconds

    def shared_data(self) -> None:
        return None


def test_the_main_module_is_looked_at_once_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("releq_env.workers.processes.check_main", seen.append)
    monkeypatch.setattr("releq_env.workers.processes._Process", lambda retraining: retraining)
    retraining: Any = Paced(9.0)
    pool = ProcessPool(retraining, workers=3)
    assert [pool._start() for _ in range(3)] == [retraining] * 3
    assert seen == [retraining]


def test_data_are_not_copied_to_look_for_what_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")  # as of a notebook: no file
    mine = main.Mine = type("Mine", (), {"__module__": "__main__"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    data = [torch.zeros(2**22), torch.zeros(2**22).numpy()]  # 16 MiB each
    tracemalloc.start()
    try:
        check_main({"data": data, "name": "fine"})
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    for sent in ({"data": data, "of": mine()}, np.array([mine()])):
        with pytest.raises(StartError, match="cannot import what is defined in a notebook"):
            check_main(sent)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("releq_env.workers.processes.cores", lambda: 2)


class Marking(ShortRetraining):
    """Leaves a mark in the data and in the weights instead of retraining."""

    def measure(self, bitwidths: Sequence[int], retrain_seed: int | None = None) -> tuple[float, float]:
        (bits,) = bitwidths
        self.load().targets[bits] = -1
        next(self.pretrained.network.parameters()).data.flatten()[bits] = 7.0
        return 0.5, 0.0


def test_workers_have_no_copy_of_data_and_weights() -> None:
    task = dataclasses.replace(TASKS["digits"], dataset=random_dataset())
    retraining = Marking(task, load_pretrained(TASKS["digits"]))
    pool = ProcessPool(retraining, workers=2)
    assert len(list(pool.measure(Waiting([(bits,) for bits in range(6)]), retrain_seed=0))) == 6
    pool.close()
    assert retraining.load().targets[:6].tolist() == [-1] * 6
    assert next(retraining.pretrained.network.parameters()).flatten()[:6].tolist() == [7.0] * 6


def test_a_task_that_cannot_be_sent_is_one_line() -> None:
    class Local(Paced): ...

    for unsendable in (Local(0.0), Paced(lambda: 0.0)):  # type: ignore[arg-type]
        pool = ProcessPool(unsendable, workers=2)  # type: ignore[arg-type]
        with pytest.raises(ReLeQError, match=r"cannot be sent to worker processes \(.*, or give workers=1") as raised:
            list(pool.measure(Waiting([(1,), (2,)]), retrain_seed=0))
        assert "\n" not in str(raised.value)


def measured_here(pool: ProcessPool, count: int) -> list[bool]:
    results = list(pool.measure(Waiting([(bits,) for bits in range(count)]), retrain_seed=0))
    assert sorted(assignment for assignment, _ in results) == [(bits,) for bits in range(count)]
    return [accuracy == os.getpid() for _, (accuracy, _) in results]


@pytest.mark.usefixtures("two_cores")
def test_unasked_no_process_is_started_where_it_costs_more_than_it_saves() -> None:
    pool = ProcessPool(Paced(0.1))  # type: ignore[arg-type]
    assert all(measured_here(pool, 40))


@pytest.mark.usefixtures("two_cores")
def test_unasked_processes_start_as_soon_as_they_pay_and_stay() -> None:
    pool = ProcessPool(Paced(1.0))  # type: ignore[arg-type]
    assert measured_here(pool, 20) == [True, True] + [False] * 18
    assert measured_here(pool, 2) == [False, False]
    assert measured_here(pool, 1) == [True]
    pool.close()


@pytest.mark.usefixtures("two_cores")
def test_what_a_search_asks_for_little_by_little_adds_up() -> None:
    pool = ProcessPool(Paced(3.0))  # type: ignore[arg-type]
    assert all(measured_here(pool, 1) for _ in range(9))  # nothing that workers could have shared
    assert [measured_here(pool, 2) for _ in range(3)] == [[True, True], [True, True], [False, False]]
    pool.close()


@pytest.mark.usefixtures("two_cores")
def test_unasked_a_gpu_is_not_shared_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Paced, "device", torch.device("cuda"))
    assert all(measured_here(ProcessPool(Paced(9.0)), 4))  # type: ignore[arg-type]


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("workers", [2, None])
def test_a_daemonic_process_measures_itself(workers: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in SubprocVecEnv: Python allows it no children.
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert all(measured_here(ProcessPool(Paced(9.0), workers), 4))  # type: ignore[arg-type]


def test_ways_with_equal_accuracies_share_the_cache() -> None:
    retraining = live_source("digits").retraining
    keys = [
        Keys(LiveSource(retraining, parallel, workers).fingerprint)((2, 2, 2, 2))
        for parallel, workers in [("processes", None), ("processes", 2), ("stacked", None)]
    ]
    assert keys[0] == keys[1]
    assert keys[2] != keys[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parallel": "threads"}, "unknown parallel 'threads'; choose one of: processes, ray, stacked"),
        ({"workers": 0}, "workers=0 is not accepted; give a whole number from 1, or None for one a core"),
        ({"workers": 1.5}, "workers=1.5 is not accepted"),
        ({"workers": True}, "workers=True is not accepted"),
    ],
)
def test_wrong_arguments_are_one_line_from_gym_make(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ReLeQError, match=re.escape(message)) as raised:
        gym.make("releq_env:ReLeQ-Digits-v0", **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("two_cores")
def test_unasked_a_task_that_cannot_be_sent_is_measured_here() -> None:
    class Local(Paced): ...

    pool = ProcessPool(Local(9.0))  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="going on in this process alone: the task cannot be sent"):
        assert all(measured_here(pool, 6))
    assert all(measured_here(pool, 6))  # without a word: it is known now


class Deadly(Paced):
    """Kills the process that it is sent to, as what cannot be imported there does."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if multiprocessing.current_process().name == "releq-worker":
            os._exit(1)


@pytest.mark.slow
@pytest.mark.usefixtures("two_cores")
def test_unasked_all_is_measured_here_if_no_worker_survives() -> None:
    pool = ProcessPool(Deadly(9.0))  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="alone: [45] workers died and none has measured anything"):
        assert all(measured_here(pool, 6))


SCRIPT = """
import sys, time
print("begun", flush=True)
from releq_env.evaluation import Evaluator
from releq_env.evaluation.live import live_source
import releq_env.workers.processes as processes
processes.cores, processes._START_SECONDS = (lambda: 2), 0.01
evaluator = Evaluator(live_source("digits", retrain_images=32, workers=eval(sys.argv[1])))
print(len(evaluator.evaluate_many([(a, b, 1, 1) for a in range(1, 9) for b in range(1, 4)])), flush=True)
"""
NAMED = SCRIPT + "assert __name__ != 'another'\n"  # says __name__, and guards nothing


def run(script: str, workers: str, tmp_path: Path, from_stdin: bool = False) -> "subprocess.CompletedProcess[str]":
    path = tmp_path / "script.py"
    path.write_text(script)
    return subprocess.run(
        [sys.executable, "-" if from_stdin else str(path), workers],
        input=script if from_stdin else None,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )


UNGUARDED = "worker processes import the script that starts them: put what it does under"
NO_FILE = "worker processes import the script that starts them, and this one is no file; save it"


@pytest.mark.parametrize(
    ("script", "from_stdin", "begun", "message", "workers"),
    [
        pytest.param(SCRIPT, False, 1, UNGUARDED, "2", id="unguarded"),
        pytest.param(SCRIPT, False, 1, UNGUARDED, "None", id="unguarded-unasked", marks=pytest.mark.slow),
        pytest.param(NAMED, False, 3, UNGUARDED, "2", id="names-itself", marks=pytest.mark.slow),
        pytest.param(NAMED, False, 3, UNGUARDED, "None", id="names-itself-unasked", marks=pytest.mark.slow),
        pytest.param(SCRIPT, True, 1, NO_FILE, "2", id="stdin"),
        pytest.param(SCRIPT, True, 1, NO_FILE, "None", id="stdin-unasked", marks=pytest.mark.slow),
    ],
)
def test_a_script_that_workers_cannot_import(
    script: str, from_stdin: bool, begun: int, message: str, workers: str, tmp_path: Path
) -> None:
    done = run(script, workers, tmp_path, from_stdin)
    assert done.stdout.count("begun") <= begun  # this one and two workers: they start no others
    if workers == "None":  # nobody asked for workers
        assert done.returncode == 0
        assert done.stderr.count(f"going on in this process alone: {message}") == 1
        assert done.stdout.endswith("24\n")
    else:
        assert done.returncode != 0
        assert done.stderr.splitlines()[-1].startswith(f"releq_env.workers.loop.StartError: {message}")
        assert done.stderr.count("Traceback") == 1


COMMAND_LINE = """
import dataclasses, sys
from releq_env.evaluation.live import live_source
from releq_env.retraining.short import ShortRetraining
from releq_env.workers.processes import ProcessPool
from releq_env.workers.waiting import Waiting

class Mine(ShortRetraining): ...

known = live_source("digits").retraining
retraining = eval(sys.argv[1])(known.task, known.pretrained, retrain_images=32)
pool = ProcessPool(retraining, workers=2)
print(len(list(pool.measure(Waiting([(1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)]), 0))))
pool.close()
"""


@pytest.mark.slow
def test_on_a_command_line_what_is_defined_elsewhere_can_be_sent(python: Callable[..., str]) -> None:
    assert python(COMMAND_LINE, "ShortRetraining") == "3\n"
    with pytest.raises(AssertionError, match="cannot import what is defined in a notebook or on the command line"):
        python(COMMAND_LINE, "Mine")


FORKED = """
import multiprocessing
from releq_env.evaluation import Evaluator
from releq_env.evaluation.live import live_source

def measure(evaluator, connection):
    connection.send([result.accuracy for result in evaluator.evaluate_many([(1, 1, 1, 1), (2, 2, 2, 2)])])
    evaluator.close()
    connection.send("closed")

evaluator = Evaluator(live_source("digits", retrain_images=32, workers=2))
evaluator.evaluate_many([(3, 3, 3, 3), (4, 4, 4, 4)])
context = multiprocessing.get_context("fork")
ours, theirs = context.Pipe()
child = context.Process(target=measure, args=(evaluator, theirs), daemon=True)
child.start()
found = ours.recv() if ours.poll(60) else None
print(found == [result.accuracy for result in evaluator.evaluate_many([(1, 1, 1, 1), (2, 2, 2, 2)])])
print(ours.recv() if ours.poll(60) else None)
evaluator.close()
"""


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_process_leaves_its_parents_workers_alone(python: Callable[..., str]) -> None:
    assert python(FORKED).split() == ["True", "closed"]


INTERRUPTED = """
import signal, sys
from releq_env.evaluation import EvaluationCache, Evaluator
from releq_env.evaluation.live import live_source

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started without one
    evaluator = Evaluator(live_source("digits", retrain_images=4000, workers=2), EvaluationCache(sys.argv[1]))

    class Tell:
        def diverged(self): ...
        def evaluated(self, evaluation, retrained):
            print(*(worker.pid for worker in evaluator.source._pool._workers), flush=True)

    evaluator.listener = Tell()
    evaluator.evaluate_many([(a, b, c, 1) for a in range(1, 9) for b in range(1, 9) for c in range(1, 9)])
"""


def test_ctrl_c_leaves_no_process_and_loses_nothing_finished(tmp_path: Path) -> None:
    script, cache = tmp_path / "script.py", tmp_path / "cache.sqlite"
    script.write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everybody
        rest, errors = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    assert errors.count("KeyboardInterrupt") == 1
    finished = len([line for line in [*lines, *rest.splitlines()] if line.strip()])
    assert len(EvaluationCache(cache)) >= finished - 1 >= 2  # the last one may have been told and not written yet
    for pid in lines[-1].split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
