"""Where data, downloaded or computed files live when nothing else is said."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return `RELEQ_CACHE` if it is set, else the platform's cache folder for this package."""
    return Path(os.environ.get("RELEQ_CACHE") or user_cache_path("releq_env", appauthor=False))


def data_folder(data_root: str | os.PathLike[str] | None = None) -> Path:
    """Return `data_root`, else `RELEQ_DATA`, else the folder `data` in the cache folder."""
    return Path(data_root or os.environ.get("RELEQ_DATA") or cache_folder() / "data").expanduser()
