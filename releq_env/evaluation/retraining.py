"""The hot path: copy the pre-trained network, quantize it, retrain it briefly, measure it."""

import contextlib
import copy
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from releq_env.devices import resolve_device, resolve_precision
from releq_env.errors import ReLeQError
from releq_env.evaluation.acceleration import accelerate, channels_last
from releq_env.evaluation.normalization import fold, recalibrate
from releq_env.paths import data_folder
from releq_env.quantization import check_bitwidths, quantize
from releq_env.tasks.pretrained import Pretrained
from releq_env.tasks.task import Task

ENGINE_VERSION = 2
"""Raised whenever the same inputs would give another accuracy, so that caches are not mixed."""

INFERENCE_BATCH = 500
CALIBRATION_IMAGES = 1000
_LARGEST = 2**63  # what torch takes as a seed


@dataclass(frozen=True, eq=False)
class Data:
    """A task's images in memory, normalised, in the layout and type that the network is run in.

    Attributes:
        images: Training images, shape `(N, C, H, W)`.
        labels: int64, shape `(N,)`.
        validation_images: Likewise.
        validation_labels: Likewise.
    """

    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor


_RESIDENT: "WeakValueDictionary[object, Data]" = WeakValueDictionary()
"""Data in memory, shared by the evaluators of a process for as long as one of them lives."""


