"""The folder of a run: what was asked for, every evaluation, the best assignment so far.

Everything that is finished is on disk the moment it is finished. The layout is rl-baselines3-zoo's, plus ours:

| file | what |
|---|---|
| `config.json` | settings, versions and everything the accuracies depend on |
| `evaluations.csv` | a row a distinct evaluation: what a resumed run is repeated from |
| `best.json`, `assignment.json` | the best assignment so far; its bitwidths by layer name |
| `0.monitor.csv` | a row an episode, as Stable-Baselines3's Monitor writes it |
| `probabilities.csv` | mean probability of each action by layer, a row a layer and rollout |
| `<id>.zip` | the trained agent, at the end (holds pickles: load only your own) |
| `<id>/args.yml`, `<id>/config.yml` | what rl-baselines3-zoo reads |
| `report.md`, `report.json`, `*.png` | the result |
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from agents.report.files import Table, explained, write, write_json
from agents.report.text import spaced
from agents.run.settings import Settings
from releq_env import locks
from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.rows import BEST, COLUMNS, parsed, recorded, row_of, whole_lines

_PATIENCE = 10.0  # seconds that repeating may take in any case


class Config(NamedTuple):
    """What a run was begun with: what must be the same when it goes on.

    Attributes:
        settings: What was asked for.
        fingerprint: What the accuracies depend on, `None` if that is unknown.
        known: What is known of it where it is not known in full.
        problem: What is decided, see `described`.
    """

    settings: Settings
    fingerprint: dict[str, Any] | None
    known: dict[str, Any] | None
    problem: dict[str, Any]


class RunFolder:
    """Keeps a run's results; a listener of its evaluator.

    Args:
        path: The folder.
        problem: What is decided: gives objective and cost.

    Attributes:
        path: The folder.
        rows: What stands in `evaluations.csv`, one dictionary a distinct evaluation.
        best: The row of the best assignment, or `None`.
    """

    def __init__(self, path: Path, problem: Problem) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self._problem = problem
        self._begun = time.monotonic()
        self._before = 0.0  # seconds of earlier parts
        self._to_repeat = 0  # evaluations; 0 once time counts

    @staticmethod
    def check_new(path: Path) -> None:
        """Raise `ReLeQError` if the folder already holds a run."""
        if (path / "config.json").exists():
            raise ReLeQError(f"{path} already holds a run; go on with --resume {path}, or give another --log-dir")

    @staticmethod
    @contextmanager
    def held(path: Path) -> Iterator[None]:
        """Make the folder if it is missing, and keep other processes from running in it.

        Raises:
            ReLeQError: If another process holds it, or it cannot be written.
        """
        busy = f"the run in {path} is under way in another process; wait for it, or stop it first"
        with locks.held(path / ".lock", busy, f"log folder {path}", "give another one with --log-dir"):
            yield

    @staticmethod
    def write_config(path: Path, config: Config, versions: Mapping[str, str], about: Mapping[str, Any]) -> None:
        """Write down what is asked for, for us and for rl-baselines3-zoo."""
        settings = config.settings
        content = {
            "settings": asdict(settings),
            "accuracy_depends_on": config.fingerprint,
            "known": config.known,
            "problem": config.problem,
            "about": about,
            "versions": versions,
        }
        hyperparams = {"n_envs": settings.n_envs, "n_timesteps": settings.timesteps, **settings.hyperparams}
        args = {name: getattr(settings, name) for name in ("algo", "env", "seed", "env_kwargs")}
        zoo = path / settings.env_name
        with explained(zoo):
            zoo.mkdir(exist_ok=True)
        write(zoo / "config.yml", yaml.safe_dump(hyperparams))
        write(zoo / "args.yml", yaml.safe_dump(args))
        write_json(path / "config.json", content)

    @staticmethod
    def read_config(path: Path) -> Config:
        """Return what an earlier run was begun with.

        Raises:
            ReLeQError: If there is no run in the folder.
        """
        try:
            config = json.loads((path / "config.json").read_text())
            fingerprint, known = config["accuracy_depends_on"], config.get("known")
            return Config(Settings(**config["settings"]), fingerprint, known, config["problem"])
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ReLeQError(
                f"{path} holds no run ({type(error).__name__}: {error}); give the folder (--log-dir) of an earlier one"
            ) from error

    @property
    def elapsed(self) -> float:
        """Seconds that the run has been under way; earlier parts count up to their last evaluation, repeating not."""
        return self._before + (0.0 if self.repeating else time.monotonic() - self._begun)

    @property
    def repeating(self) -> bool:
        """Whether the run still repeats what was recorded."""
        return self._to_repeat > 0

    def reached(self, distinct_evaluations: int) -> None:
        """Say how many were asked for: with all that was recorded among them, time counts again.

        It does, too, if repeating takes far longer than what is repeated has taken: then it is something else.
        """
        too_long = time.monotonic() - self._begun > 2.0 * self._before + _PATIENCE
        if distinct_evaluations >= self._to_repeat or too_long:
            self._go_on()

    def restore(self, mend: bool = True) -> list[Evaluation]:
        """Read and return what an earlier part of the run has recorded.

        Args:
            mend: Whether to cut off in the file a last line that is not whole; else it is left out only.

        Raises:
            ReLeQError: If the file is damaged.
        """
        table = self.path / "evaluations.csv"
        if not table.exists():
            return []
        try:
            text = table.read_text()
            complete = whole_lines(text)
            self.rows = list({row["bitwidths"]: row for row in parsed(complete)}.values())  # each counts once
            evaluations = [recorded(row) for row in self.rows]
            for row in self.rows:
                self._consider(row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ReLeQError(
                f"{table} is damaged ({type(error).__name__}: {error}); mend its lines or delete it and go on "
                f"with --resume {self.path}: what the cache holds is not retrained"
            ) from error
        if complete != text and mend:
            write(table, complete)
        if self.rows:
            self._before, self._to_repeat = self.rows[-1]["elapsed"], len(self.rows)
            self._begun = time.monotonic()
        return evaluations

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        """Record a distinct evaluation, and the best one if it is that."""
        self._go_on(evaluation.seconds if retrained else 0.0)  # nothing is left to repeat where something is new
        row = row_of(self._problem, evaluation, retrained, self.elapsed)
        self.rows.append(row)
        with Table(self.path / "evaluations.csv", list(COLUMNS), anew=False) as table:
            table.write([{**row, "bitwidths": spaced(evaluation.bitwidths)}])
        if self._consider(row):
            self.write_best(len(self.rows))

    def diverged(self) -> None:
        """Say that the run is not a repetition of what was recorded."""
        self._go_on()
        print(
            f"\n{self.path}: the agent asks for other assignments than were recorded (by another processor or another "
            "version of a library?); it goes on, and what was recorded counts, too",
            file=sys.stderr,
        )

    def write_best(self, distinct_evaluations: int, **more: Any) -> None:
        """Write `best.json`, and `assignment.json` if the best keeps `max_cost`."""
        assert self.best is not None
        best = {name: self.best[name] for name in BEST} | {"distinct_evaluations": distinct_evaluations} | more
        best["keeps_max_cost"] = self._problem.keeps_max_cost(best["bitwidths"])
        write_json(self.path / "best.json", best)
        if best["keeps_max_cost"]:
            write_json(self.path / "assignment.json", self._problem.by_module(best["bitwidths"]))

    def _go_on(self, seconds_ago: float = 0.0) -> None:
        """Let time count again, if it did not."""
        if self.repeating:
            self._to_repeat, self._begun = 0, time.monotonic() - seconds_ago

    def _consider(self, row: dict[str, Any]) -> bool:
        merit = self._problem.merit(recorded(row))
        better = self.best is None or merit > self._problem.merit(recorded(self.best))
        if better:
            self.best = row
        return better
