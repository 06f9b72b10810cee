"""How far the retrainings of an assignment are, and how long they will take."""

import sys
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Protocol

from tqdm.auto import tqdm


class Listener(Protocol):
    """Is told how far the retrainings of a process are."""

    def begin(self, what: str) -> None:
        """Take notice of which one is under way."""

    def epoch_done(self, row: list[float], new: bool) -> None:
        """Count an epoch.

        Args:
            row: Its row of the history, see `Trained`.
            new: Whether it was trained now, not found on disk.
        """

    def done_elsewhere(self, what: str, epochs: int) -> None:
        """Take notice that another process has done a retraining of so many epochs, whether it told of them or not."""


class Progress(Listener):
    """A progress bar over epochs, and one line that says what to expect once an epoch is over.

    Args:
        label: What is finalized.
        shown: Whether to show anything.

    Attributes:
        left: How many epochs are to come.
    """

    def __init__(self, label: str, shown: bool) -> None:
        self._label, self._shown = label, shown
        self.left = 0
        self._said = False
        self._processes = 1
        self._elsewhere: Counter[str] = Counter()  # epochs of other processes, by what they retrain
        self._lock = threading.RLock()  # others are heard in a thread
        self._bar: tqdm[Any] = tqdm(disable=True)

    def expect(self, epochs: int, processes: int = 1) -> None:
        """Begin, with so many epochs to come, of all retrainings, which so many processes share."""
        self.left, self._processes = epochs, processes
        shown = self._shown and epochs > 0
        self._bar = tqdm(total=epochs, desc=self._label, unit="epoch", disable=not shown, smoothing=0.05)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def begin(self, what: str) -> None:
        self.begins(what)
        self._bar.set_description(f"{self._label}, {what}")

    def epoch_done(self, row: list[float], new: bool) -> None:
        loss, accuracy, seconds = row
        with self._lock:
            self.left -= 1
            self._bar.set_postfix(loss=f"{loss:.4f}", validation=f"{accuracy:.2%}", refresh=False)
            self._bar.update()
            if new and self._shown and not self._said:
                self._said = True
                self.say(expected(self._label, seconds, self.left, self._processes))

    def begins(self, what: str) -> None:
        """Take notice that any process begins with a retraining; another one may have died over it."""
        with self._lock:
            self.leave_out(-self._elsewhere.pop(what, 0))  # these are told again

    def heard(self, what: str, row: list[float], new: bool) -> None:
        """Count an epoch of another process.

        Args:
            what: It retrains.
            row: See `epoch_done`.
            new: See there.
        """
        with self._lock:
            self._elsewhere[what] += 1
            self.epoch_done(row, new)

    def done_elsewhere(self, what: str, epochs: int) -> None:
        with self._lock:
            self.leave_out(epochs - self._elsewhere[what])

    def say(self, line: str) -> None:
        """Say something beside the bar."""
        tqdm.write(line, file=sys.stderr)

    def over_ways(self, ways: range) -> "tqdm[int]":
        """Show how far the teacher is, which is asked about every way in which inputs are augmented."""
        label = f"{self._label}, the teacher's outputs"
        shown = self._shown and len(ways) > 1
        return tqdm(ways, desc=label, unit="pass", disable=not shown, leave=False)

    def leave_out(self, epochs: int) -> None:
        """Say that so many epochs will not be counted."""
        self.left -= epochs
        self._bar.total = (self._bar.total or 0) - epochs
        self._bar.refresh()


def expected(label: str, seconds: float, epochs: int, processes: int = 1) -> str:
    """Return in words how long so many epochs take.

    Args:
        label: Of what.
        seconds: An epoch.
        epochs: How many are to come.
        processes: That share them.
    """
    shared = "" if processes == 1 else f" of one core, shared by {processes} processes"
    return f"{label}: an epoch takes {seconds:.1f} s, {epochs} are to come: about {duration(seconds * epochs)}{shared}"


def counted(number: int, what: str) -> str:
    """Return a number with what is counted, e.g. `"2 seeds"`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
