"""The last retraining of an assignment: long, with augmentation, kept on disk after every epoch."""

import copy
import dataclasses
import hashlib
import json
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from releq_env.arithmetic import pinned_arithmetic
from releq_env.devices import instruction_set
from releq_env.errors import ReLeQError, short
from releq_env.paths import cache_folder
from releq_env.quantization import QUANTIZERS, quantize
from releq_env.retraining.batch_norm import fold, recalibrate
from releq_env.retraining.data import channels_last
from releq_env.retraining.final_run import Run, trained_parameters
from releq_env.retraining.fused import fuse
from releq_env.retraining.short import INFERENCE_BATCH, ShortRetraining
from releq_env.retraining.teacher import Shown, outputs_by_way
from releq_env.tasks.augmentation import Augmentation
from releq_env.tasks.final import CONTROL_IGNORES, FinalRecipe
from releq_env.tasks.layouts import is_kept_contiguous, keep_contiguous, takes_channels_last
from releq_env.tasks.losses import soft_cross_entropy
from releq_env.tasks.own_outputs import join_outputs, joins_outputs, parts_of, separate_outputs
from releq_env.tasks.pretrained import architecture

FINAL_VERSION = 2
"""Raised whenever the same inputs would give another network, so that what is kept on disk is not mixed."""

_MARKS: list[tuple[tuple[Any, ...], str]] = []

_PROBES = 16  # inputs that tell what a teacher computes
_MOST_KEPT = 2**26  # numbers of the teacher's outputs that are kept in memory
_RETRAININGS = 5  # in which the teacher would be asked, where it is asked before; seeds and controls are mostly more


class DivergedError(ReLeQError):
    """A loss that is no finite number."""


class Trained(NamedTuple):
    """The result of a retraining.

    Attributes:
        network: In evaluation mode, with the parametrizations of `quantize`; nothing fused or folded.
        history: One row an epoch: mean training loss, validation accuracy in [0, 1], seconds.
    """

    network: nn.Module
    history: list[list[float]]


