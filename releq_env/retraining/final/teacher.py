"""The network whose outputs a final retraining distils."""

import copy
import hashlib
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError, short
from releq_env.paths import cache_folder
from releq_env.retraining.batch_norm import fold
from releq_env.retraining.final.identity import FINAL_VERSION, digest, place
from releq_env.retraining.final.outputs import Shown, outputs_by_way
from releq_env.retraining.fused import fuse
from releq_env.retraining.short import INFERENCE_BATCH, ShortRetraining
from releq_env.tasks.augmentation import Augmentation
from releq_env.tasks.final import FinalRecipe
from releq_env.tasks.layouts import keep_contiguous, takes_channels_last
from releq_env.tasks.losses import soft_cross_entropy
from releq_env.tasks.own_outputs import join_outputs, joins_outputs, parts_of, separate_outputs
from releq_env.tasks.pretrained import architecture

_PROBES = 16  # inputs that tell what a teacher computes
_MOST_KEPT = 2**26  # numbers of the teacher's outputs that are kept in memory
_RETRAININGS = 5  # in which the teacher would be asked, where it is asked before; seeds and controls are mostly more


class FinalTeacher:
    """The network whose outputs are distilled, and what it returns for the training inputs.

    Args:
        engine: Gives the task's network, data, device and precision.
        recipe: Says in which share, how outputs are compared, and how inputs are augmented.
        given: Another network than the task's full-precision one.

    Raises:
        ReLeQError: If that is none, or the recipe asks for what the task has not.
    """

    def __init__(self, engine: ShortRetraining, recipe: FinalRecipe, given: nn.Module | None) -> None:
        self._engine, self._recipe, self._given = engine, recipe, given
        if given is not None and not isinstance(given, nn.Module):
            raise ReLeQError(f"teacher={short(given)} is no network; give a torch.nn.Module")
        if recipe.temperature != 1.0 and engine.task.distillation is not None:
            raise ReLeQError(
                f"temperature={recipe.temperature} cannot be used with the own distillation of {engine.task.name}; "
                "give 1.0"
            )

    @cached_property
    def identity(self) -> list[str] | None:
        """What tells a network that was given from others; `None` is the task's full-precision one."""
        if self._given is None:
            return None
        self.check()
        sha = hashlib.sha256()
        for name, value in self._given.state_dict().items():
            sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        if self.soft_loss is not None:  # what it computes is not in its weights alone
            with pinned_arithmetic():
                sha.update(self.outputs(self._engine.load().inputs[:_PROBES]).cpu().numpy().tobytes())
        return [architecture(self._given), sha.hexdigest()]

    @pinned_arithmetic()
    def check(self) -> None:
        """Raise `ReLeQError` if a network that was given does not return what the task's does."""
        if self._given is None or self.soft_loss is None:
            return
        engine, inputs = self._engine, self._engine.load().inputs[:1]
        expected = engine.all_outputs(engine._placed(copy.deepcopy(engine.pretrained.network)), inputs).shape
        try:
            shape = self.outputs(inputs).shape
        except ReLeQError:
            raise
        except (RuntimeError, TypeError, AttributeError, ValueError) as error:  # what torch and a network raise
            raise ReLeQError(f"the teacher fails on an input of {engine.task.name} ({error})") from error
        if shape != expected:
            raise ReLeQError(
                f"the teacher returns the shape {tuple(shape[1:])} an input and the network of {engine.task.name} "
                f"{tuple(expected[1:])}; give one for the same task"
            )

    @cached_property
    def network(self) -> nn.Module:
        """The network: frozen, in evaluation mode, with its own statistics."""
        engine = self._engine
        network = copy.deepcopy(engine.pretrained.network) if self._given is None else self._as_the_tasks(self._given)
        network = engine._placed(network).requires_grad_(False)
        if self._given is None:
            fused, folded = engine._pairs
            fuse(network, fused)
            fold(network, folded)
        return network

    def _as_the_tasks(self, given: nn.Module) -> nn.Module:
        """Return a copy that computes, and returns one tensor, as `own_network` lets the task's."""
        engine = self._engine
        first = engine.load().inputs[:1].cpu()
        inputs = (first.float() if first.is_floating_point() else first).contiguous()
        network = copy.deepcopy(given).cpu().eval()
        if joins_outputs(engine.pretrained.network):
            mine = separate_outputs(copy.deepcopy(engine.pretrained.network))
            with torch.no_grad():
                layouts = [parts_of(each(inputs), "what it returns")[1] for each in (mine, network)]
            if layouts[0] != layouts[1]:
                raise ReLeQError(
                    f"the teacher of {engine.task.name} returns {layouts[1].described}, and its network "
                    f"{layouts[0].described}; give one that returns the same, in the same order"
                )
            join_outputs(network)
        return network if takes_channels_last(network, inputs) else keep_contiguous(network)

    @cached_property
    def soft_loss(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """What compares outputs with the teacher's; `None` where nothing is distilled."""
        recipe, given = self._recipe, self._engine.task.soft_loss
        if given is None or not (recipe.distillation or recipe.distillation_end):
            return None
        return given if recipe.temperature == 1.0 else partial(soft_cross_entropy, temperature=recipe.temperature)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Return what the network returns for many inputs, float32, shape `(N, ...)`."""
        return self._engine.all_outputs(self.network, inputs)

    @cached_property
    def augmentation(self) -> Augmentation:
        """What is done to training inputs."""
        return Augmentation(self._recipe.flip, self._recipe.shift)

    @cached_property
    @pinned_arithmetic()
    def kept_shape(self) -> torch.Size | None:
        """The shape of `kept`, `(ways, N, ...)`.

        `None` where nothing is distilled, the outputs are too many to be kept, or would take longer than to ask for
        them in every step of `_RETRAININGS`.
        """
        ways, inputs = self.augmentation.ways, self._engine.load().inputs
        epochs = self._recipe.epochs + self._recipe.warm_start
        if self.soft_loss is None or ways > max(1, _RETRAININGS * epochs):
            return None
        shape = torch.Size((ways, len(inputs), *self.outputs(inputs[:1]).shape[1:]))
        return shape if shape.numel() <= _MOST_KEPT else None

    @property
    def kept(self) -> Tensor | None:
        """The outputs for all training inputs in every way that they are augmented, once `ask` has computed them."""
        return self.ask(iter)

    def ask(self, shown: Shown) -> Tensor | None:
        """Compute what is kept, once; `None` where nothing is, see `kept_shape`.

        Args:
            shown: Shows how far that is; it can take minutes.
        """
        if not hasattr(self, "_kept"):
            self._kept = self._asked(shown)
        return self._kept

    @pinned_arithmetic()
    def _asked(self, shown: Shown) -> Tensor | None:
        if self.kept_shape is None:
            return None
        path = self._path() if self.augmentation.ways > 1 else None
        return outputs_by_way(self.outputs, self._engine.load().inputs, self.augmentation, path, shown)

    @pinned_arithmetic()
    def seconds_to_ask(self) -> float:
        """Return how long `ask` will take here, from a piece of the inputs; 0 if that is known, or seconds."""
        if self.kept_shape is None or self.augmentation.ways == 1:
            return 0.0
        path = self._path()
        if path is not None and path.exists():
            return 0.0
        ways, count = self.kept_shape[:2]
        piece = self._engine.load().inputs[:INFERENCE_BATCH]
        self.outputs(piece)
        begun = time.perf_counter()
        self.outputs(piece)
        return (time.perf_counter() - begun) * ways * count / len(piece)

    def _path(self) -> Path | None:
        """Return the file that the outputs are kept in; `None` where the data cannot be told from others."""
        engine, recipe = self._engine, self._recipe
        data = engine.task.identity(engine.data_root)
        if data is None:
            return None
        asked = {"version": FINAL_VERSION, "data": data, "network": engine.pretrained.identity}
        asked |= {"teacher": self.identity, "augmentation": [recipe.flip, recipe.shift], **place(engine)}
        return cache_folder() / "teachers" / f"{engine.task.name}-{digest(asked)}.safetensors"
