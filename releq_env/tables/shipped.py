"""The tables that come with the package, by name."""

import os
from pathlib import Path

from releq_env.errors import ReLeQError

DATA = Path(__file__).parent / "data"
TABLES: dict[str, str] = {
    "digits": "--task digits --bits 1-8 --seeds 0-4",
    "mnist": "--task mnist --bits 1-8 --seeds 0,1",
    "fashion-mnist": "--task fashion-mnist --bits 1-8 --seeds 0",
    "cifar10": "--task cifar10 --bits 1,2,3,4,5,6,8 --seeds 0",
    "mnist-wrpn": "--task mnist --quantizer wrpn --bits 2,3,4,5,8 --seeds 0,1",
    "cifar10-wrpn": "--task cifar10 --quantizer wrpn --bits 2,3,4,5,8 --seeds 0",
}
"""Name -> with what `benchmarks.tables.build` makes it."""


def table_path(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a table.

    Args:
        name_or_path: A name in `TABLES`, or a path.

    Raises:
        ReLeQError: If there is none.
    """
    if not isinstance(name_or_path, str | os.PathLike) or not os.fspath(name_or_path):
        raise ReLeQError(f"table={name_or_path!r} is neither a name nor a path; {_accepted()}")
    if name_or_path in TABLES:
        path = DATA / f"{name_or_path}.npz"
        if not path.exists():
            build = f"python -m benchmarks.tables.build {TABLES[str(name_or_path)]} --out {name_or_path}.npz"
            raise ReLeQError(
                f"the table {name_or_path!r} does not come with this version of releq_env; "
                f"build it in a checkout ({build}) and give its path as table="
            )
        return path
    try:
        path = Path(name_or_path).expanduser()
        there = path.is_file()
    except (OSError, RuntimeError):  # too long a name, a user's home that is not there
        there = False
    if not there:
        raise ReLeQError(f"there is no table {os.fspath(name_or_path)!r}; {_accepted()}")
    return path


def _accepted() -> str:
    return f"give the path of an .npz file, or one of: {', '.join(TABLES)}"
