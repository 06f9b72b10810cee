"""Ray actors, on a cluster of two nodes that runs on this machine."""

import contextlib
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation, EvaluationCache, Evaluator
from releq_env.evaluation.live import live_source
from releq_env.retraining.data import Data
from releq_env.workers.loop import Failure, WorkerError
from releq_env.workers.waiting import Waiting
from tests.conftest import ROOT

ray: Any = pytest.importorskip("ray")
ASSIGNMENTS = [(1, 1, 1, 1), (2, 2, 2, 2), (1, 2, 1, 2), (8, 1, 8, 1)]


def build(retrain_images: int = 64, **kwargs: Any) -> Evaluator:
    return Evaluator(live_source("digits", retrain_images=retrain_images, **kwargs))


def alone(assignments: list[tuple[int, ...]], retrain_images: int = 64) -> list[float]:
    return [result.accuracy for result in build(retrain_images, workers=1).evaluate_many(assignments)]


# On a machine with much else to do actors take longer to start than they are given before this is said.
pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings("ignore:waiting for a free")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, and a connection to them."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster()
        cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)
        connect(cluster)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


def connect(cluster: Any) -> None:
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)


@pytest.fixture(scope="module")
def evaluator(cluster: Any) -> Iterator[Evaluator]:
    """One pool for most tests: starting it costs seconds."""
    evaluator = build(parallel="ray")
    yield evaluator
    evaluator.close()


def pool_of(evaluator: Evaluator) -> Any:
    source: Any = evaluator.source
    return source._made_pool()


def workers_of(evaluator: Evaluator) -> list[Any]:
    return pool_of(evaluator)._workers


def warm_up(evaluator: Evaluator, actors: int) -> None:
    """Have actors started, of which some are quicker than others."""
    assignments = itertools.product(range(1, 9), repeat=4)
    other = evaluator.reseeded(99)
    while len({worker.node for worker in workers_of(evaluator)} - {None}) < actors:
        other.evaluate_many(list(itertools.islice(assignments, 3 * actors)))


class Spy:
    """Does something to the worker of an assignment, so many times, as soon as one has begun it."""

    def __init__(
        self, evaluator: Evaluator, assignment: tuple[int, ...] | None, act: Callable[[Any], None], times: int = 1
    ) -> None:
        self.done: list[tuple[int, ...]] = []
        self._workers, self._assignment, self._act, self._times = workers_of(evaluator), assignment, act, times
        self.seen: list[Any] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def diverged(self) -> None: ...

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        self.done.append(evaluation.bitwidths)

    def _watch(self) -> None:
        while len(self.seen) < self._times:
            for worker in list(self._workers):
                if worker.assignment == self._assignment and worker not in self.seen:
                    self.seen.append(worker)
                    self._act(worker)
            time.sleep(0.001)


def kill(worker: Any) -> None:
    ray.kill(worker._actor)


def test_accuracies_are_those_of_one_process_and_both_nodes_work(evaluator: Evaluator) -> None:
    warm_up(evaluator, 2)
    nodes, accuracies = set(), {}
    pool = pool_of(evaluator)
    for assignment, (accuracy, _) in pool.measure(Waiting([*ASSIGNMENTS, (3, 3, 3, 3), (4, 4, 4, 4)]), retrain_seed=0):
        accuracies[assignment] = accuracy
        nodes |= {worker.node for worker in pool._workers if worker.assignment}
    assert [accuracies[assignment] for assignment in ASSIGNMENTS] == alone(ASSIGNMENTS)
    assert nodes == {node["NodeID"] for node in ray.nodes()}
    assert len(nodes) == 2


def test_a_single_assignment_needs_no_actor() -> None:
    evaluator = build(parallel="ray")
    assert evaluator.evaluate((2, 2, 2, 2)).accuracy == alone([(2, 2, 2, 2)])[0]
    assert workers_of(evaluator) == []


def test_reseeded_shares_the_actors_but_not_the_seed(evaluator: Evaluator) -> None:
    other = evaluator.reseeded(1)
    results = other.evaluate_many(ASSIGNMENTS)
    assert [r.accuracy for r in results] == [r.accuracy for r in build().reseeded(1).evaluate_many(ASSIGNMENTS)]
    assert workers_of(other) is workers_of(evaluator)


