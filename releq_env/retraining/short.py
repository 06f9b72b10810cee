"""The hot path: copy the pre-trained network, quantize it, retrain it briefly, measure it."""

import copy
import functools
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from releq_env.arithmetic import pinned_arithmetic, seeded
from releq_env.devices import instruction_set, resolve_device, resolve_precision
from releq_env.errors import ReLeQError, check_choice, check_whole
from releq_env.quantization import QUANTIZERS, Quantizer, quantize
from releq_env.quantization.layers import QUANTIZABLE
from releq_env.retraining.adam import Adam
from releq_env.retraining.batch_norm import calibration_batches, fold, recalibrate
from releq_env.retraining.data import Data, channels_last, resident
from releq_env.retraining.distillation import Loss, Teacher, distilled_loss
from releq_env.retraining.fused import fuse
from releq_env.retraining.neighbours import Pair, neighbours, unchanged
from releq_env.retraining.rates import parameter_groups
from releq_env.seeds import Seed, check_seed, each_seed
from releq_env.tasks import Pretrained, Task
from releq_env.tasks.layouts import with_channels_last
from releq_env.tasks.own_data import OwnData

ENGINE_VERSION = 3
"""Raised whenever the same inputs would give another accuracy, so that caches are not mixed."""

INFERENCE_BATCH = 500
_PROBE = 16  # inputs on which a changed network is compared with the plain one
_ROUNDING = 1e-3  # of what it computes, where sums are taken in another order


