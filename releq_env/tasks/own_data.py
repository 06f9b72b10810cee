"""The data of a user's own network: whatever torch trains with, read once, into memory or into files."""

import copy
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from releq_env.errors import ReLeQError
from releq_env.tasks.datasets import Dataset, Examples
from releq_env.tasks.own_files import InFile, Writer, new_folder
from releq_env.tasks.own_outputs import Layout
from releq_env.tasks.own_reading import Part, Room, as_taken, is_ids, read

_BATCH = 256
_USED = "2"
"""How the examples are used; another one whenever the same data would be used in another way."""


@dataclass(frozen=True, eq=False)
class OwnData(Dataset):
    """A training and a validation part, and a test part if there is one, in memory or in files.

    Inputs are given to the network as they are: in float, or as whole numbers where they are token ids.

    Attributes:
        parts: Training, validation, and test or `None`.
        layout: How several targets an example are put together.
        room: The memory that is left for others.
    """

    parts: tuple[Part, Part, Part | None] = ()  # type: ignore[assignment]  # fields before have defaults
    layout: Layout = field(default_factory=lambda: Layout("tensor"))
    room: Room = field(default_factory=lambda: Room(0.0))

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __deepcopy__(self, memo: dict[int, Any]) -> "OwnData":
        return self  # it never changes

    @property
    def in_files(self) -> dict[str, Path]:
        """The files of inputs that are not in memory, by the name of their part."""
        named = zip(("train_data", "validation_data", "test_data"), self.parts, strict=True)
        return {name: part.files[0].path for name, part in named if part is not None and part.files is not None}

    def load(self, data_root: str | os.PathLike[str] | None = None) -> tuple[Examples, Examples]:
        """Return the training and the validation part."""
        return self.parts[0].examples, self.parts[1].examples

    def load_test(self, data_root: str | os.PathLike[str] | None = None) -> Examples:
        """Return the test part.

        Raises:
            ReLeQError: If there is none.
        """
        return self._test_part().examples

    def test_digest(self, data_root: str | os.PathLike[str] | None = None) -> str:
        """Return the SHA-256 of the test part. Raises `ReLeQError` if there is none."""
        return self._test_part().identity.split()[0]

    def fingerprint(self, data_root: str | os.PathLike[str] | None = None) -> str:
        """Return a hash of the training and the validation part."""
        return " ".join((_USED, *(part.identity for part in self.parts[:2])))

    def normalize(self, inputs: Tensor) -> Tensor:
        """Return the inputs as the network takes them: float32, or int64."""
        return as_taken(inputs)

    def converted(self, part: int, dtype: torch.dtype) -> Tensor | None:
        """Return a part's inputs as they are computed with, in a file, too; `None` where they are in memory.

        Args:
            part: Its number.
            dtype: The type of what is no token ids.

        Raises:
            ReLeQError: If the disk is full.
        """
        given = self.parts[part]
        if given is None or given.files is None:
            return None
        inputs = given.examples.inputs
        if inputs.dtype == dtype or not inputs.is_floating_point():
            return inputs
        kept: dict[tuple[int, torch.dtype], InFile] = vars(self).setdefault("_converted", {})
        if (part, dtype) not in kept:
            with new_folder() as folder:
                writer = Writer(folder, f"{self.name} in {dtype}", images=True)
                for rows in inputs.split(_BATCH):
                    writer.append(rows.to(dtype))
                kept[part, dtype] = writer.finished()
        return kept[part, dtype].tensor()

    def without_test(self) -> "OwnData":
        """Return the same without its test part; files of converted inputs are those of this one."""
        made = replace(self, parts=(*self.parts[:2], None))
        vars(made)["_converted"] = vars(self).setdefault("_converted", {})
        return made

    def with_test(self, test: Any) -> "OwnData":
        """Return the same with another test part.

        Args:
            test: See `own_data`.

        Raises:
            ReLeQError: As `own_data` does.
        """
        part, layout = read(test, "test_data", copy.copy(self.room))
        parts = {"train_data": self.parts[0], "validation_data": self.parts[1], "test_data": part}
        try:
            _check(parts, [self.layout, self.layout, layout])
        except ReLeQError:
            part.remove()
            raise
        return replace(self, parts=(*self.parts[:2], part))

    def _test_part(self) -> Part:
        if self.parts[2] is None:
            raise ReLeQError(f"{self.name} has no test data; give test_data= with the network")
        return self.parts[2]


def own_data(name: str, training: Any, validation: Any, test: Any, limit: float) -> OwnData:
    """Read a user's data.

    Args:
        name: Of the network.
        training: See `read`.
        validation: Likewise.
        test: Likewise, or `None`.
        limit: How many GB (1e9 bytes) all of them may have in memory; what is more goes to files.

    Raises:
        ReLeQError: If they are something else, or do not fit to one another, or on the disk.
    """
    room = Room(limit)
    given = {"train_data": training, "validation_data": validation}
    given |= {} if test is None else {"test_data": test}
    parts: dict[str, Part] = {}
    layouts = []
    try:
        for what, data in given.items():
            parts[what], layout = read(data, what, room)
            layouts.append(layout)
        _check(parts, layouts)
    except BaseException:
        for part in parts.values():
            part.remove()
        raise
    first, second = parts["train_data"], parts["validation_data"]
    of_one = tuple(first.examples.inputs.shape[1:])
    three = (first, second, parts.get("test_data"))
    count = len(second.examples.targets)
    return OwnData(name, of_one, _no_file, count, parts=three, layout=layouts[0], room=room)


def _check(parts: Mapping[str, Part], layouts: Sequence[Layout]) -> None:
    """Raise `ReLeQError` if parts are not of one kind, or the same."""
    examples = {what: part.examples for what, part in parts.items()}
    shapes = [(each.inputs.shape[1:], is_ids(each.inputs), each.targets.shape[1:]) for each in examples.values()]
    for what, shape, layout in zip(examples, shapes, layouts, strict=True):
        if shape == shapes[0] and layout.names != layouts[0].names:
            raise ReLeQError(
                f"an example of {what} has {layout.described} as targets, and one of train_data "
                f"{layouts[0].described}; give the same, in the same order, in all"
            )
        if shape != shapes[0] or layout.names != layouts[0].names:
            raise ReLeQError(
                f"an example of {what} has inputs of shape {tuple(shape[0])} and targets of shape {tuple(shape[2])}, "
                f"one of train_data {tuple(shapes[0][0])} and {tuple(shapes[0][2])}; give the same kind in all"
            )
    for (first, one), (second, other) in itertools.combinations(examples.items(), 2):
        if _equal(one.inputs, other.inputs):
            raise ReLeQError(f"{first} and {second} are the same; give {second.replace('_', ' ')} of its own")


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether inputs are the same, wherever they are kept."""
    if len(one) != len(other):
        return False
    batches = zip(one.split(_BATCH), other.split(_BATCH), strict=True)
    return all(torch.equal(as_taken(a), as_taken(b)) for a, b in batches)


def _no_file(root: Path, train: bool, download: bool) -> Examples:
    raise NotImplementedError("the data are read already")
