"""The contract between the decision process and whatever measures an assignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Evaluation:
    """What was measured of an assignment.

    Attributes:
        bitwidths: The assignment, one bitwidth a layer.
        accuracy: Validation accuracy after short retraining, in [0, 1].
        relative_accuracy: `accuracy` / full-precision validation accuracy.
        seconds: How long the retraining and measuring took when it was done.
    """

    bitwidths: tuple[int, ...]
    accuracy: float
    relative_accuracy: float
    seconds: float


@runtime_checkable
class Evaluator(Protocol):
    """Measures assignments. An accuracy depends on the assignment alone, so it can be remembered.

    Attributes:
        distinct_evaluations: Assignments asked for at least once: the unit of cost of a search.
        retrained: How many of them were retrained, not remembered.
    """

    @property
    def distinct_evaluations(self) -> int: ...

    @property
    def retrained(self) -> int: ...

    def evaluate(self, bitwidths: Sequence[int]) -> Evaluation:
        """Measure one assignment."""
        ...

    def evaluate_many(self, assignments: Sequence[Sequence[int]]) -> list[Evaluation]:
        """Measure several assignments; results in the order in which they were given."""
        ...

    def close(self) -> None:
        """Release what is held. Calling it twice is fine."""
        ...
