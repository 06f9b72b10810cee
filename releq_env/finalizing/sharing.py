"""Pieces of work that several processes share: each is done once."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from filelock import Timeout

from releq_env.finalizing.folder import FinalFolder
from releq_env.finalizing.progress import Listener


class Piece(NamedTuple):
    """A retraining whose result is a row of a folder.

    Attributes:
        folder: The folder.
        name: Of the row's files, without suffix.
        said: What is under way, in words.
        epochs: How many it has.
        make: Does it; writes the row.
    """

    folder: FinalFolder
    name: str
    said: str
    epochs: int
    make: Callable[[], None]

    @property
    def finished(self) -> bool:
        """Whether it is done."""
        return self.folder.row(self.name) is not None


def make_all(pieces: Iterable[Piece], progress: Listener, wait: bool = True) -> None:
    """Do what is not done, and wait for what another process does; where that is killed, go on with it.

    Args:
        pieces: Unfinished when the progress was begun.
        progress: Told which one is under way, and what others have done.
        wait: Whether to wait; if not, what others do is theirs.
    """
    elsewhere = []
    for piece in pieces:
        try:
            _make(piece, progress, wait=False)
        except Timeout:
            elsewhere.append(piece)
    for piece in elsewhere if wait else ():
        progress.begin(f"waiting for {piece.said} of another process")
        _make(piece, progress, wait=True)


def _make(piece: Piece, progress: Listener, wait: bool) -> None:
    with piece.folder.locked(piece.name, wait):
        if piece.finished:
            progress.done_elsewhere(piece.said, piece.epochs)
        else:
            progress.begin(piece.said)
            piece.make()
