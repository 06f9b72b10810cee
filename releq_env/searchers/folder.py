"""The folder of a search: what was asked for, every evaluation, the best assignment.

| file | what |
|---|---|
| `config.json` | settings, versions and everything the accuracies depend on |
| `evaluations.csv` | a row a distinct evaluation: what a resumed search is repeated from |
| `best.json`, `assignment.json` | the best assignment so far; its bitwidths by module name |
| `network.safetensors` | the quantized network, packed, once it was saved |
| `report.html` | the result, for people, likewise |

Every row is on disk the moment it is known.
"""

import csv
import importlib.metadata
import io
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.files import replace_file
from releq_env.problem import Problem
from releq_env.report.about import about

COLUMNS: dict[str, Callable[[str], Any]] = {
    "bitwidths": lambda text: tuple(map(int, text.split())),
    "accuracy": float,
    "relative_accuracy": float,
    "reward": float,
    "state_of_quantization": float,
    "average_bits": float,
    "weighted_bits": float,
    "retrained": int,
    "seconds": float,
    "elapsed": float,
}
"""Of `evaluations.csv`, and how each is read."""

_BEST = ("bitwidths", "reward", "accuracy", "relative_accuracy", "average_bits", "weighted_bits")


def settings(method: str, budget: int, seed: int, batch: int, num_layers: int) -> dict[str, Any]:
    """Return what was asked for, in the words of `python -m agents.train`."""
    return {
        "algo": method,
        "env": "releq_env:ReLeQ-v0",
        "env_kwargs": {},
        "timesteps": budget * num_layers,
        "schedule_timesteps": budget * num_layers,
        "budget": budget,
        "minutes": None,
        "seed": seed,
        "n_envs": batch,
        "hyperparams": {},
        "written_for": 1,
    }


class SearchFolder:
    """Keeps a search's results; a listener of its evaluator.

    Args:
        path: The folder.
        problem: What is searched.

    Attributes:
        rows: What stands in `evaluations.csv`, by assignment.
    """

    def __init__(self, path: Path, problem: Problem) -> None:
        self.path, self.rows = path, dict[tuple[int, ...], dict[str, Any]]()
        self._problem, self._begun, self._before = problem, time.monotonic(), 0.0
        self._best: Evaluation | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder if it is missing, and keep other processes from writing to it.

        Raises:
            ReLeQError: If another process holds it, or it cannot be written.
        """
        lock = FileLock(self.path / ".lock", blocking=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise ReLeQError(f"another process searches in {self.path}; wait for it, or stop it first") from None
        except OSError as error:
            raise ReLeQError(f"{self.path} cannot be written ({error.strerror}); give another folder") from error
        try:
            yield
        except OSError as error:
            raise ReLeQError(f"{self.path} cannot be written ({error.strerror}); what was finished is kept") from error
        finally:
            lock.release()

    def begin(self, asked: Mapping[str, Any]) -> list[Evaluation]:
        """Write what is asked for, or check that it is what an earlier part of the search was asked for.

        Args:
            asked: See `settings`.

        Returns:
            What the earlier part has recorded.

        Raises:
            ReLeQError: If there is another search in the folder, or a damaged file.
        """
        path = self.path / "config.json"
        config = config_of(self._problem, asked)
        if path.exists():
            try:
                before = json.loads(path.read_text())
                kept = [_compared(before), _compared(json.loads(json.dumps(config)))]
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise ReLeQError(
                    f"{path} holds no search ({type(error).__name__}: {error}); give another folder"
                ) from error
            if changed := sorted(name for name in kept[0] | kept[1] if kept[0].get(name) != kept[1].get(name)):
                raise ReLeQError(
                    f"{self.path} holds a search with another {', '.join(changed)}; give another folder, or the same "
                    "network, data and arguments"
                )
        replace_file(path, json.dumps(config, indent=2) + "\n")
        return self._restored()

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        """Write down an evaluation, and the best one if it is that."""
        if evaluation.bitwidths in self.rows:
            return
        row = row_of(self._problem, evaluation, retrained, self._before + time.monotonic() - self._begun)
        self._take(row)
        path = self.path / "evaluations.csv"
        text = table([row], header=not path.exists())
        with path.open("a", newline="") as file:
            file.write(text)
        self.write_best()

    def diverged(self) -> None:
        """What was recorded counts, too, if the search takes another course."""

    def write_best(self) -> None:
        """Write `best.json` and `assignment.json`."""
        if self._best is not None:
            write_best(self.path, self._problem, self.rows[self._best.bitwidths], len(self.rows))

    def _take(self, row: dict[str, Any]) -> None:
        self.rows[row["bitwidths"]] = row
        found = recorded(row)
        if self._best is None or self._problem.merit(found) > self._problem.merit(self._best):
            self._best = found

    def _restored(self) -> list[Evaluation]:
        path = self.path / "evaluations.csv"
        if not path.exists():
            return []
        text = path.read_text()
        complete = text[: text.rfind("\n") + 1]  # a kill may have cut the last line short
        try:
            for line in csv.DictReader(complete.splitlines()):
                row = {name: read(line[name]) for name, read in COLUMNS.items()}
                if not 0.0 <= row["accuracy"] <= 1.0:
                    raise ValueError(f"accuracy {row['accuracy']} is outside [0, 1]")
                self._problem.check(row["bitwidths"])
                self._take(row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ReLeQError(
                f"{path} is damaged ({type(error).__name__}: {error}); mend or delete it: what the cache holds is not "
                "retrained"
            ) from error
        if complete != text:
            replace_file(path, complete)
        self._before = max((row["elapsed"] for row in self.rows.values()), default=0.0)
        return [recorded(row) for row in self.rows.values()]


def config_of(problem: Problem, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `config.json` holds."""
    own = problem.own
    return {
        "settings": dict(asked),
        "accuracy_depends_on": problem.evaluator.fingerprint,
        "problem": {
            "layers": [layer.name for layer in problem.layers],
            "choices": [list(map(int, of_layer)) for of_layer in problem.choices],
            "costs": problem.costs.tolist(),
            "reward": problem.reward if isinstance(problem.reward, str) else None,
            "max_cost": None if problem.max_cost is None else float(problem.max_cost),
            "min_relative_accuracy": float(problem.min_relative_accuracy),
            "full_precision_accuracy": float(problem.full_precision_accuracy),
        },
        "own": None
        if own is None
        else {"left_out": own.left_out, "found": None if own.found is None else own.found.described()},
        "about": about(problem),
        "versions": _versions(),
    }


