"""Learning from the full-precision network: its outputs are computed once, not in every step."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from releq_env.tasks import Task
from releq_env.tasks.losses import soft_cross_entropy

__all__ = ["KEPT_BYTES", "Loss", "Teacher", "distilled_loss", "soft_cross_entropy"]

Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""`(outputs, targets, teacher_outputs) -> scalar`."""

KEPT_BYTES = 2**29
"""Outputs that take more are not kept but computed anew in every step."""


def distilled_loss(task: Task) -> Loss:
    """Return the loss of a retraining: the task's, mixed with the distance from the full-precision network's outputs.

    Args:
        task: Its recipe says in which shares. Where nothing says how outputs are compared it is the task's alone.
    """
    hard, soft, share = task.loss, task.soft_loss, task.distilled

    def loss(outputs: Tensor, targets: Tensor, teacher_outputs: Tensor | None) -> Tensor:
        if teacher_outputs is None or soft is None or share == 0.0:
            return hard(outputs, targets)
        if share == 1.0:
            return soft(outputs, teacher_outputs)
        return (1.0 - share) * hard(outputs, targets) + share * soft(outputs, teacher_outputs)

    return loss


class Teacher:
    """The outputs of the full-precision network for the inputs of batches.

    Args:
        outputs: `inputs -> outputs` of the network, float32, without gradients.
        batch: How many inputs it is given at once.
    """

    def __init__(self, outputs: Callable[[Tensor], Tensor], batch: int) -> None:
        self._outputs = outputs
        self._batch = batch
        self._kept: dict[object, tuple[Tensor, Tensor]] = {}

    def of(self, inputs: Tensor, batches: Sequence[Tensor], key: object, keep: int = 2) -> Callable[[Tensor], Tensor]:
        """Return `indices -> outputs`, shape `(indices, ...)`, for the indices in the batches.

        What is returned depends on inputs and batches alone, not on what was asked for before.

        Args:
            inputs: All of them, shape `(N, ...)`.
            batches: Indices into the inputs, in any order, repeats among them.
            key: What the batches are known by.
            keep: For how many keys, the last ones, the outputs are kept.
        """
        if key not in self._kept:
            indices = torch.unique(torch.cat(list(batches)))
            pieces = [self._outputs(inputs[piece]) for piece in indices[: self._batch].split(self._batch)]
            if pieces[0].nbytes / len(pieces[0]) * len(indices) > KEPT_BYTES:
                return lambda batch: self._outputs(inputs[batch])
            pieces += [
                self._outputs(inputs[piece]) for piece in indices[self._batch :].split(self._batch) if len(piece)
            ]
            while len(self._kept) >= keep:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = indices, torch.cat(pieces)
        indices, outputs = self._kept[key]
        return lambda batch: outputs[torch.searchsorted(indices, batch)]
