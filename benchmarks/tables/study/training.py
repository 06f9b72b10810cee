"""Retraining by any recipe, short and long: the one file of the study that knows the engine."""

import copy
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from benchmarks.common import machine
from benchmarks.tables.study.recipes import Recipe
from releq_env.arithmetic import pinned_arithmetic
from releq_env.devices import instruction_set, resolve_precision
from releq_env.quantization.lsq import LSQ
from releq_env.retraining.data import channels_last
from releq_env.retraining.short import INFERENCE_BATCH, ShortRetraining
from releq_env.tasks import get_task, load_pretrained
from releq_env.tasks.augmentation import Augmentation

VERSION = 2
"""Raised whenever a row's definition stays the same and its numbers do not."""

FULL_PRECISION = "none"
"""In place of a quantizer's name: the full-precision network itself is retrained."""

LONG = Recipe(distil=0.5, steps="log", step_rate=0.01)
"""The long retraining's recipe, besides augmentation and a cosine of the learning rate."""

LONG_EPOCHS = 30

FULL_PRECISION_BITS = 8
"""What `Recipe.factor` takes full precision for."""


class Measured(NamedTuple):
    """What a row says of a retraining.

    Attributes:
        accuracy: On the validation images, in [0, 1].
        validation_loss: Mean cross-entropy with their labels, in nats.
        training_loss: Mean of the recipe's loss over the last tenth of the steps; NaN without any.
        killed: How many step sizes have crossed zero.
        seconds: All of it.
    """

    accuracy: float
    validation_loss: float
    training_loss: float
    killed: int
    seconds: float


