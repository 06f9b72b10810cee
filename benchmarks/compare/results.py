"""The files of a comparison: rows that are appended whole, and what is derived from them.

| file | what |
|---|---|
| `comparison.csv` | a row a run, the columns of every comparison; derived from those below |
| `comparison/runs.csv` | a row a run with its whole curve, appended the moment it is finished |
| `comparison/problems.csv` | a row a problem: optimum, random mean, Pareto front |
| `comparison/settings.json` | settings of each agent, and the machines |
"""

import contextlib
import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.compare import curves
from benchmarks.compare.facts import Facts, from_row
from benchmarks.compare.run import Row
from releq_env.errors import ReLeQError
from releq_env.files import replace_file

COLUMNS = (
    *("env", "algo", "seed", "reward", "budget", "distinct_evaluations", "best_reward", "regret"),
    *("at_50", "at_100", "at_300", "auc"),
)
"""Of `comparison.csv`. The last four are normalised: 0 is a random assignment, 1 the optimum."""

AT = (50, 100, 300)

Key = tuple[str, str, int]
"""Problem, agent, seed."""


class Results:
    """The files, shared with other processes that add to them.

    Args:
        output: The CSV file; the others are in the folder of its name without the suffix.

    Attributes:
        columns: Of the CSV file.
        output: As given.
        folder: Of the other files.
        rows: All finished runs, by key.
        facts: All problems, by name and reward.
        settings: Of every agent, by label.
        machines: On which runs were made.

    Raises:
        ReLeQError: If a file is damaged, or the folder's are lost.
    """

    columns: tuple[str, ...] = COLUMNS

    def __init__(self, output: Path) -> None:
        if output.suffix != ".csv":
            raise ReLeQError(f"--output {output} is not a .csv file; give one, e.g. {output.with_suffix('.csv')}")
        self.output, self.folder = output, output.with_suffix("")
        self.rows: dict[Key, Row] = {}
        self.facts: dict[tuple[str, str], Facts] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        self.machines: list[dict[str, Any]] = []
        self._read = 0
        self._runs = self.folder / "runs.csv"
        if output.exists() and output.read_text().count("\n") > 1 and not self._runs.exists():
            raise ReLeQError(f"{output} has rows and {self._runs} is not there; restore it, or give another --output")
        self.refresh()

    def refresh(self) -> None:
        """Read what other processes have added.

        Raises:
            ReLeQError: If a file is damaged.
        """
        problems, settings = self.folder / "problems.csv", self.folder / "settings.json"
        with _explained(self._runs):
            if self._runs.exists() and self._runs.stat().st_size > self._read:
                with self._runs.open("rb") as file:
                    file.seek(self._read)
                    whole = file.read().rpartition(b"\n")[0]  # a killed process may have left half a line
                lines = whole.decode().splitlines()
                if self._read == 0 and lines and lines.pop(0) != ",".join(Row._fields):
                    raise ValueError("other columns")
                self._read += len(whole) + (1 if whole else 0)
                for row in map(_row, csv.DictReader(lines, fieldnames=Row._fields)):
                    self.rows[row.env, row.algo, row.seed] = row
        with _explained(problems):
            if problems.exists():
                found = map(from_row, csv.DictReader(problems.read_text().splitlines()))
                self.facts |= {(each.env, each.reward): each for each in found}
        with _explained(settings):
            if settings.exists():
                content = json.loads(settings.read_text())
                self.settings, self.machines = content["agents"], content["machines"]

    def begin(self, facts: Iterable[Facts], settings: Mapping[str, dict[str, Any]], machine: Mapping[str, Any]) -> None:
        """Write down what is compared, before runs are added.

        Raises:
            ReLeQError: If runs that are there were made with another table, or with other settings.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / ".gitignore").write_text(".*\n")
        with self._held():
            self.refresh()
            for each in facts:
                before = self.facts.setdefault((each.env, each.reward), each)
                if math.isnan(before.uniform_reward):
                    self.facts[each.env, each.reward] = before._replace(uniform_reward=each.uniform_reward)
                if before.digest != each.digest or before[4:12] != each[4:12]:
                    self._refuse(f"{each.env} with another table or constraint", each.env, None)
                    self.facts[each.env, each.reward] = each
            for label, described in settings.items():
                before_settings = self.settings.setdefault(label, described)
                if before_settings != described:
                    differs = sorted(
                        name
                        for name in {*before_settings, *described}
                        if before_settings.get(name) != described.get(name)
                    )
                    self._refuse(f"{label} with other settings ({', '.join(differs)})", None, label)
                    self.settings[label] = described
            if dict(machine) not in self.machines:
                self.machines.append(dict(machine))
            rows = [each._asdict() for _, each in sorted(self.facts.items())]
            replace_file(self.folder / "problems.csv", _csv(Facts._fields, rows))
            content = {"agents": dict(sorted(self.settings.items())), "machines": self.machines}
            replace_file(self.folder / "settings.json", json.dumps(content, indent=1) + "\n")

    def append(self, row: Row) -> None:
        """Add a finished run: its line is on the disk, whole, when this returns."""
        with self._held():
            _mend(self._runs)
            line = _csv(Row._fields, [row._asdict()])
            if self._runs.exists() and self._runs.stat().st_size:
                line = line.partition("\n")[2]
            descriptor = os.open(self._runs, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self.refresh()

    def write(self) -> None:
        """Write the CSV file anew from the runs."""
        with self._held():
            self.refresh()
            replace_file(self.output, _csv(self.columns, [self.derived(row) for _, row in sorted(self.rows.items())]))

    def derived(self, row: Row) -> dict[str, Any]:
        """Return a row of the CSV file.

        Raises:
            ReLeQError: If the problem of the run is not there.
        """
        facts = self.of(row)
        curve = curves.unpack(row.curve)
        best = curve[-1][1]
        values = {f"at_{number}": float(curves.at(curve, [number])[0]) for number in AT}
        values["auc"] = curves.area(curve, row.budget)
        normalised = {name: f"{(value - facts.random_reward) / facts.scale:.6f}" for name, value in values.items()}
        return {
            **{name: getattr(row, name) for name in COLUMNS[:6]},
            "best_reward": f"{best:.9g}",
            "regret": f"{max(facts.optimum_reward - best, 0.0):.6g}",
            **normalised,
        }

    def of(self, row: Row) -> Facts:
        """Return what is known of the problem of a run.

        Raises:
            ReLeQError: If it is not there.
        """
        if (row.env, row.reward) not in self.facts:
            raise ReLeQError(
                f"{self.folder / 'problems.csv'} lacks {row.env}; run the comparison again, it mends that in a moment"
            )
        return self.facts[row.env, row.reward]

    def claim(self, key: Key) -> FileLock | None:
        """Return a lock on a run that is to be done, to be released; `None` if another process is at it."""
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / name, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            return None
        return lock

    def release(self, lock: FileLock) -> None:
        """Give a claim back and take its file away: that the run is done is seen from its row by then."""
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()

    def _refuse(self, what: str, env: str | None, label: str | None) -> None:
        """Raise if runs are there that this concerns."""
        made = sum((env in (None, key[0])) and (label in (None, key[1])) for key in self.rows)
        if made:
            raise ReLeQError(
                f"{self.output} holds {made} runs of {what}; give another --output, or delete them from {self._runs}"
            )

    def _held(self) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock")


def _row(line: Mapping[str, str]) -> Row:
    kinds: dict[str, Any] = Row.__annotations__
    row = Row(**{name: kinds[name](line[name]) for name in Row._fields})
    curves.unpack(row.curve)
    return row


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _mend(path: Path) -> None:
    """Cut off half a line at a file's end."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        whole = file.read() == b"\n"
    if not whole:
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReLeQError(
            f"{path} cannot be read ({type(error).__name__}: {error}); restore it, or give another --output"
        ) from error
