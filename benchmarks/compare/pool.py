"""Runs side by side: in this process, in processes with one thread each, or on a Ray cluster."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from agents.algorithms.registry import import_all
from benchmarks.compare.run import Job, Row, run
from releq_env.errors import ReLeQError, check_choice


class Outcome(NamedTuple):
    """Of a job.

    Attributes:
        job: The job.
        row: What it has come to, `None` if it failed.
        error: Why it failed.
        refused: Whether the agent says itself, in one line, why it cannot.
    """

    job: Job
    row: Row | None
    error: str = ""
    refused: bool = False


class Pool(Protocol):
    """Does jobs.

    Attributes:
        capacity: How many it is given at once.
    """

    capacity: int

    def submit(self, job: Job) -> None:
        """Take a job."""
        ...

    def next(self) -> list[Outcome]:
        """Return finished ones, waiting for one at least."""
        ...

    def close(self) -> None:
        """End what is under way."""
        ...


def attempt(job: Job) -> Outcome:
    """Do a job; whatever goes wrong is told, and the others go on."""
    try:
        return Outcome(job, run(job))
    except ReLeQError as error:
        return Outcome(job, None, str(error), refused=True)
    except Exception as error:  # an agent may raise anything
        return Outcome(job, None, " ".join(f"{type(error).__name__}: {error}".split()))


class Here:
    """One job after the other, in this process."""

    capacity = 1

    def __init__(self) -> None:
        self._job: Job | None = None

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._job = job

    def next(self) -> list[Outcome]:
        """Do it."""
        job, self._job = self._job, None
        return [] if job is None else [attempt(job)]

    def close(self) -> None:
        """Nothing is held."""


class _Futures:
    """What processes and Ray have in common.

    Args:
        capacity: How many jobs are given at once.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._jobs: dict[Any, Job] = {}

    def next(self) -> list[Outcome]:
        """Return finished ones, waiting for one at least."""
        outcomes = []
        for future in self._finished():
            job = self._jobs.pop(future)
            try:
                outcomes.append(self._result(future))
            except Exception as error:  # the worker is gone
                outcomes.append(Outcome(job, None, f"its process has ended ({type(error).__name__})"))
                self._broken()
        return outcomes

    def _finished(self) -> Sequence[Any]:
        raise NotImplementedError

    def _result(self, future: Any) -> Outcome:
        raise NotImplementedError

    def _broken(self) -> None:
        """Make it usable again."""


class Processes(_Futures):
    """Processes (spawn), which end with this one, however it ends.

    Args:
        workers: How many.
        modules: Imported in each, for agents of one's own.
    """

    def __init__(self, workers: int, modules: Sequence[str]) -> None:
        super().__init__(workers)
        self._modules = tuple(modules)
        self._start()

    def _start(self) -> None:
        self._executor = concurrent.futures.ProcessPoolExecutor(
            self.capacity, multiprocessing.get_context("spawn"), _begin, (self._modules,)
        )

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._jobs[self._executor.submit(attempt, job)] = job

    def close(self) -> None:
        """End the processes, what is under way included."""
        if not self._jobs:
            self._executor.shutdown()
            return
        processes = list((getattr(self._executor, "_processes", None) or {}).values())
        self._executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()

    def _finished(self) -> Sequence[Any]:
        done = concurrent.futures.wait(self._jobs, return_when=concurrent.futures.FIRST_COMPLETED).done
        return [future for future in self._jobs if future in done]

    def _result(self, future: Any) -> Outcome:
        return future.result()

    def _broken(self) -> None:
        if not self._jobs:  # all that were given to the broken one have been taken back
            self._start()


class Ray(_Futures):
    """Tasks of a Ray cluster, of one core each; one of this machine unless there is another.

    Args:
        workers: How many at once; `None` is one a core of the cluster.
        modules: Imported before each, for agents of one's own.
    """

    def __init__(self, workers: int | None, modules: Sequence[str]) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise ReLeQError('--parallel ray needs Ray; pip install "releq_env[distributed]"') from error
        self._ray: Any = ray
        ray.init(log_to_driver=False, ignore_reinit_error=True, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}})
        super().__init__(workers or int(ray.cluster_resources().get("CPU", 1)))
        self._attempt = ray.remote(num_cpus=1, max_retries=0)(_attempt_with)
        self._modules = tuple(modules)

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._jobs[self._attempt.remote(job, self._modules)] = job

    def close(self) -> None:
        """End what is under way."""
        for reference in self._jobs:
            self._ray.cancel(reference, force=True)
        self._ray.shutdown()

    def _finished(self) -> Sequence[Any]:
        return self._ray.wait(list(self._jobs), num_returns=1)[0]

    def _result(self, future: Any) -> Outcome:
        return self._ray.get(future)


POOLS = ("processes", "ray")


def make_pool(parallel: str, workers: int | None, modules: Sequence[str], cores: Callable[[], int]) -> Pool:
    """Return what does the jobs.

    Args:
        parallel: Out of `POOLS`.
        workers: How many at once; `None` is one a core.
        modules: Imported by workers, for agents of one's own.
        cores: Counts them.

    Raises:
        ReLeQError: If there is no such way, or Ray is missing.
    """
    check_choice("--parallel", parallel, POOLS)
    if parallel == "ray":
        return Ray(workers, modules)
    count = workers or cores()
    return Here() if count == 1 else Processes(count, modules)


def _attempt_with(job: Job, modules: Sequence[str]) -> Outcome:
    import_all(modules)
    return attempt(job)


def _begin(modules: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to end
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import_all(modules)


def _end_with(parent: Any) -> None:
    parent.join()  # a process that was killed tells its children nothing
    os._exit(1)
