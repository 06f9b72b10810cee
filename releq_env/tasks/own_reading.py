"""Reading a user's data, batch by batch: into memory while they fit, into files from then on."""

import contextlib
import hashlib
import operator
import random
import sys
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from releq_env.arithmetic import pinned_arithmetic, seeded
from releq_env.errors import ReLeQError, short
from releq_env.tasks.datasets import Examples, digest
from releq_env.tasks.own_files import InFile, OwnFolder, Writer, new_folder
from releq_env.tasks.own_outputs import Layout, joined, parts_of

_ACCEPTED = (
    "give a pair (inputs, targets) of tensors or arrays, a torch Dataset of such pairs, or a DataLoader that yields "
    "batches of them"
)
_BATCH = 256


@dataclass(eq=False)
class Part:
    """Examples, in memory or in files. Never changed.

    Attributes:
        examples: Inputs as they were given, those in files as the network takes them; targets as one tensor.
        files: The files of both, if they are in files.
        known: See `identity`; empty until it is known.
    """

    examples: Examples
    files: tuple[InFile, InFile] | None = None
    known: str = ""

    @property
    def identity(self) -> str:
        """What tells them from others: SHA-256, types and shapes of what was given, wherever it is kept."""
        if not self.known:
            self.known = _identity(digest(self.examples), self.examples.inputs.dtype, self.examples)
        return self.known

    def __getstate__(self) -> dict[str, Any]:
        sent = None if self.files else [_sendable(tensor) for tensor in self.examples]
        return {"examples": sent, "files": self.files, "known": self.known}

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state["files"]
        tensors = [file.tensor() for file in files] if files else map(torch.as_tensor, state["examples"])
        vars(self).update(state | {"examples": Examples(*tensors)})

    def remove(self) -> None:
        """Remove the files, if there are some."""
        for file in self.files or ():
            if file.folder is not None:
                file.folder.remove()