def test_an_exception_in_an_actor_arrives_with_its_cause(evaluator: Evaluator) -> None:
    pool = pool_of(evaluator)
    with pytest.raises(WorkerError, match=r"measuring \(.*, 1, 1\) failed in a worker: TypeError") as raised:
        list(pool.measure(Waiting([(1, 1, 1, 1), (2, 2, 1, 1)]), retrain_seed="none"))
    assert "Traceback" in str(raised.value.__cause__)
    with pytest.raises(ReLeQError, match="9 for conv1, which lsq does not support"):
        list(pool.measure(Waiting([(9, 9, 9, 9), (9, 1, 1, 1)]), retrain_seed=0))


@pytest.mark.slow
def test_an_actor_killed_under_way_costs_no_evaluation(evaluator: Evaluator) -> None:
    slow, more = evaluator.reseeded(0), [(3, 3, 3, 3), (4, 4, 4, 4), (5, 5, 5, 5)]
    spy = slow.listener = Spy(slow, more[1], kill)
    assert [r.accuracy for r in slow.evaluate_many(more)] == alone(more)
    assert len(spy.seen) == 1  # it was killed


@pytest.mark.slow
def test_a_second_death_names_the_assignment_and_harms_no_other(evaluator: Evaluator) -> None:
    more = [(3, 1, 3, 1), (4, 1, 4, 1), (5, 1, 5, 1), (6, 1, 6, 1)]
    spy = evaluator.listener = Spy(evaluator, more[1], kill, times=2)
    with pytest.raises(ReLeQError, match=r"two workers died measuring \(4, 1, 4, 1\)") as raised:
        evaluator.evaluate_many(more)
    evaluator.listener = None
    assert "\n" not in str(raised.value)
    assert sorted(spy.done) == [more[0], more[2], more[3]]


@pytest.mark.slow
def test_a_node_that_joins_helps_and_one_that_is_lost_costs_no_evaluation(
    cluster: Any,
) -> None:
    evaluator = build(2000, parallel="ray")
    assignments = [(a, b, 1, 1) for a in range(1, 4) for b in range(1, 4)]
    warm_up(evaluator, 2)
    assert len(workers_of(evaluator)) == 2
    node = cluster.add_node(num_cpus=1)
    warm_up(evaluator, 3)
    lost: list[tuple[int, ...]] = []

    def lose_it() -> None:
        while not lost:
            lost.extend(w.assignment for w in list(workers_of(evaluator)) if w.node == node.node_id and w.assignment)
            time.sleep(0.001)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=lose_it, daemon=True).start()
    results = evaluator.evaluate_many(assignments)
    assert len(lost) == 1
    assert [result.accuracy for result in results] == alone(assignments, 2000)
    assert len({worker.node for worker in workers_of(evaluator)} - {None}) == 2
    evaluator.close()


@pytest.mark.slow
def test_closing_leaves_a_connection_alone_that_it_has_not_made(cluster: Any) -> None:
    evaluator = build(parallel="ray", workers=1)
    evaluator.evaluate_many(ASSIGNMENTS[:2])
    assert len(workers_of(evaluator)) == 1
    evaluator.close()
    evaluator.close()
    assert ray.is_initialized()


@pytest.mark.slow
def test_idle_actors_make_room_for_those_of_another_evaluator(evaluator: Evaluator) -> None:
    first = evaluator.reseeded(2)
    first.evaluate_many(ASSIGNMENTS)
    other = build(32, parallel="ray")
    accuracies = [result.accuracy for result in other.evaluate_many(ASSIGNMENTS)]
    assert accuracies == alone(ASSIGNMENTS, 32)
    assert workers_of(evaluator) == []
    other.close()


@pytest.mark.slow
def test_actors_of_an_earlier_connection_are_replaced(cluster: Any) -> None:
    evaluator = build(parallel="ray")
    evaluator.evaluate_many(ASSIGNMENTS[:2])
    ray.shutdown()
    connect(cluster)
    assert [result.accuracy for result in evaluator.evaluate_many(ASSIGNMENTS)] == alone(ASSIGNMENTS)
    evaluator.close()


class OnCuda:
    """Stands in for retraining on CUDA."""

    device = torch.device("cuda")

    def load(self) -> Data:
        return Data(*[torch.zeros(1)] * 4)


