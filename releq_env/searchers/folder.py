"""The folder of a search: what was asked for, every evaluation, the best assignment.

| file | what |
|---|---|
| `config.json` | settings, versions and everything the accuracies depend on, or what is known of it |
| `evaluations.csv` | a row a distinct evaluation: what a resumed search is repeated from |
| `best.json`, `assignment.json` | the best assignment, and if the search is `finished`; its bitwidths by module name |
| `network.safetensors` | the quantized network, packed, once it was saved |
| `report.html` | the result, for people, likewise |

Every row is on disk the moment it is known.
"""

import contextlib
import csv
import importlib.metadata
import io
import json
import math
import platform
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym

from releq_env import locks
from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.files import replace_file
from releq_env.problem import Problem
from releq_env.report.about import about
from releq_env.searchers.rows import BEST, COLUMNS, described, parsed, recorded, row_of, whole_lines

_ASKED = 20  # assignments, repeats among them, for each that is new: where `agents.train` would end
_ROUNDING = 1e-9  # of a reward: another machine may compute its last digits differently


def settings(method: str, budget: int, seed: int, batch: int, problem: Problem) -> dict[str, Any]:
    """Return what was asked for, in the words of `python -m agents.train`."""
    env, env_kwargs = _environment(problem)
    return {
        "algo": method,
        "env": f"releq_env:{env}",
        "env_kwargs": env_kwargs,
        "timesteps": _ASKED * budget * problem.num_layers,
        "schedule_timesteps": _ASKED * budget * problem.num_layers,
        "budget": budget,
        "minutes": None,
        "seed": seed,
        "n_envs": batch,
        "hyperparams": {},
        "written_for": 1,
    }


def _environment(problem: Problem) -> tuple[str, dict[str, Any]]:
    """Return the id and arguments of the environment over a problem: a built-in task's own, else the general one."""
    task = builtin_task(problem)
    ids = [] if task is None else [each.id for each in gym.registry.values() if each.kwargs.get("problem") == task]
    if not ids:
        return "ReLeQ-v0", {}
    engine: Any = problem.evaluator.source.retraining  # type: ignore[attr-defined]  # there is one
    given = {
        "bitwidths": [list(map(int, of_layer)) for of_layer in problem.choices],
        "quantizer": problem.quantizer,
        "reward": problem.reward if isinstance(problem.reward, str) else None,
        "cost": problem.cost,
        "max_cost": None if problem.max_cost is None else float(problem.max_cost),
        "min_relative_accuracy": float(problem.min_relative_accuracy),
        "retrain_images": engine.retrain_images,
        "retrain_seed": engine.retrain_seed,
        "data_root": None if engine.data_root is None else str(engine.data_root),
        "device": str(engine.device),
        "precision": "bf16" if str(engine.dtype) == "torch.bfloat16" else "fp32",
    }
    return ids[0], {name: value for name, value in given.items() if value is not None}


