"""Whether processes that are started can import the script that starts them."""

import io
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from releq_env.workers.loop import StartError

UNGUARDED = (
    "worker processes import the script that starts them: put what it does under "
    '`if __name__ == "__main__":`, or give workers=1'
)


def check_main(sent: object) -> None:
    """Check the main module, which Python has a spawned process import before anything else, if it is a file.

    Args:
        sent: What the process will be sent. Data in it are not copied.

    Raises:
        StartError: If it is no file and defines what is sent, cannot be read, or guards nothing: what it does
            would be done again in the process.
    """
    main = sys.modules["__main__"]
    name, file = getattr(getattr(main, "__spec__", None), "name", None), getattr(main, "__file__", None)
    if file is None or (name is not None and name.endswith("__main__")):  # it is not imported
        if b"__main__" in _pickled(sent):
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


class _WithoutData(pickle.Pickler):
    """Pickles what has to be imported, and of tensors and arrays of numbers their class only."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor) or (isinstance(obj, np.ndarray) and not obj.dtype.hasobject):
            return id, (type(obj),)  # nobody reads it: any function will do
        return NotImplemented


def _pickled(sent: object) -> bytes:
    file = io.BytesIO()
    _WithoutData(file).dump(sent)
    return file.getvalue()
