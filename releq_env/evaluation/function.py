"""Accuracies from a Python function."""

import time
from collections.abc import Callable, Generator
from numbers import Real

from releq_env.errors import ReLeQError, short
from releq_env.seeds import Seed
from releq_env.workers.waiting import Assignment, Measured, Waiting


class FunctionSource:
    """A source whose accuracies a function returns.

    Args:
        accuracy: Assignment -> accuracy in [0, 1]. Always the same for the same assignment: it is asked once.
        full_precision_accuracy: What an accuracy is divided by, in (0, 1].
        num_layers: How long an assignment is.
    """

    fingerprint = None
    retrain_seed = 0

    def __init__(
        self, accuracy: Callable[[Assignment], float], full_precision_accuracy: float, num_layers: int
    ) -> None:
        self._accuracy = accuracy
        self._full_precision_accuracy = full_precision_accuracy
        self._num_layers = num_layers

    @property
    def full_precision_accuracy(self) -> float:
        """As given."""
        return self._full_precision_accuracy

    def check(self, assignment: Assignment) -> None:
        """Raise `ReLeQError` if the assignment has another length."""
        if len(assignment) != self._num_layers:
            accepted = f"give {self._num_layers} bitwidths, one a layer"
            raise ReLeQError(f"the assignment {short(assignment)} does not fit; {accepted}")

    def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
        """Call the function, one assignment after the other.

        Raises:
            ReLeQError: If it returns something else than a number in [0, 1].
        """
        while (assignment := waiting.take()) is not None:
            start = time.perf_counter()
            accuracy = self._accuracy(assignment)
            if isinstance(accuracy, bool) or not isinstance(accuracy, Real) or not 0.0 <= accuracy <= 1.0:
                raise ReLeQError(
                    f"the accuracy function returned {accuracy!r} for {assignment}; return a number in [0, 1]"
                )
            yield assignment, Measured(float(accuracy), time.perf_counter() - start)

    def reseeded(self, retrain_seed: Seed) -> "FunctionSource":
        """Return itself: nothing is retrained."""
        return self

    def close(self) -> None:
        """Nothing is held."""