def builtin_task(problem: Problem) -> str | None:
    """Return the name of the built-in task that a problem's network is of, or `None`."""
    engine: Any = getattr(problem.evaluator.source, "retraining", None)
    if engine is None:
        return None
    from releq_env.tasks import TASKS  # only now: it needs torch

    name: str = engine.task.name
    return name if TASKS.get(name) is engine.task else None


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

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder if it is missing, and keep other processes from writing to it.

        Raises:
            ReLeQError: If another process holds it, or it cannot be written.
        """
        busy = f"another process searches in {self.path}; wait for it, or stop it first"
        with locks.held(self.path / ".lock", busy, self.path, "give another folder"):
            yield

    def begin(self, asked: Mapping[str, Any]) -> list[Evaluation]:
        """Write what is asked for, or check that it is what an earlier part of the search was asked for.

        Args:
            asked: See `settings`.

        Returns:
            What the earlier part has recorded.

        Raises:
            ReLeQError: If there is another search in the folder, or a damaged file.
        """
        config = checked_config(self.path, self._problem, asked)
        found = self._restored()
        self._write_config(config)
        if asked["budget"] > len(self.rows):
            self._write_best()  # it is not finished any more
        return found

    def complete(self, asked: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> None:
        """Write down the evaluations of a search that the folder has not, and the best of all.

        Args:
            asked: As in `begin`.
            evaluations: All of them.

        Raises:
            ReLeQError: As from `begin`, or if the folder has others, too: the search in it has gone on since.
        """
        config = checked_config(self.path, self._problem, asked)
        rows = self.path / "evaluations.csv"
        if rows.exists() and not (self.path / "config.json").exists():
            raise ReLeQError(f"{rows} is of a search that is not known; give another folder")
        self._restored()
        if newer := len(self.rows.keys() - {each.bitwidths for each in evaluations}):
            raise ReLeQError(
                f"the search in {self.path} has gone on since: of its {len(self.rows)} evaluations this result lacks "
                f"{newer}; save the newer result, or give another folder"
            )
        evaluator = self._problem.evaluator
        missing = [each for each in evaluations if each.bitwidths not in self.rows]
        if missing:
            self._write_config(config)
        for each in missing:
            self._add(row_of(self._problem, each, evaluator.has_retrained(each.bitwidths), self._before))
        self.end()

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        """Write down an evaluation, and the best one if it is that."""
        if evaluation.bitwidths in self.rows:
            return
        self._add(row_of(self._problem, evaluation, retrained, self._before + time.monotonic() - self._begun))
        self._write_best()

    def diverged(self) -> None:
        """What was recorded counts, too, if the search takes another course."""

    def end(self) -> None:
        """Write down that the search has come to its end, which may be before its budget."""
        self._write_best(finished=True)

    def _write_best(self, finished: bool = False) -> None:
        """Write `best.json`, and `assignment.json` if the best keeps `max_cost`."""
        if self._best is None:
            return
        bitwidths, row = self._best.bitwidths, self.rows[self._best.bitwidths]
        best = {name: row[name] for name in BEST} | {
            "reward": row["reward"] if math.isfinite(row["reward"]) else None,
            "distinct_evaluations": len(self.rows),
            "keeps_max_cost": self._problem.keeps_max_cost(bitwidths),
            "finished": finished,
        }
        with writing(self.path):
            replace_file(self.path / "best.json", json.dumps(best, indent=2) + "\n")
            if best["keeps_max_cost"]:
                by_module = self._problem.by_module(bitwidths)
                replace_file(self.path / "assignment.json", json.dumps(by_module, indent=2) + "\n")

    def _write_config(self, config: Mapping[str, Any]) -> None:
        with writing(self.path):
            replace_file(self.path / "config.json", json.dumps(config, indent=2) + "\n")

    def _add(self, row: dict[str, Any]) -> None:
        self._take(row)
        path = self.path / "evaluations.csv"
        with writing(self.path):
            text = table([row], header=not path.exists() or not path.stat().st_size)
            with path.open("a", newline="") as file:
                file.write(text)

    def _take(self, row: dict[str, Any]) -> None:
        self.rows[row["bitwidths"]] = row
        found = recorded(row)
        if self._best is None or self._problem.merit(found) > self._problem.merit(self._best):
            self._best = found

    def _restored(self) -> list[Evaluation]:
        path = self.path / "evaluations.csv"
        if not path.exists():
            return []
        try:
            text = path.read_text()
            complete = whole_lines(text)
            rows = parsed(complete)
            for row in rows:
                self._problem.check(row["bitwidths"])
        except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ReLeQError(
                f"{path} is damaged ({type(error).__name__}: {error}); mend or delete it: what the cache holds is not "
                "retrained"
            ) from error
        for row in rows:
            self._check_reward(row)
            self._take(row)
        if complete != text:
            with writing(self.path):
                replace_file(path, complete)
        self._before = max((row["elapsed"] for row in self.rows.values()), default=0.0)
        return [recorded(row) for row in self.rows.values()]

    def _check_reward(self, row: Mapping[str, Any]) -> None:
        """Compare what a row says of the objective with the objective now: a function's name would not tell."""
        before, now = row["reward"], self._problem.objective(recorded(row))
        same = math.isclose(before, now, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
        if not same and not (math.isnan(before) and math.isnan(now)):
            raise ReLeQError(
                f"{self.path} holds a search with another reward: that of {row['bitwidths']} was {before:g} and is "
                f"{now:g} now; give another folder, or the same reward"
            )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line what of a folder could not be written."""
    try:
        yield
    except OSError as error:
        raise ReLeQError(f"{path} cannot be written ({error.strerror or error}); what was finished is kept") from error


def checked_config(path: Path, problem: Problem, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `config.json` of a folder is to hold, checked against what it holds already.

    Raises:
        ReLeQError: If that is of another search, or of one that cannot be told from others.
    """
    file, config = path / "config.json", config_of(problem, asked)
    if not file.exists():
        return config
    try:
        before = json.loads(file.read_text())
        kept = [_compared(before), _compared(json.loads(json.dumps(config)))]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReLeQError(f"{file} holds no search ({type(error).__name__}: {error}); give another folder") from error
    if changed := sorted(name for name in kept[0] | kept[1] if kept[0].get(name) != kept[1].get(name)):
        raise ReLeQError(
            f"{path} holds a search with another {', '.join(changed)}; give another folder, or the same "
            f"network, data and arguments{_recipe_of(before)}"
        )
    rows = path / "evaluations.csv"
    begun = rows.exists() and rows.read_bytes().count(b"\n") > 1  # it has more than the columns' names
    if begun and _FUNCTIONS.get(str(before.get("functions"))) != _FUNCTIONS.get(str(config["functions"])):
        raise ReLeQError(
            f"{path} holds a search whose loss or metric cannot be told from others; give another folder, and "
            "cache_key= a name that stands for them, so that the search can go on"
        )
    for name in ("budget", "timesteps", "schedule_timesteps"):  # what is there was asked for, too
        if isinstance(earlier := before["settings"].get(name), int):
            config["settings"][name] = max(earlier, config["settings"][name])
    return config


def _recipe_of(config: Mapping[str, Any]) -> str:
    """Return in words how to ask for the recipe that a search has found; where no cache keeps it, it is found anew."""
    recipe = ((config.get("own") or {}).get("found") or {}).get("recipe")
    if not isinstance(recipe, Mapping):
        return ""
    named = ", ".join(f"{name}={value!r}" for name, value in recipe.items())
    return f" (its recipe was found: retraining=releq_env.tasks.RetrainingRecipe({named}))"


def config_of(problem: Problem, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `config.json` holds."""
    own = problem.own
    return {
        "settings": dict(asked),
        "accuracy_depends_on": problem.evaluator.fingerprint,
        "known": known(problem),
        "functions": _named_functions(problem),
        "problem": described(problem),
        "own": None
        if own is None
        else {"left_out": own.left_out, "found": None if own.found is None else own.found.described()},
        "about": about(problem),
        "versions": versions(),
    }


def table(rows: Sequence[Mapping[str, Any]], header: bool = True) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({**row, "bitwidths": " ".join(map(str, row["bitwidths"]))} for row in rows)
    return text.getvalue()


_FUNCTIONS: dict[str, tuple[Any, ...]] = {}
"""Loss, metric and distillation that nothing stands for, by the name that stands for them in this process."""


def known(problem: Problem) -> dict[str, Any] | None:
    """Return what is known of accuracies that have no fingerprint, JSON-able; `None` if they have one.

    Loss and metric, or the quantizer, are missing there: they cannot be told from others.
    """
    engine: Any = getattr(problem.evaluator.source, "retraining", None)
    if problem.evaluator.fingerprint is not None or engine is None:
        return None
    task = engine.task
    return {
        "network": engine.pretrained.identity,
        "data": task.dataset.fingerprint(engine.data_root),
        "retraining": asdict(task.retraining)
        | {"images": engine.retrain_images, "learning_rate": engine.learning_rate},
        "quantizer": engine.quantizer,
        "retrain_seed": engine.retrain_seed,
        "precision": str(engine.dtype),
        "device": engine.device.type,
        "modules": [list(layer.modules) for layer in problem.layers],
    }


def _named_functions(problem: Problem) -> str | None:
    """Return what stands for loss and metric in this process; `None` where something stands for them in all."""
    engine: Any = getattr(problem.evaluator.source, "retraining", None)
    if problem.evaluator.fingerprint is not None or engine is None:
        return None
    task = engine.task
    if task.identity(engine.data_root) is not None:  # it is the quantizer that cannot be told
        return None
    functions = (task.loss, task.metric, task.distillation)
    named = next((name for name, each in _FUNCTIONS.items() if each == functions), None) or uuid.uuid4().hex
    _FUNCTIONS[named] = functions
    return named


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be the same when a search goes on: the budget and the versions may change."""
    asked = {name: config["settings"].get(name) for name in ("algo", "seed", "n_envs", "hyperparams")}
    return asked | config["problem"] | (config["accuracy_depends_on"] or config.get("known") or {})


def versions(*more: str) -> dict[str, str]:
    """Return the kind of machine, and the versions of Python and of libraries, as far as they are there.

    Args:
        *more: Further libraries.
    """
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("releq_env", "gymnasium", "numpy", "torch", *more):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
