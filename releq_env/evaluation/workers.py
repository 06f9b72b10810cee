"""Handing assignments to workers, wherever those run, and going on without the ones that die."""

import operator
import traceback
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from releq_env.errors import ReLeQError
from releq_env.evaluation.pool import Assignment, Measured
from releq_env.evaluation.retraining import RetrainingEvaluator

_DEATHS = 2  # of workers under one assignment, after which it is not tried again
_FUTILE = 4  # deaths, or two a worker if those are more, after which no more are tried if none has answered


class WorkerError(RuntimeError):
    """An exception in a worker; its traceback is the message of its cause."""


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
    def begin(self, assignment: Assignment, retrain_seed: int) -> None:
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

    def __init__(self, retraining: RetrainingEvaluator, workers: int | None = None) -> None:
        self._retraining = retraining
        self._asked_for = workers
        self._workers: list[W] = []
        self._proven = False  # has a worker ever answered?

    def measure(
        self, assignments: Iterable[Assignment], retrain_seed: int
    ) -> Generator[tuple[Assignment, Measured], None, None]:
        """Yield every assignment with its accuracy and seconds, in the order in which they finish.

        An assignment whose worker dies is tried once more, by another worker.

        Raises:
            WorkerError: If measuring raises in a worker.
            ReLeQError: After all others are measured, if an assignment's second worker died, too; at
                once, if workers die and none ever answers.
        """
        queue = Queue(assignments)
        while len(queue) and not self._pays(len(queue)):
            assignment = queue.take()
            if assignment is not None:
                result = self._retraining.measure(assignment, retrain_seed)
                self._measured_here(result[1], left=len(queue))
                yield assignment, result
        if len(queue):
            yield from self._measure(queue, retrain_seed)

    def close(self) -> None:
        """End the workers. They start again at the next use."""
        self._dismiss(list(self._workers))

    def _measure(self, queue: "Queue", retrain_seed: int) -> Generator[tuple[Assignment, Measured], None, None]:
        """Measure what waits, by workers."""
        if any(worker.assignment for worker in self._workers):  # their answers would be taken for ours
            raise ReLeQError("these workers are still measuring; let that evaluate_many end before another begins")
        try:
            while self._occupy(queue, retrain_seed):
                for worker in self._answered():
                    assignment = worker.assignment
                    assert assignment is not None
                    received = worker.receive()
                    if received is not None:
                        self._proven = True
                        yield assignment, received
                    else:
                        self._workers.remove(worker)
                        queue.died(assignment)
                        if not self._proven and queue.deaths >= max(_FUTILE, 2 * self._most()):
                            raise ReLeQError(
                                f"{queue.deaths} workers died and none has measured anything; stderr may say why. "
                                "Is the network defined in a notebook? Move it to a module, or give workers=1"
                            )
        finally:
            self._dismiss([worker for worker in self._workers if worker.assignment])  # on errors and Ctrl-C
        if queue.lost:
            raise ReLeQError(
                f"two workers died measuring {queue.lost[0]} ({len(queue.lost)} such in all): killed, out of memory, "
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

    def _occupy(self, queue: "Queue", retrain_seed: int) -> bool:
        """Give idle workers something to do, starting those that are missing; return whether to go on."""
        if len(queue):
            self._dismiss([worker for worker in self._workers if worker.idle and not worker.alive])
            free = sum(worker.assignment is None for worker in self._workers)
            for _ in range(min(self._most() - len(self._workers), len(queue) - free)):
                self._workers.append(self._start())
        for worker in [worker for worker in self._workers if worker.idle]:
            assignment = queue.take()
            if assignment is None:
                break
            worker.begin(assignment, retrain_seed)
        return len(queue) > 0 or any(worker.assignment for worker in self._workers)

    def _dismiss(self, workers: Sequence[W]) -> None:
        for worker in workers:  # all first: interrupted while they end, none is left among those to be used
            self._workers.remove(worker)
        for worker in workers:
            worker.end()


class Queue:
    """Assignments that wait for a worker: new ones first, then those whose worker has died."""

    def __init__(self, assignments: Iterable[Assignment]) -> None:
        self._new = iter(assignments)
        if not operator.length_hint(self._new):
            self._new = iter(list(self._new))
        self._again: deque[Assignment] = deque()
        self._deaths: Counter[Assignment] = Counter()

    def __len__(self) -> int:
        """Return how many there are at most: some may turn out to need no measuring."""
        return operator.length_hint(self._new) + len(self._again)

    @property
    def deaths(self) -> int:
        """How many workers have died."""
        return self._deaths.total()

    @property
    def lost(self) -> list[Assignment]:
        """Those that are not tried again."""
        return [assignment for assignment, count in self._deaths.items() if count >= _DEATHS]

    def take(self) -> Assignment | None:
        """Return the next one, if there is any."""
        assignment = next(self._new, None)
        if assignment is None and self._again:
            return self._again.popleft()
        return assignment

    def died(self, assignment: Assignment) -> None:
        """Note that a worker died under an assignment."""
        self._deaths[assignment] += 1
        if self._deaths[assignment] < _DEATHS:
            self._again.append(assignment)


def measured(retraining: RetrainingEvaluator, assignment: Assignment, retrain_seed: int) -> Measured | Failure:
    """Measure an assignment, in a worker. Whatever it raises is for the other side to judge."""
    try:
        return retraining.measure(assignment, retrain_seed)
    except ReLeQError as error:
        return Failure(str(error), "", wrong_input=True)
    except Exception as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc(), wrong_input=False)
