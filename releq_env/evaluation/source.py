"""Where accuracies come from."""

from collections.abc import Generator, Mapping
from typing import Protocol, runtime_checkable

from releq_env.seeds import Seed
from releq_env.workers.waiting import Assignment, Measured, Waiting


@runtime_checkable
class Source(Protocol):
    """Knows the accuracy of assignments, or finds it out. Counts nothing and remembers nothing."""

    @property
    def full_precision_accuracy(self) -> float:
        """Validation accuracy of the network before quantizing, in (0, 1]."""
        ...

    @property
    def fingerprint(self) -> Mapping[str, object] | None:
        """Everything but the bitwidths that an accuracy depends on, JSON-able.

        `None` where that cannot be told: accuracies are then remembered in this process only.
        """
        ...

    @property
    def retrain_seed(self) -> Seed:
        """Seed of the retraining; 0 where nothing is retrained."""
        ...

    def check(self, assignment: Assignment) -> None:
        """Raise `ReLeQError`, in one line, if an assignment cannot be measured: of another length, say."""
        ...

    def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
        """Take what waits and yield it with its accuracy, in the order in which it is ready."""
        ...

    def reseeded(self, retrain_seed: Seed) -> "Source":
        """Return the same with another retraining seed; itself where there is none."""
        ...

    def close(self) -> None:
        """Release what is held; it comes back at the next use. Calling it twice is fine."""
        ...
