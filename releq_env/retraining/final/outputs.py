"""What the teacher returns for all training inputs, in every way in which they are augmented: computed once."""

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from releq_env.files import replace_file
from releq_env.retraining.short import INFERENCE_BATCH
from releq_env.tasks.augmentation import Augmentation

Shown = Callable[[range], Iterable[int]]
"""Passes on the ways while it shows how far they are; `iter` shows nothing."""
_OUTPUTS = "outputs"


def outputs_by_way(
    outputs: Callable[[Tensor], Tensor],
    inputs: Tensor,
    augmentation: Augmentation,
    path: Path | None = None,
    shown: Shown = iter,
) -> Tensor:
    """Return the outputs for every way and input, shape `(ways, N, ...)`.

    Args:
        outputs: Of the teacher, for many inputs.
        inputs: All training inputs, shape `(N, ...)`.
        augmentation: How they are augmented.
        path: A file that they are kept in, so that other processes have them too; one computes, others wait.
            `None`, or a disk that is full: in memory only.
        shown: See `Shown`.
    """

    def computed() -> Tensor:
        found = []
        for way in shown(range(augmentation.ways)):
            pieces = inputs.split(INFERENCE_BATCH)  # all of them augmented would be the largest thing in memory
            ways = [torch.full((len(piece),), way, device=inputs.device) for piece in pieces]
            found.append(torch.cat([outputs(augmentation.apply(*each)) for each in zip(pieces, ways, strict=True)]))
        return torch.stack(found)

    if path is None:
        return computed()
    shape = (augmentation.ways, len(inputs))
    if (kept := _read(path, shape)) is not None:  # also where nothing can be written
        return kept.to(inputs.device)
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix(".lock")))
        except OSError:  # it can be computed again
            return computed()
        if (kept := _read(path, shape)) is not None:  # another process had begun
            return kept.to(inputs.device)
        made = computed()
        with contextlib.suppress(OSError):
            replace_file(path, save({_OUTPUTS: made.cpu()}))
        return made


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """Return what a file has; `None` if there is none, or a damaged one."""
    try:
        found: Tensor = load_file(path)[_OUTPUTS]  # mapped: processes share the memory
    except (OSError, SafetensorError, KeyError):
        return None
    return found if found.shape[:2] == shape else None
