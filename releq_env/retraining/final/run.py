"""One long retraining under way: its steps, and how it is kept and taken up again."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from releq_env.errors import ReLeQError
from releq_env.retraining.adam import Adam
from releq_env.retraining.batch_norm import recalibrate
from releq_env.retraining.data import Data, channels_last
from releq_env.retraining.final import checkpoint
from releq_env.retraining.final.teacher import FinalTeacher
from releq_env.retraining.rates import parameter_groups
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks.final import FinalRecipe
from releq_env.tasks.own_data import OwnData

_WARMING, _TIMED = 3, 20  # steps


class Run:
    """One retraining under way.

    Args:
        engine: Gives data, device and precision.
        recipe: How; its epochs are those of this retraining.
        teacher: What is distilled.
        networks: What is trained, and one of the same parameters that is neither fused nor folded.
        bits: Bitwidths by layer name, empty for full precision.
        rate: Learning rate that it starts with.
        seed: Of order and augmentation.
        asked: What tells it from others, JSON-able; kept with its state.

    Attributes:
        epochs: How many it has.
        history: One row an epoch so far, see `releq_env.retraining.final.Trained`.
    """

    def __init__(
        self,
        engine: ShortRetraining,
        recipe: FinalRecipe,
        teacher: FinalTeacher,
        networks: tuple[nn.Module, nn.Module],
        bits: Mapping[str, int],
        rate: float,
        seed: int,
        asked: Mapping[str, Any],
    ) -> None:
        self._engine, self._recipe, self._teacher = engine, recipe, teacher
        self._asked, self._seed = asked, seed
        self.epochs = recipe.epochs
        self._data: Data = engine.load()
        self._network, self._plain = networks
        self._groups(bits, rate)
        self._named = {
            name: parameter
            for name, parameter in self._plain.named_parameters()
            if id(parameter) in trained_parameters(self._network)
        }
        self._average = [p.detach().clone() for p in self._named.values()] if self._recipe.average else []
        self._norms = [module for module in self._network.modules() if isinstance(module, _BatchNorm)]
        self.history: list[list[float]] = []

    def epoch(self, epoch: int) -> float:
        """Train for an epoch; return the mean loss."""
        resting = self._recipe.freeze > 0.0 and epoch >= round(self.epochs * (1.0 - self._recipe.freeze))
        steps = self._steps_an_epoch
        total = self.epochs * steps
        self._live(True)
        losses = [
            self._step((epoch * steps + index) / total, resting, *batch)
            for index, batch in enumerate(self._batches(epoch, self._teacher.kept))
        ]
        self._live(False)
        return float(torch.stack(losses).mean())

    def validation_accuracy(self) -> float:
        """Return the accuracy on validation, in [0, 1], in the precision of the retraining."""
        with self._averaged():
            outputs = self._engine.all_outputs(self._network, self._data.validation_inputs)
        return self._engine.accuracy(outputs, self._data)

    def finished(self) -> nn.Module:
        """Return the network that came out."""
        for parameter, mean in zip(self._named.values(), self._average, strict=False):
            parameter.data.copy_(mean)
        if self._average and self._recipe.live_batch_norm:  # its statistics are those of other weights
            with self._engine.autocast():
                recalibrate(self._plain, self._engine.calibration())
        return self._plain

    def seconds_an_epoch(self) -> float:
        """Return how long an epoch will take, from a few steps, which change the network."""
        teacher, known = self._teacher, None
        if teacher.kept_shape is not None:  # as fast as with all that the teacher returns, which may take minutes
            known = teacher.outputs(self._data.inputs[:1]).expand(teacher.kept_shape)
        batches = self._batches(0, known)
        self._live(True)
        timed = 0
        for index, batch in zip(range(_WARMING + _TIMED), batches, strict=False):
            if index == min(_WARMING, self._steps_an_epoch - 1):
                begun = time.perf_counter()
            self._step(0.0, False, *batch)
            timed += index >= min(_WARMING, self._steps_an_epoch - 1)
        training = (time.perf_counter() - begun) / timed * self._steps_an_epoch
        begun = time.perf_counter()
        self._live(False)
        self.validation_accuracy()
        return training + time.perf_counter() - begun

    def keep(self, path: Path) -> None:
        """Write down where it stands."""
        tensors = {f"network.{name}": value for name, value in self._plain.state_dict().items()}
        for name, parameter in self._named.items():
            for kind, value in self._optimizer.state[parameter].items():
                tensors[f"optimizer.{kind}.{name}"] = value
        tensors |= {f"average.{name}": mean for name, mean in zip(self._named, self._average, strict=False)}
        checkpoint.write(path, checkpoint.Checkpoint(self._asked, self.history, tensors))

    @torch.no_grad()
    def resume(self, path: Path) -> None:
        """Go on where a file says, if it is of the same retraining."""
        kept = checkpoint.read(path, self._asked)
        if kept is None:
            return
        try:
            for name, value in self._plain.state_dict().items():
                value.copy_(kept.tensors[f"network.{name}"])
            for name, parameter in self._named.items():
                state: dict[str, Tensor] = {"step": torch.zeros((), device=parameter.device)}
                # In the layout of the parameter, as the optimizer makes them.
                state |= {kind: torch.zeros_like(parameter) for kind in ("exp_avg", "exp_avg_sq")}
                if not any(f"optimizer.{kind}.{name}" in kept.tensors for kind in state):
                    continue  # it had no gradient yet, as in a module that is not called
                for kind, value in state.items():
                    value.copy_(kept.tensors[f"optimizer.{kind}.{name}"])
                self._optimizer.state[parameter] = state
            for name, mean in zip(self._named, self._average, strict=False):
                mean.copy_(kept.tensors[f"average.{name}"])
        except (KeyError, RuntimeError) as error:
            raise ReLeQError(f"{path} is not of this network ({error}); delete it and start again") from error
        self.history = kept.history

    def _groups(self, bits: Mapping[str, int], rate: float) -> None:
        """Make the optimizer, and note each group's rate, and its rate while quantized weights rest."""
        quantized = {
            id(parameter)
            for layer in bits
            for name, parameter in self._network.get_submodule(layer).named_parameters()
            if name.startswith("parametrizations.weight.original")
        }
        groups = parameter_groups(self._network, bits, rate, self._recipe.step_rate)
        if self._recipe.freeze:  # those that will rest apart from those that will not
            groups = [
                group | {"params": found}
                for group in groups
                for rests in (True, False)
                if (found := [p for p in group["params"] if (id(p) in quantized) == rests])
            ]
        self._optimizer = Adam(groups)
        self._rates = [group["lr"] for group in groups]
        self._resting = [0.0 if id(group["params"][0]) in quantized else group["lr"] for group in groups]

    def _batches(self, epoch: int, known: Tensor | None) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield inputs, targets and the teacher's outputs of an epoch's batches.

        Args:
            epoch: Which one.
            known: See `FinalTeacher.kept`; `None`: the teacher is asked.
        """
        device, teacher = self._engine.device, self._teacher
        state = np.random.SeedSequence([self._seed, epoch]).generate_state(2, np.uint64) >> np.uint64(1)
        order = torch.randperm(len(self._data.targets), generator=torch.Generator().manual_seed(int(state[0])))
        generator = torch.Generator(device).manual_seed(int(state[1]))
        for batch in self._split(order.to(device)):
            ways = teacher.augmentation.draw(len(batch), generator)
            inputs = channels_last(teacher.augmentation.apply(self._data.inputs[batch], ways))
            taught = None
            if teacher.soft_loss is not None:
                with torch.no_grad():
                    taught = self._engine.outputs(teacher.network, inputs) if known is None else known[ways, batch]
            yield inputs, self._data.targets[batch], taught

    def _step(self, progress: float, resting: bool, inputs: Tensor, targets: Tensor, teacher: Tensor | None) -> Tensor:
        """Train on a batch; `progress` is the share of the retraining that lies behind, in [0, 1)."""
        factor = 0.5 + 0.5 * math.cos(math.pi * progress)
        rates = self._resting if resting else self._rates
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        loss = self._loss(self._engine.outputs(self._network, inputs), targets, teacher, progress)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._average:
            torch._foreach_lerp_(self._average, [p.detach() for p in self._named.values()], 1.0 - self._recipe.average)
        return loss.detach()

    def _loss(self, outputs: Tensor, targets: Tensor, teacher: Tensor | None, progress: float) -> Tensor:
        first, last = self._recipe.distillation, self._recipe.distillation_end
        share = first if last is None else first + (last - first) * progress
        soft, hard = self._teacher.soft_loss, self._engine.task.loss
        if soft is None or teacher is None or share == 0.0:
            return hard(outputs, targets)
        if share == 1.0:
            return soft(outputs, teacher)
        return (1.0 - share) * hard(outputs, targets) + share * soft(outputs, teacher)

    def _live(self, live: bool) -> None:
        if self._recipe.live_batch_norm:
            for norm in self._norms:
                norm.train(live)

    def _averaged(self) -> Any:
        return _Swapped(list(self._named.values()), self._average) if self._average else nullcontext()

    @cached_property
    def _steps_an_epoch(self) -> int:
        return len(self._split(torch.empty(len(self._data.targets))))

    def _split(self, order: Tensor) -> list[Tensor]:
        """Return an epoch's examples in batches; one of a user's alone may have no variance, and goes with others."""
        *batches, last = order.split(self._recipe.batch_size)
        own = isinstance(self._engine.task.dataset, OwnData)  # elsewhere they are images
        if batches and len(last) == 1 and self._recipe.live_batch_norm and own:
            last = torch.cat([batches.pop(), last])
        return [*batches, last]


class _Swapped:
    """Lets parameters have other values for a while."""

    def __init__(self, parameters: list[Tensor], values: list[Tensor]) -> None:
        self._parameters, self._values = parameters, values

    def __enter__(self) -> None:
        self._before = [parameter.detach().clone() for parameter in self._parameters]
        self._set(self._values)

    def __exit__(self, *error: object) -> None:
        self._set(self._before)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)


def trained_parameters(network: nn.Module) -> set[int]:
    """Return the ids of the parameters that are trained."""
    return {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