@pytest.mark.parametrize(
    ("gpus", "workers", "actors", "share"),
    [
        (2.0, None, 2, 1.0),
        (2.0, 1, 1, 1.0),
        (2.0, 3, 3, 0.5),
        (1.0, 4, 4, 0.25),
        (1.0, 3, 3, 0.3333),
        (None, 2, 2, 1.0),
    ],
)
def test_actors_on_cuda_have_a_gpu_or_their_share(
    gpus: float | None, workers: int | None, actors: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from releq_env.workers import ray_pool

    pool: Any = ray_pool.RayPool(OnCuda(), workers)  # type: ignore[arg-type]
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 9.0} | ({} if gpus is None else {"GPU": gpus}))
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(ray_pool, "_Actor", lambda retraining, data, instructions, num_gpus: num_gpus)
    assert (pool._most(), pool._start()) == (actors, share)
    assert gpus is None or int(gpus) * int(1.0 / share) >= actors  # none waits for a GPU


def test_a_cluster_without_what_is_needed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from releq_env.workers.ray_pool import RayPool

    pool = RayPool(OnCuda())  # type: ignore[arg-type]
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 9.0})
    with pytest.raises(ReLeQError, match="the Ray cluster has no GPU; add a node with one, or give workers="):
        pool._most()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_data_keep_their_values_and_their_layout(dtype: torch.dtype, channels: int) -> None:
    from releq_env.workers.ray_pool import _packed, _unpacked

    images = torch.randn(5, channels, 4, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    data = Data(images, torch.arange(5), images[:2], torch.arange(2))
    for name, packed in _packed(data).items():
        packed.bytes.flags.writeable = False  # as Ray hands it out
        tensor = _unpacked(packed)
        assert torch.equal(tensor, getattr(data, name))
        assert (tensor.dtype, tensor.stride()) == (getattr(data, name).dtype, getattr(data, name).stride())


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it raises
    with pytest.raises(ReLeQError, match=r'needs Ray; install it with: pip install "releq_env\[distributed\]"'):
        build(parallel="ray")
    assert build(parallel="processes").evaluate((2, 2, 2, 2)).accuracy > 0.5


OWN = """
import signal, sys
import ray
from releq_env.evaluation import EvaluationCache, Evaluator
from releq_env.evaluation.live import live_source

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started without one
evaluator = Evaluator(live_source("digits", retrain_images=2000, parallel="ray"), EvaluationCache(sys.argv[1]))
second = evaluator.reseeded(1)
second.source._pool = None  # a pool of its own

class Tell:
    def diverged(self): ...
    def evaluated(self, evaluation, retrained):
        print(evaluation.accuracy, flush=True)

assignments = [(a, b, c, 1) for a in range(1, 9) for b in range(1, 9) for c in range(1, 9)]
second.evaluate_many(assignments[:2])
evaluator.listener = Tell()
evaluator.evaluate_many(assignments[:2])
print(ray.is_initialized())
evaluator.close()
print(ray.is_initialized())
second.close()
print(ray.is_initialized(), flush=True)
evaluator.evaluate_many(assignments)
"""


def processes_of(session: int) -> list[int]:
    """Return the processes of a session, by the kernel's account."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_a_ray_of_its_own_ends_with_it_and_ctrl_c_loses_nothing_finished(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", OWN, str(tmp_path / "cache.sqlite")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"},
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(8)]
        assert lines[2:5] == ["True", "True", "False"]  # the last one to close ends it
        os.killpg(process.pid, signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
        assert process.returncode != 0
        assert errors.count("KeyboardInterrupt") == 1
        finished = 2 + len([line for line in [*lines[:2], *lines[5:], *rest.splitlines()] if line.startswith("0.")])
        # The last one may have been told and not written yet.
        assert len(EvaluationCache(tmp_path / "cache.sqlite")) >= finished - 1 >= 6
        assert process_free(process.pid)
    finally:
        for pid in processes_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def process_free(session: int) -> bool:
    deadline = time.monotonic() + 20.0
    while processes_of(session) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not processes_of(session)


def test_a_node_with_other_instructions_measures_nothing() -> None:
    from releq_env.workers import ray_pool

    live = live_source("digits", retrain_images=0).retraining
    actor = ray_pool._Remote(live, ray_pool._packed(live.load()), "another processor")
    answer = actor.measure((2, 2, 2, 2), 0)
    assert isinstance(answer, Failure)
    assert answer.wrong_input
    assert "this process with another processor" in answer.message
