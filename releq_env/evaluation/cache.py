"""An SQLite file of evaluations, shared by every process and every run on a machine."""

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from releq_env.errors import ReLeQError
from releq_env.paths import cache_folder, expanded

SCHEMA_VERSION = 1
_HEADER = b"SQLite format 3\x00"
_WAIT_SECONDS = 60.0
_OF_PARENTS: list[sqlite3.Connection | None] = []
_MEND = "name another file with cache=, or use cache=None to keep results in memory"


def default_cache() -> Path:
    """Return the cache file that is used when none is named."""
    return cache_folder() / "evaluations.sqlite"


class Keys:
    """The keys of evaluations: hashes of everything that their accuracies depend on.

    Args:
        fingerprint: Everything but the bitwidths, JSON-able. Hashed once.
    """

    def __init__(self, fingerprint: Mapping[str, object]) -> None:
        self._begun = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode())

    def __call__(self, bitwidths: Sequence[int]) -> str:
        """Return the key of an assignment."""
        whole = self._begun.copy()
        whole.update(",".join(map(str, bitwidths)).encode())
        return whole.hexdigest()


class EvaluationCache:
    """Accuracies by key, on disk the moment they are known.

    Safe with many processes and threads; kill -9 loses nothing that `put` returned from. A damaged
    database is set aside under another name, with a warning, and a new one is begun.

    Args:
        path: The database file; made if it is missing.

    Raises:
        ReLeQError: If the file is something else than a database, or from a newer version of this
            package, or its folder cannot be written.
    """

    _connection: sqlite3.Connection | None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path) or Path(path).is_dir():
            raise ReLeQError(f"cache={path!r} is not a file's path; {_MEND}")
        self.path = expanded(path).absolute()  # it is opened again, perhaps in another folder
        if self.path.is_symlink():  # SQLite's companions and the lock stand beside the file itself
            self.path = Path(os.path.realpath(self.path))  # which takes a circle of links, unlike Path.resolve
        self._begin_here()
        self._open()

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:  # or a constructor that failed has made none
            self.close()

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]  # a connection does not cross processes

    def get(self, key: str) -> tuple[float, float] | None:
        """Return accuracy and seconds, or `None` if the key is not there, or damaged."""
        with self._explained():
            row = (
                self._connected().execute("SELECT accuracy, seconds FROM evaluations WHERE key = ?", (key,)).fetchone()
            )
        if row is None or not all(isinstance(value, float) for value in row) or not 0.0 <= row[0] <= 1.0:
            return None  # not there, or damaged: measured again
        return row

    def put(self, key: str, bitwidths: Sequence[int], accuracy: float, seconds: float) -> None:
        """Keep an evaluation. The first one that was kept under a key stays, unless it is damaged."""
        with self._explained(), self._connected() as transaction:
            transaction.execute(
                "INSERT INTO evaluations VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "accuracy = excluded.accuracy, seconds = excluded.seconds "
                "WHERE typeof(accuracy) != 'real' OR typeof(seconds) != 'real' OR accuracy NOT BETWEEN 0 AND 1",
                (key, " ".join(map(str, bitwidths)), accuracy, seconds, time.time()),
            )

    def __len__(self) -> int:
        with self._explained():
            return int(self._connected().execute("SELECT COUNT(*) FROM evaluations").fetchone()[0])

    def close(self) -> None:
        """Close the file. It is opened again when it is needed."""
        with self._alone():
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _begin_here(self) -> None:
        self._connection = None
        self._lock = threading.RLock()
        self._process = os.getpid()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads out. A forked process leaves its parent's connection and lock alone."""
        if self._process != os.getpid():
            _OF_PARENTS.append(self._connection)  # kept: closing it would drop the parent's locks on the file
            self._begin_here()
        with self._lock:
            yield

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One process at a time: two that find the same damaged file must not both set it aside.
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_WAIT_SECONDS):
                if not self.path.exists():  # what is left beside it is of a file that somebody has removed
                    self._remove_companions()
                try:
                    version = self._begin()
                except sqlite3.OperationalError:  # locked, disk full, read-only: the file is not at fault
                    raise
                except sqlite3.DatabaseError as error:
                    self._set_aside(error)
                    version = self._begin()
        except (sqlite3.Error, OSError) as error:
            raise ReLeQError(f"cache {self.path} cannot be written ({error}); {_MEND}") from error
        if version > SCHEMA_VERSION:
            self.close()
            raise ReLeQError(
                f"cache {self.path} has schema {version}, from a newer releq_env (this one knows {SCHEMA_VERSION}); "
                f"upgrade releq_env, or {_MEND}"
            )

    def _begin(self) -> int:
        """Connect, check the file and make what is missing; return the schema's version."""
        connection = sqlite3.connect(self.path, timeout=_WAIT_SECONDS, check_same_thread=False)
        self._connection = connection
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            return version
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables - {"evaluations"}:
            self.close()
            raise ReLeQError(f"cache {self.path} is another program's database; {_MEND}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS evaluations "
                "(key TEXT PRIMARY KEY, bitwidths TEXT, accuracy REAL, seconds REAL, created REAL) WITHOUT ROWID"
            )
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._opened = _identity(self.path)
        return SCHEMA_VERSION

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        self.close()
        # Only SQLite may open a file that it uses: closing it drops all locks that this process has on it.
        # Here it is damaged, or another program's.
        with self.path.open("rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                raise ReLeQError(f"cache {self.path} is not an SQLite database; {_MEND}") from error
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
        self.path.rename(aside)
        self._remove_companions()
        warnings.warn(
            f"cache {self.path} is damaged ({error}); it was moved to {aside} and a new one begun", stacklevel=4
        )

    def _remove_companions(self) -> None:
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and _identity(self.path) != self._opened:
            self.close()  # somebody has removed the file: what is kept would be lost with it
        if self._connection is None:
            self._open()
        assert self._connection is not None
        return self._connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        with self._alone():
            try:
                yield
            except sqlite3.Error as error:
                raise ReLeQError(
                    f"cache {self.path} failed ({error}); free the disk or name another file with cache=; "
                    "what was finished before is in it"
                ) from error


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of that name; `None` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
