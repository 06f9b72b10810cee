"""Keeping other processes out of what one is writing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from releq_env.errors import ReLeQError


@contextmanager
def held(lock: Path, busy: str, what: object, mend: str) -> Iterator[None]:
    """Hold a lock, and make its folder if it is missing; a process that ends, however it does, gives it free.

    Args:
        lock: Its file.
        busy: What is said if another process holds it.
        what: What cannot be written, if it cannot.
        mend: What to do then.

    Raises:
        ReLeQError: In one line, if another process holds it, or it cannot be written.
    """
    file = FileLock(lock, blocking=False)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file.acquire()
    except Timeout:
        raise ReLeQError(busy) from None
    except OSError as error:
        raise ReLeQError(f"{what} cannot be written ({error.strerror or error}); {mend}") from error
    try:
        yield  # what is done meanwhile may fail for reasons of its own
    finally:
        file.release()
