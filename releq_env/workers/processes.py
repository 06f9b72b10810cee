"""Several retrainings at once: single-threaded worker processes that share the data in memory."""

import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import pickle
import signal
import warnings
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait

import torch.multiprocessing  # noqa: F401  # teaches multiprocessing to pass tensors without copying them

from releq_env.devices import cores
from releq_env.retraining.data import Data
from releq_env.retraining.short import ShortRetraining
from releq_env.seeds import Seed
from releq_env.workers.loop import Failure, StartError, Worker, WorkerPool, measured
from releq_env.workers.main_module import UNGUARDED, check_main
from releq_env.workers.waiting import Assignment, Measured, Waiting

_START_SECONDS = 4.0  # until workers have imported torch and are warm; 3 to 5 where it was measured
_PATIENCE = 5.0  # seconds that a worker is given to end by itself
WORKER = "releq-worker"
"""What processes are called that this package starts."""
UNGUARDED_STATUS = 77
"""Exit status of one that, importing the script it belongs to, was to do what the script does."""


class ProcessPool(WorkerPool["_Process"]):
    """Worker processes (spawn), one a core unless told otherwise, or this process alone while that is faster.

    Unless told how many, this process goes on alone, too, where workers cannot import what they need.
    """

    def __init__(self, retraining: ShortRetraining, workers: int | None = None) -> None:
        super().__init__(retraining, workers)
        self._here: list[float] = []  # seconds of each assignment measured in this process while others waited
        self._alone = False  # can workers not be started?
        self._checked = False  # was the main module looked at?

    def measure(self, waiting: Waiting, retrain_seed: Seed) -> Generator[tuple[Assignment, Measured], None, None]:
        refuse_in_worker()
        try:
            yield from super().measure(waiting, retrain_seed)
        except StartError as error:
            if self._asked_for is not None:
                raise
            warnings.warn(f"going on in this process alone: {error}", stacklevel=2)
            self._alone = True
        if self._alone:
            yield from super().measure(waiting, retrain_seed)

    def _most(self) -> int:
        if multiprocessing.current_process().daemon:
            return 1  # it may have no children, as in a SubprocVecEnv: there are others beside it anyway
        if self._asked_for is None and self._retraining.device.type != "cpu":
            return 1  # each would hold a CUDA context in the memory of one device
        return self._asked_for or cores()

    def _pays(self, left: int) -> bool:
        if left < 2 or self._alone or self._most() < 2:
            return False
        if self._asked_for is not None or self._workers:
            return True
        spent = sum(self._here)
        if len(self._here) < 2 and spent < _START_SECONDS:
            return False  # the first one takes longer than the others, and tells nothing of them
        # What was spent counts as well: a search that asks for little at a time needs workers, too.
        return (spent + left * min(self._here)) * (1 - 1 / self._most()) > _START_SECONDS

    def _measured_here(self, seconds: float, left: int) -> None:
        if left:
            self._here.append(seconds)

    def _start(self) -> "_Process":
        try:
            if not self._checked:
                check_main(self._retraining)
                self._checked = True
            return _Process(self._retraining)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise StartError(
                f"the task cannot be sent to worker processes ({error}); define its network and data at the top of a "
                "module, or give workers=1"
            ) from error

    def _answered(self) -> "Sequence[_Process]":
        busy = {worker.connection: worker for worker in self._workers if worker.assignment}
        return [busy[connection] for connection in wait(list(busy)) if isinstance(connection, Connection)]


class _Process(Worker):
    """The parent's side of a worker process.

    Attributes:
        connection: To the process; readable when it has answered, and when it has died.
    """

    def __init__(self, retraining: ShortRetraining) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(retraining, retraining.shared_data(), theirs), daemon=True, name=WORKER
        )
        with sigint_blocked():  # until the process ignores it itself
            self._process.start()
        theirs.close()  # so that the connection ends with the process

    @property
    def idle(self) -> bool:
        return self.assignment is None

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, assignment: Assignment, retrain_seed: Seed) -> None:
        self.assignment = assignment
        with contextlib.suppress(OSError):  # it has died since; answer() says so
            self.connection.send((assignment, retrain_seed))

    def answer(self) -> Measured | Failure | None:
        try:
            answer: Measured | Failure = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE)  # it ends by itself, and its exit status tells why
            self.end()
            if self._process.exitcode == UNGUARDED_STATUS:
                raise StartError(UNGUARDED) from None
            return None
        return answer

    def end(self) -> None:
        self.connection.close()
        if self.assignment is not None:
            self._process.terminate()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def refuse_in_worker() -> None:
    """End a worker that imports the script it belongs to and does what that does; the parent says what is wrong."""
    if multiprocessing.current_process().name == WORKER:
        raise SystemExit(UNGUARDED_STATUS)


@contextlib.contextmanager
def sigint_blocked() -> Iterator[None]:
    """Keep Ctrl-C from a process that is started, as long as that does not ignore it itself."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # which would unblock it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(retraining: ShortRetraining, data: Data | None, connection: Connection) -> None:
    """Measure what comes along, until the connection ends, as it does when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if data is not None:
        retraining.adopt(data)
    while True:
        try:
            assignment, retrain_seed = connection.recv()
        except (EOFError, OSError):
            return
        try:
            connection.send(measured(retraining, assignment, retrain_seed))
        except OSError:
            return
