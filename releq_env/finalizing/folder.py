"""The folder of a finalized assignment: everything that is finished is in it the moment it is finished.

| file | what |
|---|---|
| `config.json` | what was asked for: task, network, quantizer, layers, bitwidths, recipe, precision, device |
| `seed-N.json`, `seed-N.safetensors` | the result of a seed, and its network, packed |
| `seed-N.checkpoint.safetensors` | where a seed stands that is under way |
| `control.json` | the full-precision networks that it is compared with |
| `test_reads.csv` | every network whose accuracy on test data was read, written down before it was |
| `test.json` | what was read, by test data and network |
| `result.json` | the result over all seeds |
| `network.safetensors` | the packed network of the seed that is best on validation |
| `assignment.json` | the bitwidths by layer name |
"""

import csv
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from releq_env.errors import ReLeQError
from releq_env.files import replace_file

READ_COLUMNS = ("time", "task", "data", "role", "quantizer", "bitwidths", "seed", "sha256")
"""Of `test_reads.csv`. Rows that were written before there was `data` say nothing there."""


class FinalFolder:
    """Reads and writes the files.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, asked: Mapping[str, Any], mend: str = "") -> None:
        """Make the folder if it is missing, and write down what is asked for, which has to be what stands there.

        Args:
            asked: Goes to `config.json`.
            mend: What else to do where the task is another one, for the message.

        Raises:
            ReLeQError: If the folder is of something else, or cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        asked = json.loads(json.dumps(asked))
        with self.locked("config"):
            config = self.read("config.json")
            if config is None:
                self.write("config.json", asked)
            elif missing := [name for name in asked if name not in config]:
                raise ReLeQError(
                    f"{self.path} was begun by an earlier version, which did not write down {', '.join(missing)}; give "
                    "another folder"
                )
            elif config != asked:
                names = [name for name in asked if config[name] != asked[name]]
                raise ReLeQError(
                    f"{self.path} was begun with another {', '.join(names) or 'question'}; give another folder"
                    + (mend if "task" in names else "")
                )

    @contextmanager
    def locked(self, name: str, wait: bool = True) -> Iterator[None]:
        """Keep other processes from doing the same; a process that ends, however it does, gives it free.

        Args:
            name: What is done.
            wait: Whether to wait for another process.

        Raises:
            Timeout: If another process is at it, and is not waited for.
            ReLeQError: If the folder cannot be written.
        """
        lock = FileLock(self.path / f".{name}.lock", blocking=wait)
        try:
            lock.acquire()
        except OSError as error:
            if isinstance(error, Timeout):
                raise
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file's content, `None` where there is none.

        Raises:
            ReLeQError: If it is damaged.
        """
        path = self.path / name
        try:
            content = json.loads(path.read_text())
            if not isinstance(content, dict):
                raise TypeError("it is no object")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise ReLeQError(f"{path} cannot be read ({error}); delete it and start again") from error
        return content

    def write(self, name: str, content: Mapping[str, Any] | bytes) -> None:
        """Write a file in one step, JSON if it is not bytes.

        Raises:
            ReLeQError: If it cannot be written.
        """
        payload = content if isinstance(content, bytes) else json.dumps(content, indent=2) + "\n"
        try:
            replace_file(self.path / name, payload)
        except OSError as error:
            raise self._unwritable(error) from error

    def row(self, name: str) -> dict[str, Any] | None:
        """Return the result of a network that is finished, if its file is the one that the result is of.

        Args:
            name: Of the two files, without suffix.
        """
        row = self.read(f"{name}.json")
        if row is None or "diverged" in row:
            return row
        path = self.path / f"{name}.safetensors"
        return row if path.exists() and sha256(path) == row.get("sha256") else None

    def note_read(self, row: Mapping[str, Any]) -> None:
        """Write down that a network's accuracy on test data is about to be read; once a network and data.

        Args:
            row: The columns of `test_reads.csv` but for the time.

        Raises:
            ReLeQError: If the file is damaged, or cannot be written.
        """
        rows = self._reads()
        if any((known.get("data"), known["sha256"]) == (row["data"], row["sha256"]) for known in rows):
            return
        rows.append({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())} | dict(row))
        text = io.StringIO()
        writer = csv.DictWriter(text, READ_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write("test_reads.csv", text.getvalue().encode())

    def _reads(self) -> list[dict[str, Any]]:
        path = self.path / "test_reads.csv"
        try:
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                columns, rows = set(reader.fieldnames or ()), list(reader)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, csv.Error) as error:
            raise ReLeQError(f"{path} cannot be read ({error}); give another folder") from error
        if columns | {"data"} != set(READ_COLUMNS) or any(None in row or None in row.values() for row in rows):
            raise ReLeQError(f"{path} is damaged: it is no list of test reads; give another folder")
        return rows

    def _unwritable(self, error: OSError) -> ReLeQError:
        return ReLeQError(
            f"{self.path} cannot be written ({os.strerror(error.errno or 0)}); free the disk, or give another folder, "
            "and start again: what was finished is kept"
        )


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
