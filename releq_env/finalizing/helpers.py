"""Processes that do a share of the retrainings beside this one."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from releq_env.errors import ReLeQError
from releq_env.finalizing.progress import Listener, Progress
from releq_env.retraining.data import Data
from releq_env.workers.loop import StartError
from releq_env.workers.main_module import UNGUARDED, check_main
from releq_env.workers.processes import UNGUARDED_STATUS, WORKER, sigint_blocked

_PATIENCE = 5.0  # seconds that a helper is given to end by itself
_UP_TO_USER = 5  # frames, from where it is said that there are no helpers


class MakeShare(Protocol):
    """A function at the top of a module that returns what does a share: what nobody else is doing, until all is done.

    It is called in another process, with the data in memory that processes share (`None`: it loads its own) and with
    what was sent.
    """

    def __call__(self, data: Data | None, *sent: Any) -> Callable[[Listener], None]: ...


class _Relay(Listener):
    """Tells another process of the epochs of this one.

    Args:
        connection: To the other process; where that has died, this one ends.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._under_way = ""

    def begin(self, what: str) -> None:
        self._under_way = what
        self._send("begins", what)

    def epoch_done(self, row: list[float], new: bool) -> None:
        self._send("heard", self._under_way, row, new)

    def done_elsewhere(self, what: str, epochs: int) -> None:
        """That is the other process's to find out."""

    def failed(self, error: Exception) -> None:
        """Say why this process ends."""
        self._send("failed", f"{type(error).__name__}: {error}".splitlines()[0])

    def _send(self, *message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:
            raise SystemExit from None  # what is finished is on disk


@contextlib.contextmanager
def helped(
    count: int, make: MakeShare, data: Callable[[], Data | None], sent: tuple[Any, ...], progress: Progress, asked: bool
) -> Iterator[int]:
    """Have others do a share of the work as long as this goes on; yields how many there are.

    A helper that fails or dies is not missed: what it leaves behind is done here, and fails here if it must.

    Args:
        count: How many others.
        make: Makes a share of what is sent.
        data: Returns those that are shared in memory.
        sent: To the others.
        progress: Told of the others' epochs.
        asked: Whether somebody has asked for so many; then it is an error if they cannot be started.

    Raises:
        StartError: If they cannot, and were asked for.
    """
    helpers: list[_Helper] = []
    try:
        try:
            if count:
                check_main(sent)
            for _ in range(count):
                helpers.append(_Helper(data(), make, sent))
        except Exception as error:  # of what is sent, of the memory that is shared, of the system
            if asked:
                raise StartError(f"no other process can help with the retraining: {error}") from error
            alone = "alone" if not helpers else f"and {len(helpers)} more"
            warnings.warn(f"going on in this process {alone}: {error}", stacklevel=_UP_TO_USER)
        if helpers:
            threading.Thread(target=_listen, args=(helpers, progress), daemon=True).start()
        yield len(helpers)
    finally:
        for helper in helpers:
            helper.end()


class _Helper:
    """The parent's side of a helper.

    Attributes:
        connection: What it says; ends with it.
    """

    def __init__(self, data: Data | None, make: MakeShare, sent: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_help, args=(data, make, sent, theirs), daemon=True, name=WORKER)
        try:
            with sigint_blocked():  # until the process ignores it itself
                self._process.start()
        finally:
            theirs.close()  # so that the connection ends with the process
        self._ended = False

    def end(self) -> None:
        """End it: all is done, or nothing is wanted any more."""
        self._ended = True
        self._process.terminate()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def why_it_ended(self) -> str | None:
        """Return what is to be said of it, once its connection has ended."""
        if not self._ended:
            self._process.join(_PATIENCE)
        status = self._process.exitcode
        if self._ended or status in (0, None):  # None: it is about to end, or `end` has seen it first
            return None
        return UNGUARDED if status == UNGUARDED_STATUS else f"it has ended with exit status {status}"


def _listen(helpers: list[_Helper], progress: Progress) -> None:
    """Pass on what helpers say, until all have ended: one that nobody hears would stand still."""
    speaking: dict[Any, _Helper] = {helper.connection: helper for helper in helpers}
    while speaking:
        ready: list[Any] = wait(list(speaking))
        for connection in ready:
            said: list[Any]
            try:
                kind, *said = connection.recv()
            except Exception:  # it has ended, or says what nobody understands
                connection.close()
                why = speaking.pop(connection).why_it_ended()
                kind, said = ("failed", [why]) if why is not None else ("", [])
            with contextlib.suppress(Exception):  # of a bar that cannot be shown
                if kind == "failed":
                    progress.say(f"a process that helped with the retraining is lost, the others go on: {said[0]}")
                elif kind:
                    getattr(progress, kind)(*said)


def _help(data: Data | None, make: MakeShare, sent: tuple[Any, ...], connection: Connection) -> None:
    """Do a share in a process of one's own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # nothing half written is left behind
    threading.Thread(target=_end_with_parent, daemon=True).start()
    relay = _Relay(connection)
    try:
        make(data, *sent)(relay)
    except Exception as error:
        relay.failed(error)


def _end_with_parent() -> None:
    """Wait for the parent's end, however it comes about: an epoch may take long, and its lock others need."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def check_workers(workers: int | None, known: bool) -> int | None:
    """Return how many processes may train at most; `None`: one a core where that saves time.

    Args:
        workers: As asked for.
        known: Whether another process can tell what is retrained from others.

    Raises:
        ReLeQError: If so many cannot.
    """
    if workers == 1 or multiprocessing.current_process().daemon:
        return 1  # a daemon may have no children
    if workers is None:
        nested = multiprocessing.parent_process() is not None  # there are others beside it anyway
        return None if known and not nested else 1
    if not known:
        raise ReLeQError(
            f"workers={workers} is not accepted for a loss, metric or quantizer that other processes cannot tell from "
            "others; give the task a cache_key= that stands for them, or workers=1"
        )
    return workers