class Room:
    """The memory that data may take.

    Args:
        limit: In GB (1e9 bytes), 0 or more.

    Raises:
        ReLeQError: If it is something else.
    """

    def __init__(self, limit: object) -> None:
        if isinstance(limit, bool) or not isinstance(limit, Real) or not float(limit) >= 0.0:
            raise ReLeQError(f"data_limit={short(limit)} is not accepted; give a number of GB, 0 or more")
        self._left = float(limit) * 1e9

    def take(self, size: int) -> bool:
        """Take some bytes, if there are as many."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """Give back bytes that were taken."""
        self._left += size


@pinned_arithmetic()
def as_taken(inputs: Tensor) -> Tensor:
    """Return inputs as a network takes them: float32, or int64."""
    return inputs.long() if is_ids(inputs) else inputs.float()


def is_ids(inputs: Tensor) -> bool:
    """Whether inputs are whole numbers that stand for something, not the values of pixels."""
    return not inputs.is_floating_point() and inputs.dtype not in (torch.uint8, torch.bool)


def read(data: Any, what: str, room: Room) -> tuple[Part, Layout]:
    """Return examples, and how several targets an example are put together.

    Args:
        data: A pair `(inputs, targets)`, a map-style or iterable `Dataset`, or a `DataLoader`, of which the
            examples that its sampler draws are read once each, in the order of its data set.
        what: What it is called, for messages.
        room: What it may take in memory.

    Raises:
        ReLeQError: If it is something else, or does not fit on the disk either.
    """
    if type(data) is torch_data.TensorDataset and len(data.tensors) == 2:  # one of its own class may compute more
        data = data.tensors
    if _of_several_inputs(data):
        raise ReLeQError(f"{what} has several inputs an example; wrap the network in a module that takes one tensor")
    if isinstance(data, tuple | list) and len(data) == 2 and _is_array(data[0]):
        return _of_pair(data[0], _mapped(data[1], what), what, room)
    if isinstance(data, torch_data.Dataset | torch_data.DataLoader) or hasattr(data, "__getitem__"):
        with _same_randomness():
            return _collected(_batches(data, what), what, room)
    raise ReLeQError(f"{what}={short(data)} is not accepted; {_ACCEPTED}")


def _of_pair(given: Any, targets: Any, what: str, room: Room) -> tuple[Part, Layout]:
    first = _inputs(given[:1] if given.ndim else given, what)
    tensors, layout = parts_of(targets, what)
    counts = [len(given), *map(len, tensors)]
    if not counts[0] or len(set(counts)) != 1:
        raise ReLeQError(f"{what} has {counts[0]} inputs and {counts[1]} targets; give as many of each, at least one")
    if room.take(counts[0] * _size(first, layout.rebuilt([tensor[:1] for tensor in tensors]))):
        # Copies: what is the caller's may be changed later, and accuracies of that would be kept for these data.
        inputs, columns = _inputs(given, what), joined(targets, torch.float64)
        _check_finite(inputs, what, 0)
        kept = inputs.clone() if _same_memory(inputs, given) else inputs
        return Part(Examples(kept, columns if layout.several else columns.clone())), layout
    starts = range(0, counts[0], _BATCH)
    pieces = ((given[i : i + _BATCH], layout.rebuilt([each[i : i + _BATCH] for each in tensors])) for i in starts)
    return _collected(((_inputs(inputs, what), of_them) for inputs, of_them in pieces), what, room)


def _batches(data: Any, what: str) -> Iterator[tuple[Tensor, Any]]:
    """Read a data set batch by batch, always in the same order."""
    for batch in _explained(data, what):
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not _is_array(batch[0]):
            raise ReLeQError(f"{what} yields batches like {short(batch)}; {_ACCEPTED}")
        inputs, targets = _inputs(batch[0], what), _mapped(batch[1], what)
        counts = [len(inputs), *map(len, parts_of(targets, what)[0])]
        if len(set(counts)) != 1:
            raise ReLeQError(f"{what} has {counts[0]} inputs and {counts[1]} targets in a batch; give as many of each")
        yield inputs, targets


def _collected(batches: Iterable[tuple[Tensor, Any]], what: str, room: Room) -> tuple[Part, Layout]:
    kept: list[Examples] = []
    taken, files, layout, count = 0, None, None, 0
    with contextlib.ExitStack() as folder, _of_one_shape(what):
        for inputs, targets in batches:
            _check_finite(inputs, what, count)
            count += len(inputs)
            found = parts_of(targets, what)[1]
            layout = layout or found
            if layout.several and found != layout:
                raise ValueError(f"targets {found} after {layout}")
            batch, size = Examples(inputs, joined(targets, torch.float64)), _size(inputs, targets)
            if files is None and room.take(size):
                kept.append(batch)
                taken += size
                continue
            if files is None:
                files = _Files(folder.enter_context(new_folder()), what)
                for earlier in kept:
                    files.append(earlier)
                kept.clear()
                room.give_back(taken)
            files.append(batch)
        if layout is None:
            raise ReLeQError(f"{what} has no examples; give at least one")
        if files is not None:
            return files.finished(), layout
        return Part(Examples(*(torch.cat(column) for column in zip(*kept, strict=True)))), layout


@contextlib.contextmanager
def _of_one_shape(what: str) -> Iterator[None]:
    try:
        yield
    except ReLeQError:
        raise
    except (RuntimeError, ValueError) as error:  # those of putting them together
        raise ReLeQError(f"the examples of {what} are not of one shape ({error}); give all the same") from error


class _Files:
    """Examples on their way into files: inputs as the network takes them, targets as one tensor."""

    def __init__(self, folder: OwnFolder, what: str) -> None:
        self._inputs, self._targets = Writer(folder, what, images=True), Writer(folder, what, images=False)
        self._sha = hashlib.sha256()
        self._dtype: torch.dtype | None = None

    def append(self, batch: Examples) -> None:
        self._dtype = self._dtype or batch.inputs.dtype
        if batch.inputs.dtype != self._dtype:
            raise ValueError(f"inputs {batch.inputs.dtype} after {self._dtype}")
        self._sha.update(_bytes(batch.inputs))
        self._inputs.append(as_taken(batch.inputs))
        self._targets.append(batch.targets)

    def finished(self) -> Part:
        assert self._dtype is not None
        files = self._inputs.finished(), self._targets.finished()
        examples = Examples(*(file.tensor() for file in files))
        for targets in examples.targets.split(_BATCH):
            self._sha.update(_bytes(targets))
        return Part(examples, files, _identity(self._sha.hexdigest(), self._dtype, examples))


def _identity(sha256: str, dtype: torch.dtype, examples: Examples) -> str:
    inputs, targets = examples
    return f"{sha256} {dtype} {tuple(inputs.shape)} {targets.dtype} {tuple(targets.shape)}"


def _size(inputs: Tensor, targets: Any) -> int:
    """Return the most bytes that examples take in memory: as given, and, while they are laid out, twice as computed."""
    computed = inputs.numel() * (8 if is_ids(inputs) else 4)
    return inputs.nbytes + 2 * computed + sum(tensor.nbytes for tensor in parts_of(targets, "the targets")[0])


def _bytes(tensor: Tensor) -> Any:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


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
        yield from _in_order(data, what)
    except Exception as error:  # whatever somebody's data set raises
        raise ReLeQError(f"{what} cannot be read ({type(error).__name__}: {error}); {_ACCEPTED}") from error


def _in_order(data: Any, what: str) -> Iterable[Any]:
    if not isinstance(data, torch_data.DataLoader):
        return torch_data.DataLoader(data, batch_size=_BATCH)
    chosen = _chosen(data)
    if chosen is None:
        return data
    whole: Any = data.dataset  # which has a length, or nothing is chosen
    if len(chosen) < len(whole):
        count = f"{len(chosen)} of the {len(whole)} examples"
        print(f"{what}: {count} of its data set are read, those that its sampler draws", file=sys.stderr, flush=True)
    # Somebody's own function may count on how many examples it is given.
    own: Any = data.batch_sampler
    size = _BATCH if data.collate_fn is torch_data.default_collate else own.batch_size
    return torch_data.DataLoader(
        chosen, size, num_workers=data.num_workers, collate_fn=data.collate_fn, worker_init_fn=data.worker_init_fn
    )


def _chosen(loader: torch_data.DataLoader[Any]) -> Any:
    """Return those examples of a loader's data set that it draws from; `None`: that can only be seen by reading it.

    Of one that draws by weights all with a weight: what it leaves out by chance is no choice, and nothing is drawn
    twice here.
    """
    dataset, batches = loader.dataset, loader.batch_sampler
    if isinstance(dataset, torch_data.IterableDataset) or not isinstance(dataset, Sized):
        return None
    if type(batches) is not torch_data.BatchSampler:
        return None
    sampler: Any = batches.sampler
    plain = type(sampler) in (torch_data.SequentialSampler, torch_data.RandomSampler)
    if plain and len(sampler.data_source) == len(dataset):
        return dataset
    if type(sampler) is torch_data.WeightedRandomSampler and len(sampler.weights) == len(dataset):
        wanted = torch.as_tensor(sampler.weights).nonzero().flatten().tolist()
        return dataset if len(wanted) == len(dataset) else torch_data.Subset(dataset, wanted)
    try:
        with _as_it_was(getattr(sampler, "generator", None)):
            return torch_data.Subset(dataset, sorted({operator.index(index) for index in sampler}))
    except TypeError:  # what it draws by are no numbers
        return None


@contextlib.contextmanager
def _as_it_was(generator: object) -> Iterator[None]:
    """Give somebody's generator, if there is one, its state back."""
    if not isinstance(generator, torch.Generator):
        yield
        return
    state = generator.get_state()
    try:
        yield
    finally:
        generator.set_state(state)


