"""A task's data in memory, in the layout and type that its network is run in."""

import os
from dataclasses import dataclass
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from releq_env.paths import data_folder
from releq_env.tasks.datasets import Dataset
from releq_env.tasks.own_data import OwnData

_PIECE = 10_000


@dataclass(frozen=True, eq=False)
class Data:
    """The training and the validation part.

    Attributes:
        inputs: What the network is trained on, normalised, shape `(N, ...)`; images have channels last.
        targets: What the loss compares outputs with, shape `(N, ...)`.
        validation_inputs: Likewise.
        validation_targets: Likewise.
    """

    inputs: Tensor
    targets: Tensor
    validation_inputs: Tensor
    validation_targets: Tensor


_RESIDENT: "WeakValueDictionary[object, Data]" = WeakValueDictionary()
"""Data in memory, shared by all of a process for as long as somebody uses them."""


def resident(
    dataset: Dataset, data_root: str | os.PathLike[str] | None, device: torch.device, dtype: torch.dtype
) -> Data:
    """Return a data set's data; they are loaded unless they are in memory already.

    Args:
        dataset: The data set.
        data_root: See `releq_env.paths.data_folder`.
        device: Where they are to be.
        dtype: Type of the inputs.

    Raises:
        ReLeQError: If they are not to be had.
    """
    key = (dataset, str(data_folder(data_root)), device, dtype)
    data = _RESIDENT.get(key)
    if data is None:
        parts = []
        for number, (inputs, targets) in enumerate(dataset.load(data_root)):
            made = dataset.converted(number, dtype) if isinstance(dataset, OwnData) else None
            if made is None:
                # In pieces: the float32 intermediate of all would be the largest thing in memory.
                pieces = torch.cat([_typed(dataset.normalize(piece), dtype) for piece in inputs.split(_PIECE)])
                layout = torch.channels_last if pieces.ndim == 4 else torch.contiguous_format
                made = pieces.to(device).contiguous(memory_format=layout)
            parts += [made, targets.to(device)]
        data = _RESIDENT[key] = Data(*parts)
    return data


def _typed(inputs: Tensor, dtype: torch.dtype) -> Tensor:
    return inputs.to(dtype) if inputs.is_floating_point() else inputs  # the ids of tokens stay what they are


def channels_last(inputs: Tensor) -> Tensor:
    """Return images, shape `(N, C, H, W)`, whose strides say channels last; other shapes as they are.

    With one channel both layouts have the same bytes, torch takes such a tensor for contiguous, and
    the convolution after it runs in the slow layout: here its strides are made to tell.
    """
    if inputs.ndim != 4:
        return inputs
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = inputs.shape
    if channels == 1:
        return inputs.as_strided(inputs.shape, (height * width, 1, width, 1))
    return inputs
