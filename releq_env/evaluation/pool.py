"""The ways to measure several assignments at once, by name."""

import importlib.util
import pkgutil
from collections.abc import Generator, Iterable
from typing import NamedTuple, Protocol

from releq_env.errors import ReLeQError, check_choice
from releq_env.evaluation.retraining import RetrainingEvaluator

Assignment = tuple[int, ...]
Measured = tuple[float, float]
"""Accuracy and seconds."""


class Pool(Protocol):
    """Measures several assignments at once."""

    def measure(
        self, assignments: Iterable[Assignment], retrain_seed: int
    ) -> Generator[tuple[Assignment, Measured], None, None]:
        """Yield assignments with their accuracy and seconds, in the order in which they finish.

        Args:
            assignments: Each is taken the moment it is begun. `operator.length_hint` of the iterator
                tells how many more there may be.
            retrain_seed: Seeds the retraining.
        """
        ...

    def close(self) -> None:
        """Release what is held; it comes back at the next use. Calling it twice is fine."""
        ...


class _Way(NamedTuple):
    pool: str  # a class that takes a `RetrainingEvaluator`
    has_workers: bool  # and their number, too
    key: str  # in the fingerprint; the same for ways that give the same accuracies


PARALLEL = {
    "processes": _Way("releq_env.evaluation.parallel:ProcessPool", has_workers=True, key="none"),
    "ray": _Way("releq_env.evaluation.ray_pool:RayPool", has_workers=True, key="none"),
    "stacked": _Way("releq_env.evaluation.stacked:StackedRetraining", has_workers=False, key="stacked"),
}


def check_parallel(parallel: str, workers: int | None) -> None:
    """Check the name of a way and a number of workers.

    Raises:
        ReLeQError: If one is not accepted, or Ray is asked for and not installed.
    """
    check_choice("parallel", parallel, PARALLEL)
    if workers is not None and (isinstance(workers, bool) or not hasattr(workers, "__index__") or workers < 1):
        raise ReLeQError(f"workers={workers!r} is not accepted; give a whole number from 1, or None for one a core")
    if parallel == "ray" and importlib.util.find_spec("ray") is None:
        raise ReLeQError('parallel="ray" needs Ray; install it with: pip install "releq_env[distributed]"')


def make_pool(parallel: str, retraining: RetrainingEvaluator, workers: int | None) -> Pool:
    """Return a pool. Only now is what it needs imported."""
    way = PARALLEL[parallel]
    make = pkgutil.resolve_name(way.pool)
    pool: Pool = make(retraining, workers) if way.has_workers else make(retraining)
    return pool
