"""The data of a user's own network: whatever torch trains with, read once into memory."""

import contextlib
import itertools
import operator
import os
import random
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from releq_env.arithmetic import pinned_arithmetic, seeded
from releq_env.errors import ReLeQError, short
from releq_env.tasks.datasets import Dataset, Examples, digest
from releq_env.tasks.own_outputs import Layout, joined, parts_of

_ACCEPTED = (
    "give a pair (inputs, targets) of tensors or arrays, a torch Dataset of such pairs, or a DataLoader that yields "
    "batches of them"
)
_BATCH = 256


@dataclass(frozen=True, eq=False)
class OwnData(Dataset):
    """A training and a validation part in memory, and a test part if there is one.

    Inputs are given to the network as they are: in float, or as whole numbers where they are token ids.

    Attributes:
        parts: Training, validation, and test or `None`.
    """

    parts: tuple[Examples, Examples, Examples | None] = ()  # type: ignore[assignment]  # fields before have defaults

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        state["parts"] = [None if part is None else [_sendable(tensor) for tensor in part] for part in self.parts]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        parts = [None if part is None else Examples(*map(torch.as_tensor, part)) for part in state["parts"]]
        vars(self).update(state | {"parts": tuple(parts)})

    def load(self, data_root: str | os.PathLike[str] | None = None) -> tuple[Examples, Examples]:
        """Return the training and the validation part."""
        return self.parts[:2]

    def load_test(self, data_root: str | os.PathLike[str] | None = None) -> Examples:
        """Return the test part.

        Raises:
            ReLeQError: If there is none.
        """
        if self.parts[2] is None:
            raise ReLeQError(f"{self.name} has no test data; give test_data= with the network")
        return self.parts[2]

    def fingerprint(self, data_root: str | os.PathLike[str] | None = None) -> str:
        """Return a hash of the training and the validation part."""
        known: dict[str, str] = vars(self).setdefault("_known", {})
        if not known:
            known["data"] = " ".join(
                f"{digest(part)} {part.inputs.dtype} {tuple(part.inputs.shape)} {part.targets.dtype} "
                f"{tuple(part.targets.shape)}"
                for part in self.load()
            )
        return known["data"]

    @pinned_arithmetic()
    def normalize(self, inputs: Tensor) -> Tensor:
        """Return the inputs as the network takes them: float32, or int64."""
        return inputs.long() if is_ids(inputs) else inputs.float()


def is_ids(inputs: Tensor) -> bool:
    """Whether inputs are whole numbers that stand for something, not the values of pixels."""
    return not inputs.is_floating_point() and inputs.dtype not in (torch.uint8, torch.bool)


def own_data(name: str, training: Any, validation: Any, test: Any, limit: float) -> tuple[OwnData, Layout]:
    """Read a user's data.

    Args:
        name: Of the network.
        training: See `read`.
        validation: Likewise.
        test: Likewise, or `None`.
        limit: How many GB (1e9 bytes) all of them may have.

    Returns:
        The data, and how several targets an example are put together.

    Raises:
        ReLeQError: If they are something else, or do not fit to one another, or into the limit.
    """
    room = _Room(limit)
    given = {"train_data": training, "validation_data": validation}
    given |= {} if test is None else {"test_data": test}
    parts, layouts = [], []
    for what, data in given.items():
        inputs, targets = read(data, what, room)
        layouts.append(parts_of(targets, what)[1])
        parts.append(Examples(inputs, joined(targets, torch.float64)))
    shapes = [(part.inputs.shape[1:], is_ids(part.inputs), part.targets.shape[1:]) for part in parts]
    for what, shape, layout in zip(given, shapes, layouts, strict=True):
        if shape != shapes[0] or layout.names != layouts[0].names:
            raise ReLeQError(
                f"an example of {what} has inputs of shape {tuple(shape[0])} and targets of shape {tuple(shape[2])}, "
                f"one of train_data {tuple(shapes[0][0])} and {tuple(shapes[0][2])}; give the same kind in all"
            )
    named = dict(zip(given, parts, strict=True))
    for (first, one), (second, other) in itertools.combinations(named.items(), 2):
        if torch.equal(one.inputs, other.inputs):
            raise ReLeQError(f"{first} and {second} are the same; give {second.replace('_', ' ')} of its own")
    of_one = tuple(parts[0].inputs.shape[1:])
    three = (parts[0], parts[1], parts[2] if test is not None else None)
    return OwnData(name, of_one, _no_file, len(parts[1].targets), parts=three), layouts[0]


class _Room:
    """How many bytes are left."""

    def __init__(self, limit: float) -> None:
        self._limit, self._taken = limit, 0

    def take(self, tensors: Iterable[Tensor], what: str) -> None:
        self._taken += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if self._taken > self._limit * 1e9:
            raise ReLeQError(
                f"the data are larger than data_limit={self._limit:g} GB, at {what}; give fewer examples, images as "
                "uint8, or a larger data_limit="
            )


