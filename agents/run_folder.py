"""The folder of a run: what was asked for, every evaluation, the best assignment so far.

Everything that is finished is on disk the moment it is finished, and a run that was killed goes on
from here. The layout is rl-baselines3-zoo's, plus ours:

| file | what |
|---|---|
| `config.json` | settings, versions and everything the accuracies depend on |
| `best.json` | the best assignment so far |
| `evaluations.csv` | a row a distinct evaluation |
| `probabilities.csv` | mean probability of each bitwidth by layer, a row a layer and update |
| `0.monitor.csv` | a row an episode (Stable-Baselines3's Monitor) |
| `<id>.zip` | the agent (Stable-Baselines3's format; holds pickles: load only your own) |
| `<id>/args.yml`, `<id>/config.yml` | what rl-baselines3-zoo reads |
| `report.md`, `report.json`, `*.png` | the result |
"""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from filelock import BaseFileLock, FileLock, Timeout

from agents.settings import Settings
from releq_env import ReLeQEnv, ReLeQError
from releq_env.cost import average_bits, weighted_bits
from releq_env.evaluation import CachedEvaluator, Evaluation
from releq_env.files import replace_file

COLUMNS = (
    "bitwidths",
    "accuracy",
    "relative_accuracy",
    "reward",
    "state_of_quantization",
    "average_bits",
    "weighted_bits",
    "retrained",
    "seconds",
)
_UNRECORDED = ".requested.json"


