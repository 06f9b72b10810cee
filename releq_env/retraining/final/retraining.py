"""What is retrained at last, from what, and what comes out."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError
from releq_env.quantization import QUANTIZERS, quantize
from releq_env.retraining.batch_norm import fold, recalibrate
from releq_env.retraining.final import identity
from releq_env.retraining.final.run import Run, trained_parameters
from releq_env.retraining.final.teacher import FinalTeacher
from releq_env.retraining.fused import fuse
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks.final import FinalRecipe
from releq_env.tasks.layouts import is_kept_contiguous


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

    Attributes:
        engine: As given.
        recipe: As given.
        teacher: What is distilled.

    Raises:
        ReLeQError: If the recipe asks for what the task has not.
    """

    def __init__(
        self, engine: ShortRetraining, recipe: FinalRecipe, teacher: nn.Module | FinalTeacher | None = None
    ) -> None:
        self.engine, self.recipe = engine, recipe
        self.teacher = teacher if isinstance(teacher, FinalTeacher) else FinalTeacher(engine, recipe, teacher)
        image = len(engine.pretrained.input_shape) == 3
        if (recipe.flip or recipe.shift) and not image:
            raise ReLeQError(
                f"inputs of shape {engine.pretrained.input_shape} cannot be mirrored or shifted; give flip=False and "
                "shift=0"
            )

    def asked(self, bitwidths: Sequence[int] | None, rate: float, seed: int) -> dict[str, Any]:
        """Return what a retraining's result depends on, JSON-able; see `releq_env.retraining.final.identity.asked`.

        Args:
            bitwidths: One a layer, or `None` for full precision.
            rate: Learning rate.
            seed: Of order and augmentation.
        """
        recipe = dataclasses.replace(self.recipe, epochs=self.proper_epochs(bitwidths))
        return identity.asked(self.engine, recipe, self.teacher.identity, bitwidths, rate, seed)

    @property
    def place(self) -> dict[str, str]:
        """Where a result is from: the machine's part of what it depends on."""
        return identity.place(self.engine)

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
            self.teacher.ask(iter)  # outside of the first epoch's time, and for a warm start, too
            start = None
            if bitwidths is not None and self.recipe.warm_start:
                start = self._warm_start(bitwidths, rate, seed, checkpoint, epoch_done)
            run = self.run(bitwidths, rate, seed, start)
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
            return self.run(bitwidths, 0.0, 0).seconds_an_epoch()

    def run(self, bitwidths: Sequence[int] | None, rate: float, seed: int, start: nn.Module | None = None) -> Run:
        """Return a retraining of which nothing is done yet. Arguments are those of `train` and `prepared`."""
        recipe = dataclasses.replace(self.recipe, epochs=self.proper_epochs(bitwidths))
        bits = {} if bitwidths is None else dict(zip(self._names, map(int, bitwidths), strict=True))
        asked = self.asked(bitwidths, rate, seed)
        return Run(self.engine, recipe, self.teacher, self.prepared(bitwidths, start), bits, rate, seed, asked)

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
        first = FinalRetraining(self.engine, before, self.teacher)
        trained, _ = first.train(richer, rate, seed, checkpoint.with_suffix(".warm.safetensors"), epoch_done)
        network = copy.deepcopy(self.engine.pretrained.network)
        state = trained.state_dict()
        for name in network.state_dict():
            if name not in state:  # a weight that the quantizer lies over
                layer, _, weight = name.rpartition(".")
                state[name] = state[f"{layer}.parametrizations.{weight}.original"]
        network.load_state_dict({name: state[name] for name in network.state_dict()})
        return network


def _twin(network: nn.Module) -> nn.Module:
    """Return a copy of a network's modules with the same parameters and buffers, not copies of them."""
    same: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, same)
