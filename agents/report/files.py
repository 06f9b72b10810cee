"""Writing the files of a run, with an error that helps."""

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from releq_env.errors import ReLeQError
from releq_env.files import replace_file


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system says when a file of the run cannot be written into one line that helps."""
    try:
        yield
    except OSError as error:
        raise ReLeQError(
            f"{path} cannot be written ({os.strerror(error.errno or 0)}); mend that, by freeing the disk for one, "
            "and go on with --resume and the run's folder: what was finished before is kept"
        ) from error


def write(path: Path, text: str) -> None:
    """Write a file of the run in one step.

    Raises:
        ReLeQError: If it cannot be written.
    """
    with explained(path):
        replace_file(path, text)


def write_json(path: Path, content: Any) -> None:
    """Write a file of the run as JSON, in which a number that is none, such as NaN, is `null`.

    Raises:
        ReLeQError: If it cannot be written.
    """
    write(path, json.dumps(_known(content), indent=2, allow_nan=False) + "\n")


class Table:
    """A CSV file that is written row by row, each line whole and at once.

    Args:
        path: The file.
        columns: Names of its columns.
        anew: Whether to begin the file anew, not to go on at its end.
        comment: A line above the columns' names.
    """

    def __init__(self, path: Path, columns: Sequence[str], anew: bool = True, comment: str = "") -> None:
        self._path = path
        with explained(path):
            self._file = path.open("w" if anew else "a", newline="")
            self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")
            if self._file.tell() == 0:
                self._file.write(comment)
                self._writer.writeheader()
                self._file.flush()

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows."""
        with explained(self._path):
            self._writer.writerows(rows)
            self._file.flush()

    def __enter__(self) -> "Table":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with explained(self._path):
            self._file.close()


def _known(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _known(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_known(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
