"""Several retrainings at once, on one machine or many: single-threaded actors on a Ray cluster."""

import contextlib
import logging
import warnings
import weakref
from collections import defaultdict
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import ray
import torch
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError
from torch import Tensor

from releq_env.devices import instruction_set
from releq_env.errors import ReLeQError
from releq_env.retraining.data import Data
from releq_env.retraining.short import ShortRetraining
from releq_env.seeds import Seed
from releq_env.workers.loop import Failure, Worker, WorkerError, WorkerPool, measured
from releq_env.workers.waiting import Assignment, Measured, Waiting

_DIED = (RayActorError, NodeDiedError, OutOfMemoryError)
_PATIENCE = 60.0  # seconds in which an actor starts if there is room for it
_STILLBORN = 100  # actors that die before they have started, after which no more are tried
_USERS: "defaultdict[str, weakref.WeakSet[RayPool]]" = defaultdict(weakref.WeakSet)
"""By connection to Ray: the pools that use it."""
_OURS: set[str] = set()
"""Connections that a pool has made. The last one to close ends it."""


class RayPool(WorkerPool["_Actor"]):
    """Ray actors, each with a CPU of its own, and on CUDA with a device or its share of one.

    They run in the cluster that this process has been connected to with `ray.init(...)`, else where
    `ray.init()` leads: to the cluster that `RAY_ADDRESS` names, to one that `ray start` has begun on
    this machine, or to a new one.

    Args:
        retraining: What every actor computes.
        workers: How many actors. `None`: one a CPU of the cluster, on CUDA one a GPU; if they are more
            than the GPUs, they share them.
    """

    def __init__(self, retraining: ShortRetraining, workers: int | None = None) -> None:
        super().__init__(retraining, workers)
        self._connection = ""
        self._shared: tuple[Any, Any] | None = None  # in the object store: what actors compute, and its data
        self._stillborn = 0

    def close(self) -> None:
        """End the actors, and the connection to Ray if a pool has made it and no other uses it."""
        if self._connection != _connection():
            self._workers.clear()  # they are gone, and asking Ray to end them would start it anew
        super().close()
        users = _USERS[self._connection]
        users.discard(self)
        if not users and self._connection in _OURS and self._connection == _connection():
            ray.shutdown()
        self._connection, self._shared = "", None

    def _most(self) -> int:
        if self._asked_for is not None:
            return self._asked_for
        there = int(self._cluster_has(self._kind))
        if not there:
            raise ReLeQError(f"the Ray cluster has no {self._kind}; add a node with one, or give workers=")
        return there

    def _start(self) -> "_Actor":
        if self._shared is None:
            self._shared = ray.put(self._retraining), ray.put(_packed(self._retraining.load()))
        retraining, data = self._shared
        share = 0.0
        if self._kind == "GPU":
            # An actor has to fit into one GPU. Ray takes fractions of four digits.
            gpus = int(self._cluster_has("GPU")) or self._most()  # nodes with GPUs may be about to come
            share = int(1e4 / -(-self._most() // gpus)) / 1e4
        device = self._retraining.device
        known = device.type == "cpu" or torch.cuda.is_available()
        return _Actor(retraining, data, instruction_set(device) if known else None, share)

    def _answered(self) -> "Sequence[_Actor]":
        pending = {worker.pending: worker for worker in self._workers if worker.pending is not None}
        answered: list[_Actor] = []
        while not answered:
            answered = [pending[reference] for reference in ray.wait(list(pending), timeout=_PATIENCE)[0]]
            if not answered and not any(worker.assignment for worker in self._workers):
                warnings.warn(
                    f"waiting for a free {self._kind} in the Ray cluster; other evaluators keep theirs until they "
                    "are closed",
                    stacklevel=2,
                )
        for worker in answered:
            if worker.assignment is None:
                self._welcome(worker)
        return [worker for worker in answered if worker.assignment]

    def _welcome(self, worker: "_Actor") -> None:
        """Keep an actor that has started; go on without one that died before, as with its node."""
        self._workers.remove(worker)
        if worker.alive:
            self._workers.append(worker)
            return
        self._stillborn += 1
        if self._stillborn >= _STILLBORN:
            raise ReLeQError(f"{_STILLBORN} Ray actors died before they had started; Ray's logs say why")

    @property
    def _kind(self) -> str:
        return "CPU" if self._retraining.device.type == "cpu" else "GPU"

    def _cluster_has(self, kind: str) -> float:
        return float(ray.cluster_resources().get(kind, 0.0))

    def _measure(self, waiting: Waiting, retrain_seed: Seed) -> Generator[tuple[Assignment, Measured], None, None]:
        self._connect()
        return super()._measure(waiting, retrain_seed)

    def _connect(self) -> None:
        if not ray.is_initialized():
            ray.init(logging_level=logging.ERROR, log_to_driver=False)
            _OURS.add(_connection())
        connection = _connection()
        if connection != self._connection:
            self._workers.clear()  # if there are any, they ended with another connection
            self._connection, self._shared = connection, None
        for other in _USERS[connection]:
            if other is not self:  # its actors have no use for their CPUs now
                other._dismiss([worker for worker in other._workers if not worker.assignment])
        _USERS[connection].add(self)


def _connection() -> str:
    """Return what is different for every connection to Ray."""
    if not ray.is_initialized():
        return ""
    context = ray.get_runtime_context()
    return f"{context.gcs_address} {context.get_job_id()}"


class _Actor(Worker):
    """The driver's side of an actor.

    Attributes:
        pending: What Ray will have an answer to, or `None`.
        node: The id of the node it runs on, once it has started.
    """

    def __init__(self, retraining: Any, data: Any, instructions: str | None, num_gpus: float) -> None:
        # Spread: neighbours on one machine share its memory's bandwidth.
        options = {"num_cpus": 1, "num_gpus": num_gpus, "scheduling_strategy": "SPREAD"}
        actor_class: Any = ray.remote(_Remote)
        self._actor: Any = actor_class.options(**options).remote(retraining, data, instructions)
        self.pending: Any = self._actor.node.remote()
        self.node: str | None = None

    @property
    def idle(self) -> bool:
        return self.pending is None  # one that waits for a free CPU keeps no assignment waiting

    @property
    def alive(self) -> bool:
        """Whether it still runs; waits until it has started."""
        try:
            self.node = ray.get(self._actor.node.remote() if self.pending is None else self.pending)
        except _DIED as error:
            if getattr(error, "actor_init_failed", False):
                raise WorkerError("a Ray actor could not be started") from error
            return False
        self.pending = None
        return True

    def begin(self, assignment: Assignment, retrain_seed: Seed) -> None:
        self.assignment = assignment
        self.pending = self._actor.measure.remote(assignment, retrain_seed)

    def answer(self) -> Measured | Failure | None:
        pending, self.pending = self.pending, None
        try:
            answer: Measured | Failure = ray.get(pending)
        except _DIED:
            self.end()
            return None
        return answer

    def end(self) -> None:
        with contextlib.suppress(Exception):  # Ray may be gone
            ray.kill(self._actor)


class _Remote:
    """The actor: measures in a process of its own, on any node."""

    def __init__(self, retraining: ShortRetraining, data: "dict[str, _Packed]", instructions: str | None) -> None:
        self._retraining = retraining
        self._expected = instructions
        retraining.device = torch.device(retraining.device.type)  # Ray shows it the one that it has
        retraining.adopt(Data(**{name: _unpacked(packed).to(retraining.device) for name, packed in data.items()}))

    def node(self) -> str:
        """Return the id of the node."""
        return ray.get_runtime_context().get_node_id()

    def measure(self, assignment: Assignment, retrain_seed: Seed) -> Measured | Failure:
        """Measure an assignment, but not with other instructions than the driver says it was measured with."""
        own = instruction_set(self._retraining.device)
        if self._expected not in (own, None):
            message = (
                f"a Ray node computes with {own}, this process with {self._expected}, and accuracies depend on it; "
                "let the cluster have one kind of processor, and run where it is"
            )
            return Failure(message, "", wrong_input=True)
        return measured(self._retraining, assignment, retrain_seed)


class _Packed(NamedTuple):
    """A tensor as NumPy has it, which Ray lets all actors of a node read in one place; NumPy knows no bfloat16."""

    bytes: Any
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _packed(data: Data) -> dict[str, _Packed]:
    packed = {}
    for name, resident in vars(data).items():
        tensor = resident.cpu()
        flat = tensor.as_strided((tensor.numel(),), (1,))  # in the order in which it lies in memory
        packed[name] = _Packed(flat.view(torch.uint8).numpy(), tensor.dtype, tuple(tensor.shape), tensor.stride())
    return packed


def _unpacked(packed: _Packed) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it cannot be written to, and is not
        flat = torch.from_numpy(packed.bytes)
    return flat.view(packed.dtype).as_strided(packed.shape, packed.stride)
