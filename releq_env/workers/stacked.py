"""Several retrainings at once, stacked into one model: for a GPU, which one small network leaves idle."""

import copy
import dataclasses
import gc
import os
import time
from collections.abc import Generator

import torch
from torch import Tensor

from releq_env.errors import ReLeQError, check_whole
from releq_env.quantization import QUANTIZERS
from releq_env.retraining.data import Data
from releq_env.retraining.short import INFERENCE_BATCH, ShortRetraining
from releq_env.seeds import Seed
from releq_env.workers.stack import measure_stack
from releq_env.workers.waiting import Assignment, Measured, Waiting

_MOST = {"cpu": 8, "cuda": 128}  # more make a result wait longer, and the hardware hardly busier
_SHARE = 0.8  # of the free memory that is used: what is allocated has gaps, and others use the device
_CPU_SHARE = 0.5


class StackedPool:
    """Retrains up to K assignments as one stacked model, on the same batches.

    An accuracy is that of `ShortRetraining.measure` up to rounding: sums are taken in another order,
    and batch normalisation is calibrated in float32 and not folded. Rounding can depend on K,
    because libraries choose their algorithms by the shapes they meet, and on a GPU K depends on the
    free memory; after many steps a difference in the last bit may become one of several images.

    Args:
        retraining: What is done with each assignment.
        most: The largest K. `None`: as many as fit into memory, up to a number from which on a device
            is busy.

    Raises:
        ReLeQError: If `most` is not accepted.
    """

    def __init__(self, retraining: ShortRetraining, most: int | None = None) -> None:
        if most is not None:
            check_whole("most", most, 1, ", or None for what fits")
        self._retraining = retraining
        self._asked_for = most
        self._most: int | None = None

    @property
    def size(self) -> int:
        """The largest K that is used now."""
        if self._most is None:
            self._most = self._fitting()
        return self._most

    def measure(self, waiting: Waiting, retrain_seed: Seed) -> Generator[tuple[Assignment, Measured], None, None]:
        """Yield what waits with its accuracy and seconds, a stack at a time.

        The seconds of an assignment are its share of the stack's. A stack that does not fit into the
        GPU's memory is taken in halves, and so are those that follow.

        Raises:
            ReLeQError: If an assignment is not accepted, the network cannot be stacked, or the memory
                is too small for one.
        """
        data = self._retraining.load()
        while chunk := self._taken(waiting):
            start = time.perf_counter()
            accuracies = self._measured(chunk, retrain_seed, data)
            if accuracies is None:
                for assignment in chunk:
                    waiting.put_back(assignment)
                self._most = len(chunk) // 2
                continue
            seconds = (time.perf_counter() - start) / len(chunk)
            for assignment, accuracy in zip(chunk, accuracies, strict=True):
                yield assignment, Measured(accuracy, seconds)

    def close(self) -> None:
        """Give back the GPU's memory; how many fit is found out anew at the next use."""
        self._most = None
        self._release()

    def _taken(self, waiting: Waiting) -> list[Assignment]:
        """Take the next stack. Stacks are of about equal size: the time of one hardly depends on it."""
        if not len(waiting):
            return []
        stacks = -(-len(waiting) // self.size)
        chunk: list[Assignment] = []
        for _ in range(-(-len(waiting) // stacks)):
            if (assignment := waiting.take()) is not None:
                chunk.append(assignment)
        return chunk

    def _measured(self, chunk: list[Assignment], retrain_seed: Seed, data: Data) -> list[float] | None:
        """Return the accuracies of a stack, or `None` if it does not fit."""
        try:
            return measure_stack(self._retraining, chunk, retrain_seed, data)
        except torch.OutOfMemoryError as error:
            if len(chunk) == 1:
                raise ReLeQError(
                    f"{self._retraining.device} has too little free memory for one evaluation; "
                    "end what else uses it, or use another device="
                ) from error
        self._release()  # only here are the tensors free: the exception held them
        return None

    def _fitting(self) -> int:
        """Return how many candidates fit into memory."""
        most = self._asked_for or _MOST[self._retraining.device.type]
        if most == 1:
            return 1
        try:
            return max(min(most, self._room() // self._footprint()), 1)
        except torch.OutOfMemoryError:
            return 1

    def _footprint(self) -> int:
        """Return the bytes that one more candidate takes, measured on one training step and one validation batch."""
        if self._retraining.device.type == "cpu":
            saved: dict[int, int] = {}

            def note(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                saved[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                self._try(1)
            return max(2 * sum(saved.values()), 1)  # twice: gradients, and Adam's two moments
        self._try(1)  # what libraries allocate once and keep
        return max(self._peak(2) - self._peak(1), 1)

    def _peak(self, count: int) -> int:
        device = self._retraining.device
        torch.cuda.reset_peak_memory_stats(device)
        self._try(count)
        return torch.cuda.max_memory_allocated(device)

    def _try(self, count: int) -> None:
        retraining = copy.copy(self._retraining)
        retraining.retrain_images = min(retraining.retrain_images, retraining.task.retraining.batch_size)
        retraining.task = dataclasses.replace(retraining.task, metric=_no_metric)  # it may need more than a batch
        data = self._retraining.load()
        data = dataclasses.replace(
            data,
            validation_inputs=data.validation_inputs[:INFERENCE_BATCH],
            validation_targets=data.validation_targets[:INFERENCE_BATCH],
        )
        smallest = QUANTIZERS[retraining.quantizer].bitwidths[0]
        measure_stack(retraining, [(smallest,) * len(retraining.pretrained.layers)] * count, 0, data)

    def _room(self) -> int:
        """Return the bytes that stacks may take."""
        device = self._retraining.device
        if device.type == "cpu":
            # Of all there is: what is free changes all the time, and K with it would.
            if not hasattr(os, "sysconf"):
                return 2**33
            return int(_CPU_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        self._release()
        return int(_SHARE * torch.cuda.mem_get_info(device)[0])

    def _release(self) -> None:
        if self._retraining.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()


def _no_metric(outputs: Tensor, targets: Tensor) -> float:
    return 0.0