class ShortRetraining:
    """Measures the validation accuracy of an assignment after a short retraining.

    Every call starts from a fresh copy of the pre-trained network. Dropout is off and batch
    normalisation is frozen (its statistics re-estimated with quantized weights first) and folded. Every
    assignment sees the same batches in the same order (common random numbers), so an accuracy is a
    function of the assignment, whatever torch is told to do elsewhere in the process. Data load at the
    first call. Safe under threads, which take turns.

    Args:
        task: Network, data, loss, metric and recipes.
        pretrained: The task's full-precision network.
        quantizer: A name in `releq_env.quantization.QUANTIZERS`.
        retrain_images: Budget in images; 0 is post-training quantization, `None` the task's default.
        retrain_seed: Seeds the order of the images; of a tuple the mean accuracy is taken.
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
        retrain_seed: Seed = 0,
        data_root: str | os.PathLike[str] | None = None,
        device: str = "cpu",
        precision: str = "auto",
    ) -> None:
        check_arguments(quantizer, retrain_images, retrain_seed, device, precision)
        self.task = task
        self.pretrained = pretrained
        self.quantizer = quantizer
        self.retrain_images = task.retraining.images if retrain_images is None else int(retrain_images)
        self.retrain_seed = check_seed("retrain_seed", retrain_seed)
        self.data_root = data_root
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self._data: Data | None = None

    def __copy__(self) -> "ShortRetraining":
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)  # data and all that was derived, unlike a copy in another process
        return other

    def __getstate__(self) -> dict[str, object]:
        # A copy in another process loads its own data, and may not know of a quantizer that was registered here.
        kept = {name: value for name, value in self.__dict__.items() if name not in ("_teacher", "_pairs")}
        return kept | {"_data": None, "_entry": QUANTIZERS[self.quantizer]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        QUANTIZERS.setdefault(state["quantizer"], state.pop("_entry"))
        self.__dict__.update(state)

    @property
    def learning_rate(self) -> float:
        """The learning rate that retraining starts with: the recipe's, else the quantizer's."""
        rate = self.task.retraining.learning_rate
        return QUANTIZERS[self.quantizer].learning_rate if rate is None else rate

    @property
    def fingerprint(self) -> dict[str, object] | None:
        """Everything but the bitwidths that an accuracy depends on, JSON-able; `None` if that cannot be told."""
        task = self.task.identity(self.data_root)
        if task is None:
            return None
        quantizer = _known(QUANTIZERS[self.quantizer])
        if quantizer is None:
            return None
        return {
            "engine": ENGINE_VERSION,
            "torch": torch.__version__.split("+")[0],
            "task": task,
            "network": self.pretrained.identity,
            "retraining": [self.task.retraining.batch_size, self.learning_rate, self.task.distilled],
            "quantizer": [self.quantizer, *quantizer],
            "retrain_images": self.retrain_images,
            "retrain_seed": list(self.retrain_seed) if isinstance(self.retrain_seed, tuple) else self.retrain_seed,
            "precision": str(self.dtype),
            "device": self.device.type,
            "instructions": instruction_set(self.device),
            "threads": 1,
            **self.named_layers,
        }

    @property
    def named_layers(self) -> dict[str, list[str]]:
        """Which layers an assignment is of, JSON-able; empty where the network has no others, and in this order."""
        names = [layer.name for layer in self.pretrained.layers]
        everything = [name for name, each in self.pretrained.network.named_modules() if isinstance(each, QUANTIZABLE)]
        return {} if names == everything else {"layers": names}

    def reseeded(self, retrain_seed: Seed) -> "ShortRetraining":
        """Return the same with another retraining seed; the data are shared."""
        other = copy.copy(self)
        other.retrain_seed = check_seed("retrain_seed", retrain_seed)
        return other

    def check(self, bitwidths: Sequence[int]) -> None:
        """Raise `ReLeQError` if an assignment cannot be measured."""
        names = [layer.name for layer in self.pretrained.layers]
        if len(bitwidths) != len(names):
            raise ReLeQError(
                f"the assignment {tuple(bitwidths)[:100]} has {len(bitwidths)} bitwidths; "
                f"give {len(names)}, one a layer of {self.task.name}"
            )
        supported = QUANTIZERS[self.quantizer].bitwidths
        for name, bits in zip(names, bitwidths, strict=True):
            if bits not in supported:
                raise ReLeQError(
                    f"the assignment {tuple(bitwidths)} has {bits!r} for {name}, which {self.quantizer} does not "
                    f"support; choose from {', '.join(map(str, supported))}"
                )

    def measure(self, bitwidths: Sequence[int], retrain_seed: Seed | None = None) -> tuple[float, float]:
        """Retrain and measure one assignment.

        Args:
            bitwidths: One bitwidth a layer.
            retrain_seed: Another seed than its own.

        Returns:
            Validation accuracy in [0, 1], the mean over the seeds, and the seconds it took. Diverged
            retraining gives a low accuracy, not an error.

        Raises:
            ReLeQError: If the assignment is not accepted, or the data are not to be had.
        """
        self.check(bitwidths)
        with pinned_arithmetic():
            data = self.load()
            seeds = each_seed(self.retrain_seed if retrain_seed is None else retrain_seed)
            if not self.retrain_images:
                seeds = seeds[:1]  # nothing is drawn
            start = time.perf_counter()
            accuracies = [self._measured(bitwidths, data, seed) for seed in seeds]
            return sum(accuracies) / len(accuracies), time.perf_counter() - start

    def _measured(self, bitwidths: Sequence[int], data: Data, seed: int) -> float:
        network = self.prepared(bitwidths)
        if self.retrain_images:
            layers = dict(zip((layer.name for layer in self.pretrained.layers), bitwidths, strict=True))
            loss_of = distilled_loss(self.task)
            self.descend(
                parameter_groups(network, layers, self.learning_rate),
                lambda inputs, targets, teacher: loss_of(self.outputs(network, inputs), targets, teacher),
                data,
                seed,
            )
        return self._accuracy(network, data)

    def load(self) -> Data:
        """Load the data, once. Raises `ReLeQError` if they are not to be had."""
        with pinned_arithmetic():
            if self._data is None:
                self._data = resident(self.task.dataset, self.data_root, self.device, self.dtype)
            return self._data

    def shared_data(self) -> Data | None:
        """Return the data in memory that other processes can use without a copy.

        `None` where there is no such memory, or too little of it: each process then loads its own. So it does with
        data in files, which are the same for all.
        """
        data = self.load()
        dataset = self.task.dataset
        if self.device.type != "cpu" or (isinstance(dataset, OwnData) and dataset.in_files):
            return None
        try:
            for tensor in vars(data).values():
                tensor.share_memory_()
        except RuntimeError:
            return None
        return data

    def adopt(self, data: Data) -> None:
        """Use data that another process has loaded, or others."""
        self._data = data
        self.__dict__.pop("_teacher", None)  # it may know the outputs for others

    def descend(
        self,
        groups: Sequence[dict[str, Any]],
        loss: Loss,
        data: Data,
        retrain_seed: int,
        slowed: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        """Train by the recipe: Adam on one batch after the other, its learning rates falling to zero.

        Args:
            groups: What is trained, in place, as Adam's parameter groups.
            loss: (inputs, targets, the full-precision network's outputs or `None`) of a batch -> what is to become
                small.
            data: The inputs.
            retrain_seed: Seeds their order.
            slowed: Parameters whose elements learn at rates of their own, with what their group's is multiplied by.
        """
        optimizer = Adam(groups)
        rates = [group["lr"] for group in optimizer.param_groups]
        batches = self.batches(len(data.targets), retrain_seed)
        taught = self.taught(data, batches, retrain_seed)
        for step, batch in enumerate(batches):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1.0 - step / len(batches))
            teacher = None if taught is None else taught(batch)
            loss(channels_last(data.inputs[batch]), data.targets[batch], teacher).backward()
            before = [parameter.detach().clone() for parameter, _ in slowed]
            optimizer.step()
            optimizer.zero_grad()
            for start, (parameter, factor) in zip(before, slowed, strict=True):
                parameter.data = torch.lerp(start, parameter.data, factor)

    def taught(self, data: Data, batches: Sequence[Tensor], retrain_seed: int) -> Callable[[Tensor], Tensor] | None:
        """Return what gives the full-precision network's outputs for the inputs of a batch, if they are wanted."""
        if self.task.distilled == 0.0:
            return None
        whole = self.retrain_images >= len(data.targets)  # all inputs, whatever the seed
        key = None if whole else (self.retrain_images, retrain_seed)
        return self._teacher.of(data.inputs, batches, key, keep=max(2, len(each_seed(self.retrain_seed))))

    @functools.cached_property
    def _teacher(self) -> Teacher:
        network = self._placed(copy.deepcopy(self.pretrained.network))

        @torch.no_grad()
        def outputs(inputs: Tensor) -> Tensor:
            return self.outputs(network, channels_last(inputs))

        return Teacher(outputs, INFERENCE_BATCH)

    def batches(self, size: int, retrain_seed: int) -> list[Tensor]:
        """Return the indices of one batch after the other until the budget is used up.

        Args:
            size: How many training examples there are.
            retrain_seed: Seeds their order.
        """
        generator = torch.Generator().manual_seed(retrain_seed)
        batches: list[Tensor] = []
        left = self.retrain_images
        while left > 0:
            epoch = torch.randperm(size, generator=generator)[:left]
            left -= len(epoch)
            batches += epoch.to(self.device).split(self.task.retraining.batch_size)
        return batches

    @pinned_arithmetic()
    def prepared(self, bitwidths: Sequence[int] | None) -> nn.Module:
        """Return a copy of the network as its retraining starts: quantized, normalisation frozen and folded.

        Args:
            bitwidths: One bitwidth a layer, or `None` for the network in full precision.

        Raises:
            ReLeQError: If the assignment is not accepted, or the data are not to be had.
        """
        if bitwidths is None:
            network = copy.deepcopy(self.pretrained.network)
        else:
            self.check(bitwidths)
            names = [layer.name for layer in self.pretrained.layers]
            network = quantize(self.pretrained.network, names, bitwidths, self.quantizer)
        network = self._placed(network)
        fused, folded = self._pairs
        fuse(network, fused)
        with self.autocast():
            recalibrate(network, self.calibration())
        fold(network, folded)
        return network

    def calibration(self) -> Iterator[Tensor]:
        """Yield the training inputs that statistics of batch normalisation are estimated on, in batches.

        The built-in data sets are in random order; those of a user may be sorted.
        """
        mixed = isinstance(self.task.dataset, OwnData)
        return map(channels_last, calibration_batches(self.load().inputs, mixed))

    def outputs(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Return what a network makes of inputs, shape `(N, ...)`: computed in the precision chosen, as float32."""
        with self.autocast():
            outputs: Tensor = network(inputs)
        return outputs.float()

    @torch.no_grad()
    def all_outputs(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Return what a network makes of many inputs, shape `(N, ...)`, in pieces; the weights are quantized once."""
        with parametrize.cached():
            pieces = inputs.split(INFERENCE_BATCH)
            return torch.cat([self.outputs(network, channels_last(piece)) for piece in pieces])

    def autocast(self) -> torch.autocast:
        """Return the context in which networks are run.

        It keeps no casts of weights: inside another such context they would outlive a step.
        """
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32, cache_enabled=False)

    def accuracy(self, outputs: Tensor, data: Data) -> float:
        """Return what the task's metric says of the outputs for all of validation.

        Raises:
            ReLeQError: If it is not in [0, 1].
        """
        accuracy = float(self.task.metric(outputs, data.validation_targets))
        if not 0.0 <= accuracy <= 1.0:
            raise ReLeQError(f"the metric of {self.task.name} has given {accuracy}; let it return a number in [0, 1]")
        return accuracy

    def _placed(self, network: nn.Module) -> nn.Module:
        return with_channels_last(network.to(self.device).eval())

    @functools.cached_property
    def _pairs(self) -> tuple[list[Pair], list[Pair]]:
        """The neighbours that are fused, and those that are folded; none where that is another network."""
        inputs = channels_last(self.load().inputs[:_PROBE].float())
        network = self._placed(copy.deepcopy(self.pretrained.network))
        pairs = neighbours(network)
        fused = pairs if unchanged(functools.partial(fuse, pairs=pairs), network, inputs, 0.0) else []
        folded = pairs if unchanged(functools.partial(fold, pairs=pairs), network, inputs, _ROUNDING) else []
        return (fused if self.device.type == "cpu" else []), folded

    @torch.no_grad()
    def _accuracy(self, network: nn.Module, data: Data) -> float:
        for layer in self.pretrained.layers:  # the weights are quantized once
            weight = network.get_submodule(f"{layer.name}.parametrizations.weight")
            weight.forward = functools.partial(_same, weight())  # of this copy only
        outputs = [
            self.outputs(network, channels_last(inputs)) for inputs in data.validation_inputs.split(INFERENCE_BATCH)
        ]
        return self.accuracy(torch.cat(outputs), data)


def check_arguments(
    quantizer: str, retrain_images: int | None, retrain_seed: Seed, device: str, precision: str
) -> None:
    """Check arguments of `ShortRetraining`, before there is a network.

    Raises:
        ReLeQError: If one is not accepted.
    """
    check_choice("quantizer", quantizer, QUANTIZERS)
    if retrain_images is not None:
        check_whole("retrain_images", retrain_images, 0)
    check_seed("retrain_seed", retrain_seed)
    resolve_precision(precision, resolve_device(device))


def _known(quantizer: Quantizer) -> list[str] | None:
    """Return what tells a quantizer from others: a name and version, or what it computes; `None` if it fails.

    Of functions made by another one the names are the same, whatever that was given.
    """
    build = quantizer.build
    if isinstance(build, str):
        return [build] + ([f"version {quantizer.version}"] if quantizer.version > 1 else [])
    try:
        return [re.sub(r" at 0x[0-9a-fA-F]+", "", _name(build)), _computed_sha256(quantizer)]
    except Exception:  # whatever a third party's raises; measuring says so
        return None


def _computed_sha256(quantizer: Quantizer) -> str:
    """Return a hash of the values and gradients that a quantizer gives at each of its bitwidths."""
    digest = hashlib.sha256()
    with pinned_arithmetic(), seeded(0):
        weight, factors = torch.randn(2, 8, 4, 3, 3) * 0.1
        weight.requires_grad_()
        for bits in quantizer.bitwidths:
            made = quantizer.make(weight.detach().clone(), bits)
            digest.update(repr((getattr(made, "own_rate", None), getattr(made, "slower", False))).encode())
            value = made(weight)
            tensors = [value]
            if value.requires_grad:
                trained = [weight, *(p for p in made.parameters() if p.requires_grad)]
                tensors += torch.autograd.grad(value, trained, factors, materialize_grads=True)
            for tensor in tensors:
                digest.update(tensor.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _name(made_by: str | Callable[..., object]) -> str:
    if isinstance(made_by, str):
        return made_by
    if isinstance(made_by, functools.partial):
        return f"{_name(made_by.func)}{made_by.args}{sorted(made_by.keywords.items())}"
    named = made_by if hasattr(made_by, "__qualname__") else type(made_by)
    module = "__main__" if named.__module__ == "__mp_main__" else named.__module__  # as workers call the script
    return f"{module}:{named.__qualname__}"


def _same(value: Tensor) -> Tensor:
    return value
