"""Data that are to take no memory: in files of this process, mapped.

Of what is mapped the operating system keeps in memory what there is room for. A file is never found
again by another run: what is there after a kill is nobody's, and is removed.
"""

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from releq_env.errors import ReLeQError
from releq_env.paths import cache_folder

_LOCK = ".lock"


class OwnFolder:
    """A folder in the cache folder for as long as this object lives, and at most as long as its process.

    Killed processes leave theirs: the next one that makes a folder removes them, known by a lock that is
    not held any more. A forked child removes nothing.

    Raises:
        ReLeQError: If it cannot be made.
    """

    def __init__(self) -> None:
        root = cache_folder() / "own_data"
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / _LOCK):  # a folder that is not locked yet would be taken for a dead one
                _remove_dead(root)
                self.path = Path(tempfile.mkdtemp(dir=root, prefix=f"{os.getpid()}-"))
                self._lock = FileLock(self.path / _LOCK, thread_local=False)
                self._lock.acquire()
        except OSError as error:
            raise ReLeQError(
                f"no files can be kept in {root} ({error.strerror}); point RELEQ_CACHE at a folder that can be written"
            ) from error
        self._end = weakref.finalize(self, _remove, self.path, self._lock, os.getpid())

    def remove(self) -> None:
        """Remove it now, with all that is in it."""
        self._end()


@contextlib.contextmanager
def new_folder() -> Iterator[OwnFolder]:
    """Make a folder, which is removed if what is done with it fails."""
    folder = OwnFolder()
    try:
        yield folder
    except BaseException:
        folder.remove()
        raise


@dataclass(frozen=True)
class InFile:
    """A tensor in a file.

    Attributes:
        path: The file.
        shape: Of the tensor, `(N, ...)`.
        dtype: Of the tensor.
        channels_last: Whether the file has it in the order `(N, H, W, C)`.
        folder: That the file is in, in the process that has made it; elsewhere `None`.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    channels_last: bool
    folder: OwnFolder | None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"folder": None}

    def tensor(self) -> Tensor:
        """Map it.

        Raises:
            ReLeQError: If the process that has made the file has ended.
        """
        if not self.path.exists():  # torch would make it
            raise ReLeQError(f"{self.path} is gone with the process that has read the data; read them again")
        # Shared: what is private counts as memory that may be needed.
        numbers = torch.from_file(str(self.path), shared=True, size=torch.Size(self.shape).numel(), dtype=self.dtype)
        if not self.channels_last:
            return numbers.view(self.shape)
        count, channels, height, width = self.shape
        return numbers.view(count, height, width, channels).permute(0, 3, 1, 2)


class Writer:
    """Writes a tensor to a new file, some rows after the others.

    Images get the layout in which they are computed with: channels last. Where there is one channel
    both are the same, and torch's own choice is kept.

    Args:
        folder: Where.
        what: What it is, for messages.
        images: Whether a tensor of four dimensions is one of images.
    """

    def __init__(self, folder: OwnFolder, what: str, images: bool) -> None:
        self._folder, self._what, self._images = folder, what, images
        self._rows, self._one, self._dtype = 0, torch.Size(), torch.float32
        with self._explained():
            descriptor, name = tempfile.mkstemp(dir=folder.path)
        self._path, self._file = Path(name), os.fdopen(descriptor, "wb")

    def append(self, rows: Tensor) -> None:
        """Write rows, shape `(n, ...)`.

        Raises:
            ValueError: If they have another shape or type than those before.
            ReLeQError: If the disk is full.
        """
        if not self._rows:
            self._one, self._dtype = rows.shape[1:], rows.dtype
        if (rows.shape[1:], rows.dtype) != (self._one, self._dtype):
            raise ValueError(f"{tuple(rows.shape[1:])} {rows.dtype} after {tuple(self._one)} {self._dtype}")
        ordered = rows.permute(0, 2, 3, 1) if self._channels_last else rows
        with self._explained():
            self._file.write(ordered.contiguous().flatten().view(torch.uint8).numpy().data)
        self._rows += len(rows)

    def finished(self) -> InFile:
        """Return what was written. Raises `ReLeQError` if the disk is full."""
        with self._explained():
            self._file.close()
        return InFile(self._path, (self._rows, *self._one), self._dtype, self._channels_last, self._folder)

    @property
    def _channels_last(self) -> bool:
        return self._images and len(self._one) == 3 and self._one[0] > 1

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ReLeQError(
                f"{self._what} does not fit into {self._folder.path.parent} ({error.strerror}); point RELEQ_CACHE at a "
                "larger disk, give fewer examples, or a larger data_limit= to keep them in memory"
            ) from error


def _remove_dead(root: Path) -> None:
    """Remove the folders whose process has ended."""
    for path in root.iterdir():
        if not path.is_dir():
            continue
        lock = FileLock(path / _LOCK)
        try:
            lock.acquire(blocking=False)
        except (Timeout, OSError):  # alive, or gone meanwhile
            continue
        shutil.rmtree(path, ignore_errors=True)
        lock.release()


def _remove(path: Path, lock: FileLock, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)
        lock.release(force=True)
