"""Where data, downloaded or computed files live when nothing else is said."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from releq_env.errors import ReLeQError


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` written out.

    Raises:
        ReLeQError: If nobody has that home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ReLeQError(f"the home folder in {os.fspath(path)!r} is not known; write the path out") from error


def cache_folder() -> Path:
    """Return `RELEQ_CACHE` if it is set, else the platform's cache folder for this package."""
    return expanded(os.environ.get("RELEQ_CACHE") or user_cache_path("releq_env", appauthor=False))


def data_folder(data_root: str | os.PathLike[str] | None = None) -> Path:
    """Return `data_root`, else `RELEQ_DATA`, else the folder `data` in the cache folder.

    Raises:
        ReLeQError: If `data_root` is not a path.
    """
    if data_root is not None and not isinstance(data_root, str | os.PathLike):
        raise ReLeQError(f"data_root={data_root!r} is not a path; give the folder of the data")
    return expanded(data_root or os.environ.get("RELEQ_DATA") or cache_folder() / "data")
