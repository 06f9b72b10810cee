"""The ways to measure several assignments at once, by name."""

import importlib.util
import pkgutil
from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from releq_env.errors import ReLeQError, check_choice, check_whole
from releq_env.seeds import Seed
from releq_env.workers.waiting import Assignment, Measured, Waiting

if TYPE_CHECKING:
    from releq_env.retraining.short import ShortRetraining


class Pool(Protocol):
    """Measures several assignments at once."""

    def measure(self, waiting: Waiting, retrain_seed: Seed) -> Generator[tuple[Assignment, Measured], None, None]:
        """Yield what waits with its accuracy and seconds, in the order in which it finishes.

        Args:
            waiting: Each assignment is taken the moment it is begun.
            retrain_seed: Seeds the retraining.
        """
        ...

    def close(self) -> None:
        """Release what is held; it comes back at the next use. Calling it twice is fine."""
        ...


class Way(NamedTuple):
    """One entry of `PARALLEL`.

    Attributes:
        pool: Where a class is, `"module:name"`, that takes a `ShortRetraining` and is a `Pool`.
        has_workers: Whether it takes their number, too.
        key: What stands in the fingerprint; the same for ways that give the same accuracies.
    """

    pool: str
    has_workers: bool
    key: str


PARALLEL = {
    "processes": Way("releq_env.workers.processes:ProcessPool", has_workers=True, key="none"),
    "ray": Way("releq_env.workers.ray_pool:RayPool", has_workers=True, key="none"),
    "stacked": Way("releq_env.workers.stacked:StackedPool", has_workers=False, key="stacked"),
}


def check_parallel(parallel: str, workers: int | None) -> None:
    """Check the name of a way and a number of workers.

    Raises:
        ReLeQError: If one is not accepted, or Ray is asked for and not installed.
    """
    check_choice("parallel", parallel, PARALLEL)
    if workers is not None:
        check_whole("workers", workers, 1, ", or None for one a core")
    if parallel == "ray" and importlib.util.find_spec("ray") is None:
        raise ReLeQError('parallel="ray" needs Ray; install it with: pip install "releq_env[distributed]"')


def make_pool(parallel: str, retraining: "ShortRetraining", workers: int | None) -> Pool:
    """Return a pool. Only now is what it needs imported."""
    way = PARALLEL[parallel]
    make = pkgutil.resolve_name(way.pool)
    pool: Pool = make(retraining, workers) if way.has_workers else make(retraining)
    return pool
