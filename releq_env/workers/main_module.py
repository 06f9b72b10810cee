"""Whether processes that are started can import the script that starts them."""

import sys
from pathlib import Path

from releq_env.workers.loop import StartError

UNGUARDED = (
    "worker processes import the script that starts them: put what it does under "
    '`if __name__ == "__main__":`, or give workers=1'
)


def check_main(payload: bytes) -> None:
    """Check the main module, which Python has a spawned process import before anything else, if it is a file.

    Args:
        payload: What the process will be sent, pickled.

    Raises:
        StartError: If it is no file and defines what is sent, cannot be read, or guards nothing: what it does
            would be done again in the process.
    """
    main = sys.modules["__main__"]
    name, file = getattr(getattr(main, "__spec__", None), "name", None), getattr(main, "__file__", None)
    if file is None or (name is not None and name.endswith("__main__")):  # it is not imported
        if b"__main__" in payload:
            raise StartError(
                "worker processes cannot import what is defined in a notebook or on the command line; move the task's "
                "network and data to a module, or give workers=1"
            )
        return
    try:
        source = Path(file).read_bytes()
    except OSError:
        raise StartError(
            "worker processes import the script that starts them, and this one is no file; save it to one, or give "
            "workers=1"
        ) from None
    if b"__name__" not in source:
        raise StartError(UNGUARDED)
