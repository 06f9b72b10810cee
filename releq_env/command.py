"""How a command ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium as gym

from releq_env.errors import ReLeQError


@contextmanager
def ends_in_one_line(stopped: str = "") -> Iterator[None]:
    """Make one line `error: ...` and exit status 1 of what a user can mend, and status 130 of Ctrl-C.

    Args:
        stopped: What is said after Ctrl-C.
    """
    try:
        yield
    except (ReLeQError, gym.error.Error, OSError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    except KeyboardInterrupt:
        if stopped:
            print(f"\n{stopped}", file=sys.stderr)
        raise SystemExit(130) from None
