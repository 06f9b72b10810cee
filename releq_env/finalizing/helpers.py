"""Processes that do a share of the retrainings beside this one."""

import contextlib
import multiprocessing
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from releq_env.finalizing.progress import Progress
from releq_env.retraining.data import Data
from releq_env.retraining.short import ShortRetraining
from releq_env.workers.loop import StartError
from releq_env.workers.main_module import check_main
from releq_env.workers.processes import sigint_blocked

Share = Callable[[Progress], None]
"""Does what nobody else is doing, until nothing is left."""
MakeShare = Callable[..., Share]

_PATIENCE = 5.0  # seconds that a helper is given to end by itself


class _Relay(Progress):
    """Tells another process of the epochs of this one.

    Args:
        connection: To the other process; where that has died, this one ends.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__("", False)
        self._connection = connection
        self._under_way = ""

    def begin(self, what: str) -> None:
        self._under_way = what

    def epoch_done(self, row: list[float], new: bool) -> None:
        try:
            self._connection.send((self._under_way, row, new))
        except OSError:
            raise SystemExit from None  # what is finished is on disk


@contextlib.contextmanager
def helped(
    count: int, engine: ShortRetraining, make: MakeShare, arguments: tuple[Any, ...], progress: Progress, asked: bool
) -> Iterator[None]:
    """Have others do a share of the work as long as this goes on.

    A helper that fails or dies is not missed: what it leaves behind is done here, and fails here if it must.

    Args:
        count: How many others.
        engine: Its data are shared in memory.
        make: Returns, in the other process, what does a share; at the top of a module.
        arguments: Of `make`; the engine, and what is sent beside it.
        progress: Told of the others' epochs.
        asked: Whether somebody has asked for so many; then it is an error if they cannot be started.

    Raises:
        StartError: If they cannot, and were asked for.
    """
    with contextlib.ExitStack() as stack:
        helpers: list[_Helper] = []
        try:
            if count:
                check_main(arguments)
            for _ in range(count):
                helpers.append(_Helper(engine.shared_data(), make, arguments))
                stack.callback(helpers[-1].end)
        except (StartError, pickle.PicklingError, AttributeError, TypeError) as error:
            if asked:
                raise StartError(f"no other process can help with the retraining: {error}") from error
            warnings.warn(f"going on in this process alone: {error}", stacklevel=2)
        if helpers:
            connections = [helper.connection for helper in helpers]
            threading.Thread(target=_listen, args=(connections, progress), daemon=True).start()
        yield


class _Helper:
    """The parent's side of a helper."""

    def __init__(self, data: Data | None, make: MakeShare, arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_help, args=(data, make, arguments, theirs), daemon=True, name="releq-helper"
        )
        with sigint_blocked():  # until the process ignores it itself
            self._process.start()
        theirs.close()  # so that the connection ends with the process

    def end(self) -> None:
        """End it: all is done, or nothing is wanted any more."""
        self._process.terminate()  # whatever it writes is written in one step
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _listen(connections: list[Connection], progress: Progress) -> None:
    """Pass on what helpers say, until all have ended."""
    speaking = list(connections)
    while speaking:
        ready = wait(speaking)
        for connection in [each for each in speaking if each in ready]:
            try:
                progress.heard(*connection.recv())
            except (EOFError, OSError):
                speaking.remove(connection)


def _help(data: Data | None, make: MakeShare, arguments: tuple[Any, ...], connection: Connection) -> None:
    """Do a share in a process of one's own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with contextlib.suppress(Exception):  # the parent will see it, too
        make(data, *arguments)(_Relay(connection))
