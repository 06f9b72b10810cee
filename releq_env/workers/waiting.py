"""What is waiting to be measured."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

Assignment = tuple[int, ...]
"""One bitwidth a layer."""


class Measured(NamedTuple):
    """What measuring an assignment gives.

    Attributes:
        accuracy: On validation, in [0, 1].
        seconds: How long it took.
    """

    accuracy: float
    seconds: float


class Waiting:
    """Assignments that wait to be measured: new ones first, then those that are to be tried again.

    Args:
        assignments: What is to be measured.
        found: Asked right before an assignment is taken; `True` if it needs no measuring any more, as when
            another run has measured it meanwhile.
    """

    def __init__(
        self, assignments: Iterable[Assignment], found: Callable[[Assignment], bool] = lambda assignment: False
    ) -> None:
        self._new = deque(assignments)
        self._again: deque[Assignment] = deque()
        self._found = found

    def __len__(self) -> int:
        """Return how many are left at most: some may turn out to need no measuring."""
        return len(self._new) + len(self._again)

    def take(self) -> Assignment | None:
        """Return the next one, or `None` if nothing is left."""
        while self._new:
            assignment = self._new.popleft()
            if not self._found(assignment):
                return assignment
        return self._again.popleft() if self._again else None

    def put_back(self, assignment: Assignment) -> None:
        """Take back one whose measuring came to nothing; it is the last to be tried again."""
        self._again.append(assignment)