def row_of(problem: Problem, evaluation: Evaluation, retrained: bool, elapsed: float) -> dict[str, Any]:
    """Return a row of `evaluations.csv`."""
    terms = problem.terms(evaluation.bitwidths)
    return {
        "bitwidths": evaluation.bitwidths,
        "accuracy": evaluation.accuracy,
        "relative_accuracy": evaluation.relative_accuracy,
        "reward": problem.objective(evaluation),
        **{name: terms[name] for name in ("state_of_quantization", "average_bits", "weighted_bits")},
        "retrained": int(retrained),
        "seconds": float(evaluation.seconds),
        "elapsed": round(elapsed, 3),
    }


def table(rows: Sequence[Mapping[str, Any]], header: bool = True) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({**row, "bitwidths": " ".join(map(str, row["bitwidths"]))} for row in rows)
    return text.getvalue()


def write_best(path: Path, problem: Problem, row: Mapping[str, Any], distinct_evaluations: int) -> None:
    """Write `best.json`, and `assignment.json` if the best keeps `max_cost`."""
    best = {name: row[name] for name in _BEST} | {"distinct_evaluations": distinct_evaluations}
    best["reward"] = best["reward"] if math.isfinite(best["reward"]) else None
    best["keeps_max_cost"] = problem.keeps_max_cost(row["bitwidths"])
    replace_file(path / "best.json", json.dumps(best, indent=2) + "\n")
    if best["keeps_max_cost"]:
        replace_file(path / "assignment.json", json.dumps(problem.by_module(row["bitwidths"]), indent=2) + "\n")


def recorded(row: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation that a row records."""
    return Evaluation(row["bitwidths"], row["accuracy"], row["relative_accuracy"], row["seconds"])


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be the same when a search goes on: the budget and the versions may change."""
    asked = {name: config["settings"][name] for name in ("algo", "seed", "n_envs", "hyperparams")}
    return asked | config["problem"] | (config["accuracy_depends_on"] or {})


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("releq_env", "gymnasium", "numpy", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
