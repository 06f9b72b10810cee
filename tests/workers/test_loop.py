"""Handing out assignments, with workers that are objects in this process."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from releq_env.errors import ReLeQError
from releq_env.workers.loop import Failure, Worker, WorkerPool
from releq_env.workers.waiting import Assignment, Measured, Waiting


class FakeWorker(Worker):
    """Answers in order, as a pipe does: with the bits and the seed. Dies of assignments in `deadly`."""

    def __init__(self, deadly: set[Assignment]) -> None:
        self._pipe: deque[Measured] = deque()
        self._deadly = deadly
        self.ended = False

    @property
    def idle(self) -> bool:
        return self.assignment is None

    @property
    def alive(self) -> bool:
        return not self.ended

    def begin(self, assignment: Assignment, retrain_seed: int) -> None:
        self.assignment = assignment
        self._pipe.append(Measured(float(assignment[0]), float(retrain_seed)))

    def answer(self) -> Measured | Failure | None:
        return None if self.assignment in self._deadly else self._pipe.popleft()

    def end(self) -> None:
        self.ended = True


class FakePool(WorkerPool[FakeWorker]):
    """Three workers."""

    def __init__(self, deadly: Sequence[Assignment] = ()) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.started: list[FakeWorker] = []
        self._deadly = set(deadly)

    def _most(self) -> int:
        return 3

    def _start(self) -> FakeWorker:
        self.started.append(FakeWorker(self._deadly))
        return self.started[-1]

    def _answered(self) -> list[FakeWorker]:
        return [worker for worker in self._workers if worker.assignment]


def assignments(count: int) -> list[Assignment]:
    return [(bits,) for bits in range(count)]


def expected(count: int, retrain_seed: int) -> list[tuple[Assignment, Measured]]:
    return [((bits,), Measured(float(bits), float(retrain_seed))) for bits in range(count)]


def test_every_assignment_gets_its_own_result() -> None:
    pool = FakePool()
    assert sorted(pool.measure(Waiting(assignments(10)), 1)) == expected(10, 1)
    assert sorted(pool.measure(Waiting(assignments(4)), 2)) == expected(4, 2)
    assert len(pool.started) == 3


@pytest.mark.parametrize("method", ["begin", "answer", "end"])
def test_an_answer_that_ctrl_c_kept_from_being_read_is_nobody_elses(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    pool = FakePool()
    results = pool.measure(Waiting(assignments(10)), 1)
    next(results)
    with monkeypatch.context() as patch:
        patch.setattr(FakeWorker, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            if method == "end":
                results.close()
            list(results)
    assert sorted(pool.measure(Waiting(assignments(7)), 2)) == expected(7, 2)


def test_workers_that_are_measuring_are_not_asked_for_something_else() -> None:
    pool = FakePool()
    results = pool.measure(Waiting(assignments(10)), 1)
    first = next(results)
    with pytest.raises(ReLeQError, match="these workers are still measuring"):
        list(pool.measure(Waiting(assignments(10)), 2))
    assert sorted([first, *results]) == expected(10, 1)


def test_another_call_may_not_begin_between_two_answers() -> None:
    """At that moment no worker has an assignment."""
    pool = FakePool()
    results = pool.measure(Waiting(assignments(5)), 1)
    first = [next(results) for _ in range(3)]
    assert not any(worker.assignment for worker in pool.started)
    for begin in (list, lambda other: ThreadPoolExecutor(1).submit(list, other).result()):
        with pytest.raises(ReLeQError, match="these workers are still measuring"):
            begin(pool.measure(Waiting(assignments(10)), 2))
    assert sorted([*first, *results]) == expected(5, 1)
    assert sorted(pool.measure(Waiting(assignments(4)), 2)) == expected(4, 2)


def test_workers_that_all_die_are_not_started_over_and_over() -> None:
    pool = FakePool(deadly=assignments(100))
    with pytest.raises(ReLeQError, match=r"6 workers died and none has measured .*, or give workers=1") as raised:
        list(pool.measure(Waiting(assignments(100)), 1))
    assert "\n" not in str(raised.value)
    assert len(pool.started) <= 6


def test_as_soon_as_one_answers_all_are_tried() -> None:
    for deadly in ([(5,), (50,)], assignments(100)[1:]):
        done: list[Any] = []
        message = rf"two workers died measuring \({deadly[0][0]},\) \({len(deadly)} such in all\)"
        with pytest.raises(ReLeQError, match=message):
            done.extend(FakePool(deadly).measure(Waiting(assignments(100)), 1))
        assert sorted(done) == [result for result in expected(100, 1) if result[0] not in deadly]


def test_what_turns_out_to_be_found_is_not_measured() -> None:
    pool = FakePool()
    waiting = Waiting(assignments(10), found=lambda assignment: assignment[0] % 2 == 0)
    assert sorted(pool.measure(waiting, 1)) == expected(10, 1)[1::2]
    assert len(waiting) == 0