class Retrainer:
    """Retrains the network of a task by one quantizer.

    Args:
        task: Name of the task.
        quantizer: Name of the quantizer, or `FULL_PRECISION`.
        precision: `"auto"`, `"fp32"` or `"bf16"`.
    """

    def __init__(self, task: str, quantizer: str, precision: str = "auto") -> None:
        known = get_task(task)
        pretrained = load_pretrained(known)
        carried_out_by = "lsq" if quantizer == FULL_PRECISION else quantizer
        self.engine = ShortRetraining(known, pretrained, carried_out_by, precision=precision)
        self.data = self.engine.load()
        self.training_images = len(self.data.targets)

    @functools.cached_property
    @pinned_arithmetic()
    def teacher_logits(self) -> Tensor:
        """The full-precision network's logits of all training images, float32, shape `(N, classes)`."""
        return self._logits(self.engine.prepared(None), self.data.inputs)

    @pinned_arithmetic()
    def short(self, bitwidths: Sequence[int] | None, recipe: Recipe, images: int, seed: int) -> Measured:
        """Retrain briefly: Adam, the learning rates falling linearly to zero, as in the engine.

        Args:
            bitwidths: One a layer, or `None` for the full-precision network.
            recipe: How.
            images: Budget; 0 is post-training quantization.
            seed: Of the order of the images.
        """
        teacher = self.teacher_logits
        start = time.perf_counter()
        engine = copy.copy(self.engine)
        engine.retrain_images = images
        batches = engine.batches(self.training_images, seed)
        network = self.engine.prepared(bitwidths)
        losses = self._train(
            network,
            bitwidths,
            recipe,
            ((self._inputs(batch), self.data.targets[batch], teacher[batch]) for batch in batches),
            [1.0 - step / len(batches) for step in range(len(batches))],
        )
        return self._measure(network, losses, start)

    @pinned_arithmetic()
    def long(self, bitwidths: Sequence[int] | None, recipe: Recipe, epochs: int, seed: int) -> Measured:
        """Retrain for long: images augmented as in pre-training, the learning rates falling as a cosine.

        The arguments are those of `short`, but for `epochs`; the seed is also the augmentation's.
        """
        start = time.perf_counter()
        task = self.engine.task
        augmentation = Augmentation(task.pretraining.flip, task.pretraining.shift)
        generator = torch.Generator().manual_seed(seed)
        teacher = self.engine.prepared(None)
        size = task.retraining.batch_size
        steps = epochs * math.ceil(self.training_images / size)

        def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for _ in range(epochs):
                for batch in torch.randperm(self.training_images, generator=generator).split(size):
                    images = channels_last(augmentation(self._inputs(batch), generator))
                    yield images, self.data.targets[batch], self._logits(teacher, images)

        network = self.engine.prepared(bitwidths)
        factors = [0.5 + 0.5 * math.cos(math.pi * step / steps) for step in range(steps)]
        losses = self._train(network, bitwidths, recipe, batches(), factors)
        return self._measure(network, losses, start)

    def _inputs(self, batch: Tensor) -> Tensor:
        return channels_last(self.data.inputs[batch])

    @torch.no_grad()
    def _logits(self, network: nn.Module, images: Tensor) -> Tensor:
        with parametrize.cached():  # the weights are quantized once
            return torch.cat(
                [self.engine.outputs(network, channels_last(piece)) for piece in images.split(INFERENCE_BATCH)]
            )

    def _train(
        self,
        network: nn.Module,
        bitwidths: Sequence[int] | None,
        recipe: Recipe,
        batches: Iterator[tuple[Tensor, Tensor, Tensor]],
        factors: Sequence[float],
    ) -> list[Tensor]:
        """Train in place on (images, labels, teacher's logits); return the losses of the steps."""
        rate = self.engine.learning_rate if recipe.rate is None else recipe.rate
        names = [layer.name for layer in self.engine.pretrained.layers]
        bits = dict(zip(names, bitwidths or [FULL_PRECISION_BITS] * len(names), strict=True))
        groups = _groups(network, recipe, bits, rate)
        optimizer = torch.optim.Adam(groups, eps=recipe.epsilon, fused=True)
        rates = [group["lr"] for group in optimizer.param_groups]
        loss_of = _loss(recipe, self.engine.task.loss)
        losses = []
        for factor, (images, labels, teacher) in zip(factors, batches, strict=True):
            for group, initial in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = initial * factor
            loss = loss_of(self.engine.outputs(network, images), labels, teacher)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        return losses

    @torch.no_grad()
    def _measure(self, network: nn.Module, losses: list[Tensor], start: float) -> Measured:
        logits = self._logits(network, self.data.validation_inputs)
        last = losses[-max(1, len(losses) // 10) :]
        return Measured(
            accuracy=self.engine.accuracy(logits, self.data),
            validation_loss=self.engine.task.loss(logits, self.data.validation_targets).item(),
            training_loss=torch.stack(last).mean().item() if last else math.nan,
            killed=sum(int((lsq.step <= 0).sum()) for lsq in _learned_steps(network)),
            seconds=time.perf_counter() - start,
        )


def _groups(network: nn.Module, recipe: Recipe, bits: dict[str, int], rate: float) -> list[dict[str, object]]:
    """Return Adam's parameter groups: each layer's weights, and all step sizes where they have a rate of their own."""
    steps: list[Tensor] = []
    for lsq in _learned_steps(network):
        if recipe.steps != "log":  # as the engine has it
            lsq.__class__ = _Relative if recipe.steps == "relative" else _Raw
            lsq.trained = nn.Parameter(torch.ones_like(lsq.start) if recipe.steps == "relative" else lsq.start.clone())
            del lsq.log_step
        if recipe.steps != "weights":
            steps += lsq.parameters()
    apart = set(map(id, steps))
    # Parameters whose rates are equal share a group: one fused pass.
    weights: dict[float, list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and id(parameter) not in apart:
            layer = next((layer for layer in bits if name.startswith(f"{layer}.")), None)
            factor = recipe.factor(bits[layer]) if layer else 1.0
            weights.setdefault(rate * factor, []).append(parameter)
    groups: list[dict[str, object]] = [{"params": found, "lr": each} for each, found in weights.items()]
    return groups + ([{"params": steps, "lr": recipe.step_rate}] if steps else [])


def _loss(recipe: Recipe, hard: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    share, temperature = recipe.distil, recipe.temperature

    def loss(logits: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
        total = logits.new_zeros(())
        if share < 1.0:
            total = hard(logits, labels) if share == 0.0 else (1.0 - share) * hard(logits, labels)
        if share > 0.0:
            # Times the temperature's square, so that the gradient's size depends little on it.
            soft = F.cross_entropy(logits / temperature, torch.softmax(teacher / temperature, dim=1))
            total = total + share * temperature**2 * soft
        return total

    return loss


def _learned_steps(network: nn.Module) -> list[LSQ]:
    return [module for module in network.modules() if isinstance(module, LSQ)]


class _Raw(LSQ):
    """Its step sizes are trained themselves."""

    trained: nn.Parameter

    @property
    def step(self) -> Tensor:
        return self.trained


class _Relative(LSQ):
    """The ratio of its step sizes to their start is trained."""

    trained: nn.Parameter

    @property
    def step(self) -> Tensor:
        return self.start * self.trained


def place() -> str:
    """Return what accuracies depend on besides a row's other columns: rows of one place may be compared."""
    _, units, *extensions = instruction_set().split("+")
    if "amx_tile" in extensions:
        units += " AMX"
    precision = str(resolve_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    version = torch.__version__.split("+")[0]
    return f"{machine.processor()} / {units} / {precision} / torch {version} / study {VERSION}"