class RunFolder:
    """Keeps a run's results; a listener of its evaluator.

    Args:
        path: The folder.
        env: Any environment of the run: gives objective and cost.

    Attributes:
        rows: What stands in `evaluations.csv`, one dictionary a distinct evaluation.
        best: The row with the highest reward, ties by accuracy, or `None`.
    """

    def __init__(self, path: Path, env: ReLeQEnv) -> None:
        self.path = path
        self._env = env
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None

    @staticmethod
    def check_new(path: Path) -> None:
        """Raise `ReLeQError` if the folder already holds a run."""
        if (path / "config.json").exists():
            raise ReLeQError(f"{path} already holds a run; go on with --resume {path}, or give another --log-dir")

    @staticmethod
    def create(path: Path, settings: Settings, fingerprint: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        """Make the folder of a new run.

        Raises:
            ReLeQError: If it cannot be written.
        """
        try:
            (path / settings.env_name).mkdir(parents=True, exist_ok=True)
            config = {"settings": asdict(settings), "accuracy_depends_on": fingerprint, "versions": versions}
            hyperparams = {"n_envs": settings.n_envs, **settings.hyperparams}
            args = {
                "algo": settings.algo,
                "env": settings.env,
                "seed": settings.seed,
                "env_kwargs": settings.env_kwargs,
            }
            replace_file(path / settings.env_name / "config.yml", yaml.safe_dump(hyperparams))
            replace_file(path / settings.env_name / "args.yml", yaml.safe_dump(args))
            replace_file(path / "config.json", json.dumps(config, indent=2) + "\n")
        except OSError as error:
            raise ReLeQError(
                f"log folder {path} cannot be written ({error.strerror}); give another one with --log-dir"
            ) from error

    @staticmethod
    def read_config(path: Path) -> tuple[Settings, dict[str, Any]]:
        """Return the settings of an earlier run and what its accuracies depend on.

        Raises:
            ReLeQError: If there is no run in the folder.
        """
        try:
            config = json.loads((path / "config.json").read_text())
            return Settings(**config["settings"]), config["accuracy_depends_on"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ReLeQError(
                f"{path} holds no run ({type(error).__name__}: {error}); give --resume the --log-dir of an earlier one"
            ) from error

    def restore(self, evaluator: CachedEvaluator) -> None:
        """Read what an earlier part of the run has recorded, and hand it to the evaluator.

        An evaluation that was finished but not recorded when the run was killed is recorded now.
        """
        table = self.path / "evaluations.csv"
        if table.exists():
            try:
                text = table.read_text()
                complete = text[: text.rfind("\n") + 1]  # a kill may have cut the last line short
                self.rows = [_parsed(row) for row in csv.DictReader(complete.splitlines())]
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise ReLeQError(
                    f"{table} is damaged ({type(error).__name__}: {error}); mend its lines or delete it and go on "
                    f"with --resume {self.path}: what the cache holds is not retrained"
                ) from error
            if complete != text:
                replace_file(table, complete)
        for row in self.rows:
            self._consider(row)
        retrained = sum(row["retrained"] for row in self.rows)
        evaluator.remember([_evaluation(row) for row in self.rows], retrained)
        requested = self.path / _UNRECORDED
        recorded = {row["bitwidths"] for row in self.rows}
        for assignment in map(tuple, json.loads(requested.read_text()) if requested.exists() else []):
            evaluation = None if assignment in recorded else evaluator.lookup(assignment)
            if evaluation is not None:
                self.evaluated(evaluation, retrained=True)
                evaluator.remember([evaluation], retrained=1)
        if self.best is not None and not (self.path / "report.json").exists():
            self.write_best(len(self.rows))  # a kill may have come between the row and the best

    def lock(self) -> BaseFileLock:
        """Return a lock, held: two processes that write one run would record evaluations twice.

        Raises:
            ReLeQError: If another process holds it.
        """
        lock = FileLock(self.path / ".lock", blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise ReLeQError(
                f"the run in {self.path} is under way in another process; wait for it, or stop it first"
            ) from None
        return lock

    def requested(self, assignments: Sequence[tuple[int, ...]]) -> None:
        """Note which assignments are about to be retrained."""
        replace_file(self.path / _UNRECORDED, json.dumps(assignments))

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        """Record a distinct evaluation, and the best one if it is that."""
        row = {
            "bitwidths": evaluation.bitwidths,
            "accuracy": evaluation.accuracy,
            "relative_accuracy": evaluation.relative_accuracy,
            "reward": self._env.objective(evaluation),
            "state_of_quantization": self._env.state_of_quantization(evaluation.bitwidths),
            "average_bits": average_bits(evaluation.bitwidths),
            "weighted_bits": weighted_bits(evaluation.bitwidths, self._env.layers),
            "retrained": int(retrained),
            "seconds": round(evaluation.seconds, 3),
        }
        self.rows.append(row)
        append_rows(self.path / "evaluations.csv", COLUMNS, [{**row, "bitwidths": spaced(evaluation.bitwidths)}])
        if self._consider(row):
            self.write_best(len(self.rows))

    def write_best(self, distinct_evaluations: int, **more: Any) -> None:
        """Write `best.json`."""
        assert self.best is not None
        names = ("bitwidths", "reward", "accuracy", "relative_accuracy", "average_bits", "weighted_bits")
        best = {name: self.best[name] for name in names} | {"distinct_evaluations": distinct_evaluations} | more
        replace_file(self.path / "best.json", json.dumps(best, indent=2) + "\n")

    def _consider(self, row: dict[str, Any]) -> bool:
        better = self.best is None or merit(row) > merit(self.best)
        if better:
            self.best = row
        return better


def merit(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return what the best assignment has most of: reward, ties by accuracy."""
    return row["reward"], row["accuracy"]


def spaced(bitwidths: Sequence[int]) -> str:
    """Return an assignment as it stands in tables: `"2 1 1 4"`."""
    return " ".join(map(str, bitwidths))


def append_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a CSV file, each line written whole; begin it with the columns' names.

    Raises:
        ReLeQError: If the file cannot be written.
    """
    try:
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)
            file.flush()
    except OSError as error:
        raise ReLeQError(
            f"{path} cannot be written ({os.strerror(error.errno or 0)}); "
            f"mend that and go on with --resume {path.parent}: what was finished before is kept"
        ) from error


def _parsed(row: Mapping[str, str]) -> dict[str, Any]:
    parsed: dict[str, Any] = {name: float(row[name]) for name in COLUMNS if name not in ("bitwidths", "retrained")}
    return parsed | {"bitwidths": tuple(map(int, row["bitwidths"].split())), "retrained": int(row["retrained"])}


def _evaluation(row: Mapping[str, Any]) -> Evaluation:
    return Evaluation(row["bitwidths"], row["accuracy"], row["relative_accuracy"], row["seconds"])