class FinalRetraining:
    """Retrains an assignment, or the full-precision network, by a `FinalRecipe`.

    Data, quantizer, device and precision are those of a short retraining, and so is how the network is
    prepared. An epoch's order and augmentation depend on the seed and the epoch alone, so that what is resumed
    ends, on the same machine, as what never stopped, bit for bit. One thread.

    Args:
        engine: What measures the task's assignments.
        recipe: How.
        teacher: The network whose outputs are distilled; default: the task's full-precision one.

    Raises:
        ReLeQError: If the recipe asks for what the task has not.
    """

    def __init__(self, engine: ShortRetraining, recipe: FinalRecipe, teacher: nn.Module | None = None) -> None:
        self.engine, self.recipe = engine, recipe
        self._given_teacher = teacher
        if teacher is not None and not isinstance(teacher, nn.Module):
            raise ReLeQError(f"teacher={short(teacher)} is no network; give a torch.nn.Module")
        if recipe.temperature != 1.0 and engine.task.distillation is not None:
            raise ReLeQError(
                f"temperature={recipe.temperature} cannot be used with the own distillation of {engine.task.name}; "
                "give 1.0"
            )
        image = len(engine.pretrained.input_shape) == 3
        if (recipe.flip or recipe.shift) and not image:
            raise ReLeQError(
                f"inputs of shape {engine.pretrained.input_shape} cannot be mirrored or shifted; give flip=False and "
                "shift=0"
            )

    @cached_property
    def teacher_identity(self) -> list[str] | None:
        """What tells a teacher that was given from others; `None` is the task's full-precision network."""
        if self._given_teacher is None:
            return None
        self.check_teacher()
        sha = hashlib.sha256()
        for name, value in self._given_teacher.state_dict().items():
            sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        if self.soft_loss is not None:  # what it computes is not in its weights alone
            with pinned_arithmetic():
                found = self.outputs(self.teacher, self.engine.load().inputs[:_PROBES])
            sha.update(found.cpu().numpy().tobytes())
        return [architecture(self._given_teacher), sha.hexdigest()]

    def asked(self, bitwidths: Sequence[int] | None, rate: float, seed: int) -> dict[str, Any]:
        """Return what a retraining's result depends on, but for the kind of processor and torch's version; JSON-able.

        Where loss, metric or quantizer cannot be told from others, a mark stands for them that no other process has.

        Args:
            bitwidths: One a layer, or `None` for full precision.
            rate: Learning rate.
            seed: Of order and augmentation.
        """
        engine = self.engine
        task, known = engine.task, engine.fingerprint
        if known is None:
            mark = _mark((task.loss, task.metric, task.distillation, QUANTIZERS[engine.quantizer]))
            data = {"data": task.dataset.fingerprint(engine.data_root), "cache_key": task.cache_key}
            known = {"task": data | {"functions": mark}, "network": engine.pretrained.identity}
        unused = ("control_rates", *(CONTROL_IGNORES if bitwidths is None else ()))
        recipe = dataclasses.asdict(self.recipe) | {"epochs": self.proper_epochs(bitwidths)}
        return {
            "version": FINAL_VERSION,
            **{name: known[name] for name in ("task", "network")},
            "teacher": self.teacher_identity,
            "recipe": {name: value for name, value in recipe.items() if name not in unused},
            "quantizer": None if bitwidths is None else known.get("quantizer", engine.quantizer),
            "bitwidths": None if bitwidths is None else [int(bits) for bits in bitwidths],
            "layers": None if bitwidths is None else self._names,
            "learning_rate": float(rate),
            "seed": int(seed),
            **self._arithmetic,
        }

    @property
    def place(self) -> dict[str, str]:
        """Where a result is from: the machine's part of what it depends on."""
        return {
            "torch": torch.__version__,
            **self._arithmetic,
            "instructions": instruction_set(self.engine.device),
            "threads": "1",
        }

    @property
    def _arithmetic(self) -> dict[str, str]:
        return {"precision": str(self.engine.dtype).removeprefix("torch."), "device": self.engine.device.type}

    @property
    def epochs(self) -> int:
        """How many epochs a retraining has in all, with quantized weights or without."""
        return self.recipe.epochs + self.recipe.warm_start

    def proper_epochs(self, bitwidths: Sequence[int] | None) -> int:
        """Return how many epochs the retraining proper has; the control's, which has no warm start, is as long as both.

        Args:
            bitwidths: `None` for the control.
        """
        return self.epochs if bitwidths is None else self.recipe.epochs

    def train(
        self,
        bitwidths: Sequence[int] | None,
        rate: float,
        seed: int,
        checkpoint: Path,
        epoch_done: Callable[[list[float], bool], None] = lambda row, new: None,
    ) -> Trained:
        """Retrain, going on where an earlier call was stopped.

        Args:
            bitwidths: One bitwidth a layer, or `None` for the full-precision network.
            rate: Learning rate that it starts with.
            seed: Of order and augmentation.
            checkpoint: The file that the state is kept in after every epoch. Not removed at the end.
            epoch_done: Told every epoch's row of the history, and whether it is new; those of an earlier call first.

        Raises:
            ReLeQError: If an argument is not accepted, the data are not to be had, or a file is damaged.
            DivergedError: If the loss is not finite any more.
        """
        with pinned_arithmetic():
            self.ask_teacher(iter)  # outside of the first epoch's time, and for a warm start, too
            start = None
            if bitwidths is not None and self.recipe.warm_start:
                start = self._warm_start(bitwidths, rate, seed, checkpoint, epoch_done)
            run = Run(self, bitwidths, rate, seed, start)
            run.resume(checkpoint)
            for row in run.history:
                epoch_done(row, False)
            while len(run.history) < run.epochs:
                begun = time.perf_counter()
                loss = run.epoch(len(run.history))
                if not math.isfinite(loss):
                    raise DivergedError(
                        f"retraining has diverged in epoch {len(run.history) + 1} with learning rate {rate:g}; give a "
                        "lower one"
                    )
                run.history.append([loss, run.validation_accuracy(), time.perf_counter() - begun])
                run.keep(checkpoint)
                epoch_done(run.history[-1], True)
            network = run.finished()
            if is_kept_contiguous(network):  # so it is computed by who takes it from its file
                network = network.to(memory_format=torch.contiguous_format)
            return Trained(network, run.history)

    def seconds_an_epoch(self, bitwidths: Sequence[int] | None) -> float:
        """Return how long an epoch will take here, from a few steps."""
        with pinned_arithmetic():
            run = Run(self, bitwidths, 0.0, 0, None)
            return run.seconds_an_epoch()

    @pinned_arithmetic()
    def prepared(self, bitwidths: Sequence[int] | None, start: nn.Module | None = None) -> tuple[nn.Module, nn.Module]:
        """Return a network to train, and another one of the same parameters that is neither fused nor folded.

        Args:
            bitwidths: One bitwidth a layer, or `None` for full precision.
            start: The full-precision network that is quantized; default: the task's.
        """
        engine = self.engine
        original = engine.pretrained.network if start is None else start
        if bitwidths is None:
            network = copy.deepcopy(original)
        else:
            engine.check(bitwidths)
            network = quantize(original, self._names, bitwidths, engine.quantizer)
        network = engine._placed(network)
        plain = _twin(network)
        fused, folded = engine._pairs
        fuse(network, fused)
        if bitwidths is not None:  # the statistics are those of other weights
            with engine.autocast():
                recalibrate(network, engine.calibration())
        if not self.recipe.live_batch_norm:
            whole = network
            network = _twin(whole)
            fold(network, folded)
            if not trained_parameters(network) <= trained_parameters(plain):
                network = whole  # what folding adds would not be in the network that is kept
        return network, plain

    @cached_property
    def teacher(self) -> nn.Module:
        """The network whose outputs are distilled: frozen, in evaluation mode, with its own statistics."""
        engine = self.engine
        original = engine.pretrained.network if self._given_teacher is None else self._given_teacher
        network = copy.deepcopy(original)
        if self._given_teacher is not None:
            network = self._as_the_tasks(network)
        network = engine._placed(network).requires_grad_(False)
        if self._given_teacher is None:
            fused, folded = engine._pairs
            fuse(network, fused)
            fold(network, folded)
        return network

    def _as_the_tasks(self, network: nn.Module) -> nn.Module:
        """Let a network compute, and return one tensor, as `own_network` lets the task's."""
        given = self.engine.load().inputs[:1].cpu()
        inputs = (given.float() if given.is_floating_point() else given).contiguous()
        network = network.cpu().eval()
        if joins_outputs(self.engine.pretrained.network):
            mine = separate_outputs(copy.deepcopy(self.engine.pretrained.network))
            with torch.no_grad():
                layouts = [parts_of(each(inputs), "what it returns")[1] for each in (mine, network)]
            if layouts[0] != layouts[1]:
                raise ReLeQError(
                    f"the teacher of {self.engine.task.name} returns {layouts[1].described}, and its network "
                    f"{layouts[0].described}; give one that returns the same, in the same order"
                )
            join_outputs(network)
        return network if takes_channels_last(network, inputs) else keep_contiguous(network)

    @pinned_arithmetic()
    def check_teacher(self) -> None:
        """Raise `ReLeQError` if a teacher that was given does not return what the task's network does."""
        if self._given_teacher is None or self.soft_loss is None:
            return
        inputs, network = (
            self.engine.load().inputs[:1],
            self.engine._placed(copy.deepcopy(self.engine.pretrained.network)),
        )
        expected = self.outputs(network, inputs).shape
        try:
            shape = self.outputs(self.teacher, inputs).shape
        except ReLeQError:
            raise
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:  # what torch and a network raise
            raise ReLeQError(f"the teacher fails on an input of {self.engine.task.name} ({error})") from error
        if shape != expected:
            raise ReLeQError(
                f"the teacher returns the shape {tuple(shape[1:])} an input and the network of {self.engine.task.name} "
                f"{tuple(expected[1:])}; give one for the same task"
            )

    @cached_property
    def augmentation(self) -> Augmentation:
        """What is done to training inputs."""
        return Augmentation(self.recipe.flip, self.recipe.shift)

    @cached_property
    def teacher_outputs(self) -> Tensor | None:
        """The teacher's outputs, shape `(ways, N, ...)`, see `ask_teacher`."""
        return self._asked_teacher(iter)

    def ask_teacher(self, shown: Shown) -> None:
        """Compute what the teacher returns for all training inputs in every way that they are augmented.

        Not where these are too many to be kept, or would take longer than to ask it in every step of `_RETRAININGS`.

        Args:
            shown: Shows how far that is; it can take minutes.
        """
        if "teacher_outputs" not in vars(self):
            vars(self)["teacher_outputs"] = self._asked_teacher(shown)

    @pinned_arithmetic()
    def _asked_teacher(self, shown: Shown) -> Tensor | None:
        if self.kept_shape is None:
            return None
        path = self._kept_in() if self.augmentation.ways > 1 else None
        compute = partial(self.outputs, self.teacher)
        return outputs_by_way(compute, self.engine.load().inputs, self.augmentation, path, shown)

    @pinned_arithmetic()
    def seconds_to_ask(self) -> float:
        """Return how long `ask_teacher` will take here, from a piece of the inputs; 0 if that is known, or seconds."""
        if self.kept_shape is None or self.augmentation.ways == 1:
            return 0.0
        path = self._kept_in()
        if path is not None and path.exists():
            return 0.0
        ways, count = self.kept_shape[:2]
        piece = self.engine.load().inputs[:INFERENCE_BATCH]
        self.outputs(self.teacher, piece)
        begun = time.perf_counter()
        self.outputs(self.teacher, piece)
        return (time.perf_counter() - begun) * ways * count / len(piece)

    @cached_property
    @pinned_arithmetic()
    def kept_shape(self) -> torch.Size | None:
        """The shape of `teacher_outputs`; `None` where there are none."""
        ways, inputs = self.augmentation.ways, self.engine.load().inputs
        if self.soft_loss is None or ways > max(1, _RETRAININGS * self.epochs):
            return None
        shape = torch.Size((ways, len(inputs), *self.outputs(self.teacher, inputs[:1]).shape[1:]))
        return shape if shape.numel() <= _MOST_KEPT else None

    def _kept_in(self) -> Path | None:
        engine, recipe = self.engine, self.recipe
        data = engine.task.identity(engine.data_root)
        if data is None:
            return None
        asked = {"version": FINAL_VERSION, "data": data, "network": engine.pretrained.identity}
        asked |= {"teacher": self.teacher_identity, "augmentation": [recipe.flip, recipe.shift], **self.place}
        return cache_folder() / "teachers" / f"{engine.task.name}-{digest(asked)}.safetensors"

    @cached_property
    def soft_loss(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """What compares outputs with the teacher's; `None` where nothing is distilled."""
        recipe, given = self.recipe, self.engine.task.soft_loss
        if given is None or not (recipe.distillation or recipe.distillation_end):
            return None
        return given if recipe.temperature == 1.0 else partial(soft_cross_entropy, temperature=recipe.temperature)

    @torch.no_grad()
    def outputs(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Return a network's outputs for many inputs, float32."""
        with parametrize.cached():  # the weights are quantized once
            pieces = inputs.split(INFERENCE_BATCH)
            return torch.cat([self.engine.outputs(network, channels_last(piece)) for piece in pieces])

    @property
    def _names(self) -> list[str]:
        return [layer.name for layer in self.engine.pretrained.layers]

    def _warm_start(
        self,
        bitwidths: Sequence[int],
        rate: float,
        seed: int,
        checkpoint: Path,
        epoch_done: Callable[[list[float], bool], None],
    ) -> nn.Module:
        """Return the full-precision network beneath one that was retrained with one bit more a layer."""
        supported = QUANTIZERS[self.engine.quantizer].bitwidths
        richer = [min((more for more in supported if more > bits), default=bits) for bits in bitwidths]
        before = dataclasses.replace(self.recipe, epochs=self.recipe.warm_start, warm_start=0, average=0.0, freeze=0.0)
        first = FinalRetraining(self.engine, before, self._given_teacher)
        first.__dict__ |= {name: self.__dict__[name] for name in ("teacher", "teacher_outputs") if name in vars(self)}
        trained, _ = first.train(richer, rate, seed, checkpoint.with_suffix(".warm.safetensors"), epoch_done)
        network = copy.deepcopy(self.engine.pretrained.network)
        state = trained.state_dict()
        for name in network.state_dict():
            if name not in state:  # a weight that the quantizer lies over
                layer, _, weight = name.rpartition(".")
                state[name] = state[f"{layer}.parametrizations.{weight}.original"]
        network.load_state_dict({name: state[name] for name in network.state_dict()})
        return network


def _mark(functions: tuple[Any, ...]) -> str:
    """Return a random mark of functions, the same for the same ones; another process gives them another one."""
    for known, mark in _MARKS:
        if known == functions:
            return mark
    _MARKS.append((functions, uuid.uuid4().hex))
    return _MARKS[-1][1]


def digest(asked: Mapping[str, Any]) -> str:
    """Return a short name for what is asked for."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]


def _twin(network: nn.Module) -> nn.Module:
    """Return a copy of a network's modules with the same parameters and buffers, not copies of them."""
    same: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, same)