def _of_several_inputs(data: Any) -> bool:
    """Whether these are columns, of which the inputs are several: no data set of two examples looks like it."""
    if not isinstance(data, tuple | list) or len(data) != 2 or not isinstance(data[0], tuple | list | dict):
        return False
    columns = list(data[0].values() if isinstance(data[0], dict) else data[0])
    alike = [*columns, data[1]]
    return len(columns) > 1 and all(_is_array(each) and each.ndim for each in alike) and len({*map(len, alike)}) == 1


def _same_memory(tensor: Tensor, given: Any) -> bool:
    return tensor.data_ptr() == torch.as_tensor(given).data_ptr()


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


def _check_finite(inputs: Tensor, what: str, before: int) -> None:
    """Raise `ReLeQError` if one of a batch of inputs is not finite, behind so many others."""
    if not inputs.is_floating_point():
        return
    fine = inputs.isfinite().flatten(1).all(dim=1) if inputs.ndim > 1 else inputs.isfinite()
    if not fine.all():
        first, count = before + int(fine.logical_not().nonzero()[0]), int(fine.logical_not().sum())
        more = f", and {count - 1} more" if count > 1 else ""
        raise ReLeQError(f"example {first} of {what} has NaN or infinite inputs{more}; mend the data, or leave it out")


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