def read(data: Any, what: str, room: _Room) -> tuple[Tensor, Any]:
    """Return inputs, and targets: a tensor, or several in a tuple, list or dictionary.

    Args:
        data: A pair `(inputs, targets)`, a map-style or iterable `Dataset`, or a `DataLoader`, of which the
            examples that its sampler draws are read once each, in the order of its data set.
        what: What it is called, for messages.
        room: What it may take.

    Raises:
        ReLeQError: If it is something else.
    """
    if isinstance(data, torch_data.TensorDataset):
        data = data.tensors
    if isinstance(data, tuple | list) and len(data) == 2 and _is_array(data[0]):
        inputs, targets = _inputs(data[0], what), _mapped(data[1], what)
    elif isinstance(data, torch_data.Dataset | torch_data.DataLoader) or hasattr(data, "__getitem__"):
        inputs, targets = _collected(data, what, room)
    else:
        raise ReLeQError(f"{what}={short(data)} is not accepted; {_ACCEPTED}")
    counts = [len(tensor) for tensor in (inputs, *parts_of(targets, what)[0])]
    if not counts[0] or len(set(counts)) != 1:
        raise ReLeQError(f"{what} has {counts[0]} inputs and {counts[1]} targets; give as many of each, at least one")
    if not isinstance(data, torch_data.Dataset | torch_data.DataLoader):
        room.take((inputs, *parts_of(targets, what)[0]), what)
    return inputs, targets


def _collected(data: Any, what: str, room: _Room) -> tuple[Tensor, Any]:
    """Read a data set batch by batch, always in the same order and with the same random numbers."""
    batches: list[tuple[Tensor, Any]] = []
    with _same_randomness():
        for batch in _explained(data, what):
            if not isinstance(batch, tuple | list) or len(batch) != 2 or not _is_array(batch[0]):
                raise ReLeQError(f"{what} yields batches like {short(batch)}; {_ACCEPTED}")
            batches.append((_inputs(batch[0], what), _mapped(batch[1], what)))
            room.take((batches[-1][0], *parts_of(batches[-1][1], what)[0]), what)
    if not batches:
        raise ReLeQError(f"{what} has no examples; give at least one")
    try:
        parted = [parts_of(targets, what) for _, targets in batches]
        columns = [torch.cat(column) for column in zip(*(parts for parts, _ in parted), strict=True)]
        return torch.cat([inputs for inputs, _ in batches]), parted[0][1].rebuilt(columns)
    except (RuntimeError, ValueError) as error:
        raise ReLeQError(f"the examples of {what} are not of one shape ({error}); give all the same") from error


@contextlib.contextmanager
def _same_randomness() -> Iterator[None]:
    """Let what augments the data draw the same numbers every time: the data are then the same, too."""
    states = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(0)
    try:
        with seeded(0):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _explained(data: Any, what: str) -> Iterator[Any]:
    try:
        yield from _in_order(data)
    except Exception as error:  # whatever somebody's data set raises
        raise ReLeQError(f"{what} cannot be read ({type(error).__name__}: {error}); {_ACCEPTED}") from error


def _in_order(data: Any) -> Iterable[Any]:
    if not isinstance(data, torch_data.DataLoader):
        return torch_data.DataLoader(data, batch_size=_BATCH)
    chosen = _chosen(data)
    if chosen is None:
        return data
    return torch_data.DataLoader(chosen, _BATCH, num_workers=data.num_workers, collate_fn=data.collate_fn)


def _chosen(loader: torch_data.DataLoader[Any]) -> torch_data.Dataset[Any] | None:
    """Return those examples of a loader's data set that it draws from; `None`: that can only be seen by reading it."""
    dataset, batches = loader.dataset, loader.batch_sampler
    if isinstance(dataset, torch_data.IterableDataset) or not isinstance(dataset, Sized):
        return None
    if type(batches) is not torch_data.BatchSampler:
        return None
    sampler: Any = batches.sampler
    plain = type(sampler) in (torch_data.SequentialSampler, torch_data.RandomSampler)
    if plain and len(sampler.data_source) == len(dataset):
        return dataset
    try:
        return torch_data.Subset(dataset, sorted({operator.index(index) for index in sampler}))
    except TypeError:  # what it draws by are no numbers
        return None


def _is_array(given: Any) -> bool:
    return isinstance(given, Tensor | np.ndarray)


def _tensor(given: Any, what: str) -> Tensor:
    try:
        tensor = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ReLeQError(f"{what} holds {short(given)}, which is no tensor ({error}); {_ACCEPTED}") from error
    if tensor.is_complex() or not tensor.ndim:
        raise ReLeQError(f"{what} holds {short(given)}; give real numbers, an example a row")
    if tensor.dtype in (torch.float64, torch.float16, torch.bfloat16):
        return tensor.float()
    return tensor.long() if tensor.dtype in (torch.int8, torch.int16, torch.int32) else tensor


def _inputs(given: Any, what: str) -> Tensor:
    return _tensor(given, what).contiguous()


def _mapped(targets: Any, what: str) -> Any:
    if isinstance(targets, dict):
        return {name: _mapped(each, what) for name, each in targets.items()}
    if isinstance(targets, tuple | list) and any(_is_array(each) for each in targets):
        return tuple(_mapped(each, what) for each in targets)
    return _tensor(targets, what).contiguous()


def _sendable(tensor: Tensor) -> Tensor | np.ndarray[Any, Any]:
    """Return a tensor in memory that processes share, or, where there is too little of it, an array."""
    try:
        return tensor.share_memory_()
    except RuntimeError:
        return tensor.numpy()


def _no_file(root: Path, train: bool, download: bool) -> Examples:
    raise NotImplementedError("the data are in memory")
