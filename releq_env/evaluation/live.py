"""Accuracies from retraining, live."""

import functools
import os
from collections.abc import Generator, Sequence

from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo
from releq_env.quantization import QUANTIZERS, with_scales
from releq_env.retraining.short import ShortRetraining, check_arguments
from releq_env.seeds import Seed
from releq_env.tasks import Task, get_task, load_pretrained
from releq_env.workers.waiting import Assignment, Measured, Waiting
from releq_env.workers.ways import PARALLEL, Pool, check_parallel, make_pool


class LiveSource:
    """A `Source` that retrains every assignment for a short while and measures it.

    Args:
        retraining: Measures one assignment.
        parallel: How several are measured at once: `"processes"`, `"ray"` or `"stacked"`.
        workers: How many processes or actors there may be. `None`: one a core (on CUDA an actor a
            device, and no further process), and processes only where they are faster.

    Attributes:
        retraining: As given.
        layers: The quantizable layers, first to last, with the scale factors that the quantizer stores.

    Raises:
        ReLeQError: If an argument is not accepted.
    """

    def __init__(self, retraining: ShortRetraining, parallel: str = "processes", workers: int | None = None) -> None:
        check_way(parallel, workers, retraining.quantizer)
        self.retraining = retraining
        self.layers: tuple[LayerInfo, ...] = with_scales(retraining.pretrained.layers, retraining.quantizer)
        self._parallel = parallel
        self._workers = workers
        self._pool: Pool | None = None
        self._pool_of = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        # A copy in another process has workers of its own, and that may run on another kind of processor.
        return {name: value for name, value in vars(self).items() if name != "fingerprint"} | {"_pool": None}

    @property
    def full_precision_accuracy(self) -> float:
        """Validation accuracy of the pre-trained network, in (0, 1]."""
        return self.retraining.pretrained.accuracy

    @functools.cached_property
    def fingerprint(self) -> dict[str, object] | None:
        """Everything but the bitwidths that an accuracy depends on, JSON-able; `None` if that cannot be told."""
        known = self.retraining.fingerprint
        return None if known is None else known | {"parallel": PARALLEL[self._parallel].key}

    @property
    def retrain_seed(self) -> Seed:
        """Seed of the retraining."""
        return self.retraining.retrain_seed

    def check(self, assignment: Sequence[int]) -> None:
        """Raise `ReLeQError`, in one line, if an assignment cannot be measured."""
        self.retraining.check(assignment)

    def measure(self, waiting: Waiting) -> Generator[tuple[Assignment, Measured], None, None]:
        """Take what waits and yield it with its accuracy, in the order in which it is ready."""
        return self._made_pool().measure(waiting, self.retrain_seed)

    def reseeded(self, retrain_seed: Seed) -> "LiveSource":
        """Return the same with another retraining seed; data and workers are shared. Itself if nothing is retrained."""
        if not self.retraining.retrain_images:
            return self  # nothing is drawn, and all seeds have the same accuracies
        other = LiveSource(self.retraining.reseeded(retrain_seed), self._parallel, self._workers)
        other._pool, other._pool_of = self._made_pool(), self._pool_of
        return other

    def close(self) -> None:
        """End the workers. They start again when they are needed."""
        if self._pool is not None and self._pool_of == os.getpid():
            self._pool.close()

    def _made_pool(self) -> Pool:
        if self._pool is None or self._pool_of != os.getpid():  # forked: those workers are the parent's
            self._pool, self._pool_of = make_pool(self._parallel, self.retraining, self._workers), os.getpid()
        return self._pool


def live_source(
    task: str | Task,
    *,
    quantizer: str = "lsq",
    retrain_images: int | None = None,
    retrain_seed: Seed = 0,
    data_root: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    precision: str = "auto",
    parallel: str = "processes",
    workers: int | None = None,
) -> LiveSource:
    """Return the live source of a task.

    Where its weights are not shipped they are pre-trained now, unless they have been before.

    Args:
        task: A name in `releq_env.tasks.TASKS`, or a task.
        quantizer: A name in `releq_env.quantization.QUANTIZERS`.
        retrain_images: Budget of a retraining in images; 0 is post-training quantization, `None` the task's default.
        retrain_seed: Seeds the order of the images; a tuple is several, whose accuracies are averaged.
        data_root: See `releq_env.paths.data_folder`.
        device: `"cpu"`, `"cuda"`, `"cuda:N"` or `"auto"`.
        precision: `"auto"`, `"fp32"` or `"bf16"`.
        parallel: How several assignments are measured at once; see `LiveSource`.
        workers: In how many processes or actors; see there.

    Raises:
        ReLeQError: If an argument is not accepted, before any training, or the weights are not to be had.
    """
    task = get_task(task)
    check_arguments(quantizer, retrain_images, retrain_seed, device, precision)
    check_way(parallel, workers, quantizer)
    pretrained = load_pretrained(task, data_root)
    retraining = ShortRetraining(
        task, pretrained, quantizer, retrain_images, retrain_seed, data_root, device, precision
    )
    return LiveSource(retraining, parallel, workers)


def check_way(parallel: str, workers: int | None, quantizer: str) -> None:
    """Raise `ReLeQError` if a way to measure several at once is not accepted, or not for a quantizer."""
    check_parallel(parallel, workers)
    if parallel == "stacked" and QUANTIZERS[quantizer].stacked is None:
        able = [name for name, entry in QUANTIZERS.items() if entry.stacked is not None]
        raise ReLeQError(
            f'the quantizer {quantizer!r} cannot be stacked; use parallel="processes", or one of: {", ".join(able)}'
        )
