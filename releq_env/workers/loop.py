"""Handing assignments to workers, wherever those run, and going on without the ones that die."""

import threading
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from releq_env.errors import ReLeQError
from releq_env.retraining.short import ShortRetraining
from releq_env.seeds import Seed
from releq_env.workers.waiting import Assignment, Measured, Waiting

_DEATHS = 2  # of workers under one assignment, after which it is not tried again
_FUTILE = 4  # deaths, or two a worker if those are more, after which no more are tried if none has answered


class WorkerError(RuntimeError):
    """An exception in a worker; its traceback is the message of its cause."""


class StartError(ReLeQError):
    """Workers cannot be started, or cannot import what they need; it could be measured without them."""


@dataclass(frozen=True)
class Failure:
    """An exception in a worker, in words: not every exception can be sent."""

    message: str
    details: str
    wrong_input: bool


class Worker(ABC):
    """The near side of a worker.

    Attributes:
        assignment: What it is measuring, or `None`.
    """

    assignment: Assignment | None = None

    @property
    @abstractmethod
    def idle(self) -> bool:
        """Whether it can be given an assignment."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it still runs."""

    @abstractmethod
    def begin(self, assignment: Assignment, retrain_seed: Seed) -> None:
        """Have an assignment measured."""

    @abstractmethod
    def answer(self) -> Measured | Failure | None:
        """Return what `measured` has returned in the worker, or `None` if that has died."""

    @abstractmethod
    def end(self) -> None:
        """End it, politely if it is idle."""

    def receive(self) -> Measured | None:
        """Return accuracy and seconds, or `None` if the worker has died.

        Raises:
            WorkerError: If measuring raised in the worker.
        """
        assignment = self.assignment
        answer = self.answer()
        self.assignment = None  # only now: interrupted before, it may have an answer that nobody waits for
        if not isinstance(answer, Failure):
            return answer
        if answer.wrong_input:
            raise ReLeQError(answer.message)
        raise WorkerError(f"measuring {assignment} failed in a worker: {answer.message}") from RuntimeError(
            answer.details
        )


W = TypeVar("W", bound=Worker)


class WorkerPool(ABC, Generic[W]):
    """Workers that retrain assignments. They start when they are needed, and stay.

    Args:
        retraining: What every worker computes.
        workers: How many, or `None` for what suits the machines.
    """

    def __init__(self, retraining: ShortRetraining, workers: int | None = None) -> None:
        self._retraining = retraining
        self._asked_for = workers
        self._workers: list[W] = []
        self._proven = False  # has a worker ever answered?
        self._measuring = threading.Lock()  # held while workers have assignments

    def measure(self, waiting: Waiting, retrain_seed: Seed) -> Generator[tuple[Assignment, Measured], None, None]:
        """Yield what waits with its accuracy and seconds, in the order in which it finishes.

        An assignment whose worker dies is tried once more, by another worker.

        Raises:
            WorkerError: If measuring raises in a worker.
            StartError: If workers cannot be started, or die and none ever answers.
            ReLeQError: If the workers are measuring for another caller; after all others are measured, if an
                assignment's second worker died, too.
        """
        while len(waiting) and not self._pays(len(waiting)):
            assignment = waiting.take()
            if assignment is not None:
                result = Measured(*self._retraining.measure(assignment, retrain_seed))
                self._measured_here(result.seconds, left=len(waiting))
                yield assignment, result
        if len(waiting):
            yield from self._measure(waiting, retrain_seed)

    def close(self) -> None:
        """End the workers. They start again at the next use."""
        self._dismiss(list(self._workers))

    def _measure(self, waiting: Waiting, retrain_seed: Seed) -> Generator[tuple[Assignment, Measured], None, None]:
        """Measure what waits, by workers, unless they measure for somebody else: answers would be mixed up."""
        if not self._measuring.acquire(blocking=False):
            raise ReLeQError("these workers are still measuring; let that evaluate_many end before another begins")
        try:
            yield from self._handed_out(waiting, retrain_seed)
        finally:
            self._measuring.release()

    def _handed_out(self, waiting: Waiting, retrain_seed: Seed) -> Generator[tuple[Assignment, Measured], None, None]:
        self._dismiss([worker for worker in self._workers if worker.assignment])  # left by a second Ctrl-C
        deaths: Counter[Assignment] = Counter()
        try:
            while self._occupy(waiting, retrain_seed):
                for worker in self._answered():
                    assignment = worker.assignment
                    assert assignment is not None
                    received = worker.receive()
                    if received is not None:
                        self._proven = True
                        yield assignment, received
                        continue
                    self._workers.remove(worker)
                    deaths[assignment] += 1
                    if deaths[assignment] < _DEATHS:
                        waiting.put_back(assignment)
                    if not self._proven and deaths.total() >= max(_FUTILE, 2 * self._most()):
                        raise StartError(
                            f"{deaths.total()} workers died and none has measured anything; stderr may say why. "
                            "Is the network defined in a notebook? Move it to a module, or give workers=1"
                        )
        except StartError:
            for assignment in [*_lost(deaths), *(worker.assignment for worker in self._workers if worker.assignment)]:
                waiting.put_back(assignment)  # others may want to measure them
            raise
        finally:
            self._dismiss([worker for worker in self._workers if worker.assignment])  # on errors and Ctrl-C
        if lost := _lost(deaths):
            raise ReLeQError(
                f"two workers died measuring {lost[0]} ({len(lost)} such in all): killed, out of memory, "
                "or not able to start? Give fewer workers; what was finished before is kept"
            )

    def _pays(self, left: int) -> bool:
        """Whether that many assignments are better measured by workers than in this process."""
        return left > 1

    def _measured_here(self, seconds: float, left: int) -> None:
        """Note how long an assignment took in this process while others waited."""

    @abstractmethod
    def _most(self) -> int:
        """Return how many workers there may be now."""

    @abstractmethod
    def _start(self) -> W:
        """Start a worker."""

    @abstractmethod
    def _answered(self) -> Sequence[W]:
        """Wait until a worker has answered or died, and return those that have and were measuring."""

    def _occupy(self, waiting: Waiting, retrain_seed: Seed) -> bool:
        """Give idle workers something to do, starting those that are missing; return whether to go on."""
        if len(waiting):
            self._dismiss([worker for worker in self._workers if worker.idle and not worker.alive])
            free = sum(worker.assignment is None for worker in self._workers)
            for _ in range(min(self._most() - len(self._workers), len(waiting) - free)):
                self._workers.append(self._start())
        for worker in [worker for worker in self._workers if worker.idle]:
            assignment = waiting.take()
            if assignment is None:
                break
            worker.begin(assignment, retrain_seed)
        return len(waiting) > 0 or any(worker.assignment for worker in self._workers)

    def _dismiss(self, workers: Sequence[W]) -> None:
        for worker in workers:  # all first: interrupted while they end, none is left among those to be used
            self._workers.remove(worker)
        for worker in workers:
            worker.end()


def _lost(deaths: Counter[Assignment]) -> list[Assignment]:
    """Return those that are not tried again."""
    return [assignment for assignment, count in deaths.items() if count >= _DEATHS]


def measured(retraining: ShortRetraining, assignment: Assignment, retrain_seed: Seed) -> Measured | Failure:
    """Measure an assignment, in a worker. Whatever it raises is for the other side to judge."""
    try:
        return Measured(*retraining.measure(assignment, retrain_seed))
    except ReLeQError as error:
        return Failure(str(error), "", wrong_input=True)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc(), wrong_input=False)
