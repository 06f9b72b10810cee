"""Trials of a tuning: a line each, written the moment it is finished; what to try next is a function of them."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from releq_env import locks
from releq_env.errors import ReLeQError, check_choice

LARGEST_SEED = 4_000_000
"""Of the suggestions: a sampler's seed, below 2**32, is 1000 times it and the number of the trial."""

RANGES = Path(__file__).with_name("ranges.yml")


def read_ranges(algo: str) -> dict[str, dict[str, Any]]:
    """Return what is tried of an agent, by name of the setting.

    Raises:
        ReLeQError: If there is nothing to tune.
    """
    ranges = yaml.safe_load(RANGES.read_text())
    check_choice("agent to tune", algo, ranges)
    return dict(ranges[algo])


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other processes from tuning into the same file.

    Raises:
        ReLeQError: If another one does, or its folder cannot be made.
    """
    busy = f"another process tunes into {path}; wait for it, or give another --out"
    with locks.held(path.with_suffix(".lock"), busy, path, "give another --out"):
        yield


class Trials:
    """The file of a tuning: a line that says what is tuned, and a line a trial.

    Args:
        path: The file; one of the same tuning is gone on with.
        about: What is tuned and how, JSON-able.

    Attributes:
        rows: The trials: `number`, `values` (empty: the untuned default), `score`, and more.

    Raises:
        ReLeQError: If the file is another tuning's, or damaged.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        self.rows: list[dict[str, Any]] = []
        known = json.loads(json.dumps(about))
        if path.exists():
            text = path.read_text()
            whole = text[: text.rfind("\n") + 1]  # a kill may have cut the last line short
            try:
                header, *self.rows = map(json.loads, whole.splitlines()) if whole else [known]
                if not isinstance(header, dict) or not all(map(_is_trial, self.rows)):
                    raise ValueError("a line is no trial")
            except ValueError as error:
                raise ReLeQError(f"{path} is damaged ({error}); mend its lines or give another --out") from error
            if header != known:
                differing = sorted(name for name in {*known, *header} if known.get(name) != header.get(name))
                raise ReLeQError(f"{path} is a tuning with another {', '.join(differing)}; give another --out")
            if whole != text:
                os.truncate(path, len(whole.encode()))
        if not path.exists() or not path.stat().st_size:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(known)

    @property
    def best(self) -> dict[str, Any]:
        """The trial with the highest score, of several the first."""
        return max(self.rows, key=lambda row: row["score"])

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a finished trial."""
        self.rows.append(dict(row))
        self._append(row)

    def suggest(self, ranges: Mapping[str, Mapping[str, Any]], seed: int) -> dict[str, Any]:
        """Return what to try next: first the untuned default, then what Optuna's TPE suggests after all trials.

        It depends on the trials, the ranges and the seed alone, not on where a tuning was interrupted.
        """
        if not self.rows:
            return {}
        import optuna  # an extra

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        distributions = {name: _distribution(optuna, of_name) for name, of_name in ranges.items()}
        sampler = optuna.samplers.TPESampler(seed=1000 * seed + len(self.rows), n_startup_trials=10)
        study = optuna.create_study(sampler=sampler, direction="maximize")
        for row in self.rows:
            if row["values"]:  # the default may lie outside the ranges
                study.add_trial(
                    optuna.create_trial(params=row["values"], distributions=distributions, value=row["score"])
                )
        return dict(study.ask(distributions).params)

    def _append(self, content: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(content) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _is_trial(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("values"), dict) and isinstance(row.get("score"), int | float)


def _distribution(optuna: Any, of_name: Mapping[str, Any]) -> Any:
    if "choices" in of_name:
        return optuna.distributions.CategoricalDistribution(of_name["choices"])
    make: Callable[..., Any] = (
        optuna.distributions.IntDistribution if of_name.get("whole") else optuna.distributions.FloatDistribution
    )
    return make(of_name["low"], of_name["high"], log=bool(of_name.get("log")))
