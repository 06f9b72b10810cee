"""How far the retrainings of an assignment are, and how long they will take."""

import sys
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm


class Progress:
    """A progress bar over epochs, and one line that says what to expect once an epoch is over.

    Args:
        label: What is finalized.
        shown: Whether to show anything.
    """

    def __init__(self, label: str, shown: bool) -> None:
        self._label, self._shown = label, shown
        self._left = 0
        self._said = False
        self._bar: tqdm[Any] = tqdm(disable=True)

    def expect(self, epochs: int) -> None:
        """Begin, with so many epochs to come, of all retrainings."""
        self._left = epochs
        shown = self._shown and epochs > 0
        self._bar = tqdm(total=epochs, desc=self._label, unit="epoch", disable=not shown, smoothing=0.05)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def begin(self, what: str) -> None:
        """Say which retraining is under way."""
        self._bar.set_description(f"{self._label}, {what}")

    def epoch_done(self, row: list[float], new: bool) -> None:
        """Count an epoch.

        Args:
            row: Its row of the history, see `Trained`.
            new: Whether it was trained now, not found on disk.
        """
        loss, accuracy, seconds = row
        self._left -= 1
        self._bar.set_postfix(loss=f"{loss:.4f}", validation=f"{accuracy:.2%}", refresh=False)
        self._bar.update()
        if new and self._shown and not self._said:
            self._said = True
            tqdm.write(expected(self._label, seconds, self._left), file=sys.stderr)

    def over_ways(self, ways: range) -> "tqdm[int]":
        """Show how far the teacher is, which is asked about every way in which inputs are augmented."""
        label = f"{self._label}, the teacher's outputs"
        shown = self._shown and len(ways) > 1
        return tqdm(ways, desc=label, unit="pass", disable=not shown, leave=False)

    def leave_out(self, epochs: int) -> None:
        """Say that so many epochs will not be trained."""
        self._left -= epochs
        self._bar.total = (self._bar.total or 0) - epochs
        self._bar.refresh()


def expected(label: str, seconds: float, epochs: int) -> str:
    """Return in words how long so many epochs take.

    Args:
        label: Of what.
        seconds: An epoch.
        epochs: How many are to come.
    """
    return f"{label}: an epoch takes {seconds:.1f} s, {epochs} are to come: about {duration(seconds * epochs)}"


def counted(number: int, what: str) -> str:
    """Return a number with what is counted, e.g. `"2 seeds"`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