class RetrainingEvaluator:
    """Measures the validation accuracy of an assignment after a short retraining.

    Every call starts from a fresh copy of the pre-trained network. Dropout is off and batch
    normalisation is frozen (its statistics re-estimated with quantized weights first) and folded. Every
    assignment sees the same batches in the same order (common random numbers), so an accuracy is a
    function of the assignment. Data load at the first call.

    Args:
        task: Network, data and recipes.
        pretrained: The task's full-precision network.
        quantizer: A name in `releq_env.quantization.QUANTIZERS`.
        retrain_images: Budget in images; 0 is post-training quantization, `None` the task's default.
        retrain_seed: Seeds the order of the images.
        data_root: See `releq_env.paths.data_folder`.
        device: `"cpu"`, `"cuda"`, `"cuda:N"` or `"auto"`.
        precision: `"auto"`, `"fp32"` or `"bf16"`.

    Raises:
        ReLeQError: If an argument is not accepted.
    """

    def __init__(
        self,
        task: Task,
        pretrained: Pretrained,
        quantizer: str = "lsq",
        retrain_images: int | None = None,
        retrain_seed: int = 0,
        data_root: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        precision: str = "auto",
    ) -> None:
        check_bitwidths(None, quantizer)
        self.task = task
        self.pretrained = pretrained
        self.quantizer = quantizer
        self.retrain_images = _whole(
            "retrain_images", task.retraining.images if retrain_images is None else retrain_images
        )
        self.retrain_seed = _whole("retrain_seed", retrain_seed)
        self.data_root = data_root
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self._data: Data | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_data": None}  # a copy in another process loads its own

    @property
    def fingerprint(self) -> dict[str, object]:
        """Everything but the bitwidths that an accuracy depends on, JSON-able."""
        recipe = self.task.retraining
        return {
            "engine": ENGINE_VERSION,
            "torch": torch.__version__.split("+")[0],
            "network": [self.task.network_name, self._description],
            "weights": self.pretrained.sha256,
            "data": self.task.dataset.fingerprint,
            "retraining": [recipe.batch_size, recipe.learning_rates[self.quantizer]],
            "quantizer": self.quantizer,
            "retrain_images": self.retrain_images,
            "retrain_seed": self.retrain_seed,
            "precision": str(self.dtype),
            "device": self.device.type,
            "threads": 1,
            "parallel": "none",
        }

    @functools.cached_property
    def _description(self) -> str:
        return str(self.pretrained.network)  # takes longer than looking an evaluation up

    def reseeded(self, retrain_seed: int) -> "RetrainingEvaluator":
        """Return the same with another retraining seed; the data are shared."""
        other = copy.copy(self)
        other.retrain_seed = retrain_seed
        return other

    def measure(self, bitwidths: Sequence[int], retrain_seed: int | None = None) -> tuple[float, float]:
        """Retrain and measure one assignment.

        Args:
            bitwidths: One bitwidth a layer.
            retrain_seed: Another seed than the evaluator's own.

        Returns:
            Validation accuracy in [0, 1], and the seconds it took. Diverged retraining gives a low
            accuracy, not an error.
        """
        data = self.load()
        with one_thread():
            return self._measure(bitwidths, self.retrain_seed if retrain_seed is None else retrain_seed, data)

    def _measure(self, bitwidths: Sequence[int], retrain_seed: int, data: Data) -> tuple[float, float]:
        start = time.perf_counter()
        names = [layer.name for layer in self.pretrained.layers]
        network = quantize(self.pretrained.network, names, bitwidths, self.quantizer)
        network = network.to(self.device).to(memory_format=torch.channels_last)
        network.eval()
        if self.device.type == "cpu":
            accelerate(network)
        with self.autocast():
            recalibrate(network, map(channels_last, data.images[:CALIBRATION_IMAGES].split(INFERENCE_BATCH)))
        fold(network)
        if self.retrain_images:
            self._retrain(network, data, retrain_seed)
        accuracy = self._accuracy(network, data)
        return accuracy, time.perf_counter() - start

    def load(self) -> Data:
        """Load the data, once. Raises `ReLeQError` if they are not to be had."""
        if self._data is None:
            key = (self.task.dataset, str(data_folder(self.data_root)), self.device, self.dtype)
            self._data = _RESIDENT.get(key) or self._read()
            _RESIDENT[key] = self._data
        return self._data

    def shared_data(self) -> Data | None:
        """Return the data in memory that other processes can use without a copy.

        `None` where there is no such memory, or too little of it: each process then loads its own.
        """
        data = self.load()
        if self.device.type != "cpu":
            return None
        try:
            for tensor in vars(data).values():
                tensor.share_memory_()
        except RuntimeError:
            return None
        return data

    def adopt(self, data: Data) -> None:
        """Use data that another process has loaded."""
        self._data = data

    def _read(self) -> Data:
        training, validation = self.task.dataset.load(self.data_root)
        return Data(
            self._resident(training.images),
            training.labels.to(self.device),
            self._resident(validation.images),
            validation.labels.to(self.device),
        )

    def _resident(self, images: Tensor) -> Tensor:
        # In pieces: the float32 intermediate of all images would be the largest thing in memory.
        pieces = [self.task.dataset.normalize(piece).to(self.dtype) for piece in images.split(10_000)]
        return torch.cat(pieces).to(self.device).contiguous(memory_format=torch.channels_last)

    def _retrain(self, network: nn.Module, data: Data, retrain_seed: int) -> None:
        def loss(images: Tensor, labels: Tensor) -> Tensor:
            with self.autocast():
                logits = network(images)
            return F.cross_entropy(logits.float(), labels)

        self.descend([p for p in network.parameters() if p.requires_grad], loss, data, retrain_seed)

    def descend(
        self, parameters: Sequence[Tensor], loss: Callable[[Tensor, Tensor], Tensor], data: Data, retrain_seed: int
    ) -> None:
        """Train by the recipe: Adam on one batch after the other, its learning rate falling to zero.

        Args:
            parameters: What is trained, in place.
            loss: (images, labels) of a batch -> what is to become small.
            data: The images.
            retrain_seed: Seeds their order.
        """
        recipe = self.task.retraining
        rate = recipe.learning_rates[self.quantizer]
        optimizer = torch.optim.Adam(parameters, lr=rate, fused=True)
        batches = self._batches(len(data.labels), retrain_seed)
        for step, batch in enumerate(batches):
            optimizer.param_groups[0]["lr"] = rate * (1.0 - step / len(batches))
            loss(channels_last(data.images[batch]), data.labels[batch]).backward()
            optimizer.step()
            optimizer.zero_grad()

    def autocast(self) -> torch.autocast:
        """Return the context in which networks are run."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _batches(self, size: int, retrain_seed: int) -> list[Tensor]:
        """Return the indices of one batch after the other until the budget is used up."""
        generator = torch.Generator().manual_seed(retrain_seed)
        batches: list[Tensor] = []
        left = self.retrain_images
        while left > 0:
            epoch = torch.randperm(size, generator=generator)[:left]
            left -= len(epoch)
            batches += epoch.to(self.device).split(self.task.retraining.batch_size)
        return batches

    @torch.no_grad()
    def _accuracy(self, network: nn.Module, data: Data) -> float:
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        with parametrize.cached(), self.autocast():  # the weights are quantized once
            for images, labels in zip(
                data.validation_images.split(INFERENCE_BATCH),
                data.validation_labels.split(INFERENCE_BATCH),
                strict=True,
            ):
                correct += (network(channels_last(images)).argmax(dim=1) == labels).sum()
        return correct.item() / len(data.validation_labels)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread.

    Small networks gain little from a second one, several evaluations at once gain more from the
    cores, and an accuracy does not depend on how many cores there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or not 0 <= value.__index__() < _LARGEST:
        raise ReLeQError(f"{name}={value!r} is not accepted; give a whole number from 0 to 2**63 - 1")
    return int(value.__index__())
