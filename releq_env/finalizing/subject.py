"""What is finalized: a network and an assignment, from whatever was given."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym

from releq_env.errors import ReLeQError, check_choice, short
from releq_env.finalizing.held_out import TestData
from releq_env.making import make_problem
from releq_env.problem import Problem
from releq_env.quantization import QUANTIZERS
from releq_env.retraining.short import ShortRetraining
from releq_env.tables import TableSource
from releq_env.tasks import TASKS, Task, get_task, load_pretrained
from releq_env.tasks.own_data import OwnData

_LONGEST = 100  # characters of a folder's name that say the bitwidths
_ACCEPTED = "a run folder, a SearchResult, a Problem, a Task, or one of: "


@dataclass(frozen=True)
class Subject:
    """A network and what becomes of it.

    Attributes:
        engine: Task, pre-trained network, quantizer, device and precision.
        bitwidths: One a layer.
        test: The test data; `None` where there are none.
        folder: Where its results go if nothing else is said.
    """

    engine: ShortRetraining
    bitwidths: tuple[int, ...]
    test: TestData | None
    folder: Path

    @property
    def label(self) -> str:
        """In words, e.g. `"mnist, lsq 2 2 3 2"`."""
        return f"{self.engine.task.name}, {self.engine.quantizer} {' '.join(map(str, self.bitwidths))}"


def understood(
    what: Any,
    bitwidths: Sequence[int] | None = None,
    test_data: Any = None,
    *,
    quantizer: str | None = None,
    data_root: str | os.PathLike[str] | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> Subject:
    """Return the subject of what was given; the arguments are those of `finalize`.

    Raises:
        ReLeQError: In one line, if it cannot be finalized.
    """
    arguments = {"quantizer": quantizer, "data_root": data_root, "device": device, "precision": precision}
    given = {name: value for name, value in arguments.items() if value is not None}
    if quantizer is not None:
        check_choice("quantizer", quantizer, QUANTIZERS)
    run: Path | None = None
    whole: Callable[[Sequence[int]], Sequence[int]] = tuple  # of a problem's decisions, one a layer
    if isinstance(what, Task) or (isinstance(what, str) and what in TASKS):
        engine = _of_task(get_task(what), given)
    else:
        found = what
        if isinstance(what, str | os.PathLike) and ":" not in str(what):
            run = Path(what)
            found, best = _of_run(run, bitwidths is None)
            bitwidths = best if bitwidths is None else bitwidths
        elif isinstance(what, str):
            found = make_problem(what)
        elif not isinstance(what, Problem):  # a SearchResult
            found = getattr(what, "problem", None)
            bitwidths = getattr(what, "bitwidths", None) if bitwidths is None else bitwidths
        if not isinstance(found, Problem):
            raise ReLeQError(f"{short(what)} cannot be finalized; give {_ACCEPTED}{', '.join(TASKS)}")
        engine = _of_problem(found, given)
        whole = partial(_every_layer, found)
    if bitwidths is None:
        count = len(engine.pretrained.layers)
        raise ReLeQError(f"which bitwidths are meant for {engine.task.name}? give {count}, one a layer")
    bits = tuple(whole(_numbers(bitwidths)))
    engine.check(bits)
    within = run / "final" if run is not None else Path("runs") / "final" / f"{engine.task.name}-{engine.quantizer}"
    return Subject(engine, bits, _test(engine, test_data), within / _folder_name(bits))


def _of_task(task: Task, given: dict[str, Any]) -> ShortRetraining:
    arguments = {"quantizer": "lsq"} | given
    pretrained = load_pretrained(task, arguments.get("data_root"))
    return ShortRetraining(task, pretrained, **arguments)


def _of_problem(problem: Problem, given: dict[str, Any]) -> ShortRetraining:
    source = problem.evaluator.source
    if isinstance(source, TableSource):
        return _of_table(problem, given)
    retraining = getattr(source, "retraining", None)
    if not isinstance(retraining, ShortRetraining):
        raise ReLeQError(f"the accuracies of {problem.name} come from no network, so there is nothing to retrain")
    if given:
        raise ReLeQError(f"{next(iter(given))}= was given beside a problem, which has its own; leave it out")
    return retraining


def _every_layer(problem: Problem, bitwidths: tuple[int, ...]) -> Sequence[int]:
    """Return one bitwidth a layer: a problem may decide several layers at once."""
    source = problem.evaluator.source
    if not hasattr(source, "every_layer"):
        return bitwidths
    found: Sequence[int] = source.every_layer(problem.check(bitwidths))
    return found


def _of_table(problem: Problem, given: dict[str, Any]) -> ShortRetraining:
    """Return the engine of the task that a table was measured of."""
    source = problem.evaluator.source
    assert isinstance(source, TableSource)
    name = source.table.about.get("task", problem.name)
    if name not in TASKS:
        raise ReLeQError(
            f"the table {problem.name!r} is of no built-in task, so its network is not known; give the task, and the "
            "bitwidths"
        )
    engine = _of_task(TASKS[name], {"quantizer": problem.quantizer or "lsq"} | given)
    names = [layer.name for layer in engine.pretrained.layers]
    if [layer.name for layer in problem.layers] != names:
        raise ReLeQError(f"the table {problem.name!r} has other layers than the task {name}, {', '.join(names)}")
    return engine


def _of_run(folder: Path, best: bool) -> tuple[Problem, Any]:
    """Return the problem of a run of `agents.train`, and its best assignment if that is wanted."""
    if not (folder / "config.json").exists():
        raise ReLeQError(f"{folder} holds no run; give the folder of an agents.train, or one of: {', '.join(TASKS)}")
    try:
        settings = json.loads((folder / "config.json").read_text())["settings"]
        env, kwargs = settings["env"], settings["env_kwargs"]
        found = json.loads((folder / "best.json").read_text()) if best else {}
        bitwidths = found["bitwidths"] if best else None
    except FileNotFoundError:
        raise ReLeQError(f"the run in {folder} has no best assignment yet; go on with it, or give bitwidths") from None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ReLeQError(
            f"the run in {folder} is damaged ({type(error).__name__}: {error}); give a task and bitwidths instead"
        ) from error
    if best and found.get("keeps_max_cost") is False:
        raise ReLeQError(f"no assignment of the run in {folder} keeps its max_cost; give bitwidths")
    if str(env).endswith("ReLeQ-v0") and not kwargs:  # a releq_env.search
        raise ReLeQError(
            f"{folder} does not say how its network is made; give finalize() the result of the search, or its problem "
            "and bitwidths"
        )
    try:
        made: Any = gym.make(env, **kwargs)
    except (gym.error.Error, TypeError) as error:
        raise ReLeQError(f"the environment {env} of the run in {folder} cannot be made ({error})") from error
    try:
        return made.unwrapped.problem, bitwidths
    finally:
        made.close()


def _test(engine: ShortRetraining, test_data: Any) -> TestData | None:
    dataset = engine.task.dataset
    if test_data is None:
        if isinstance(dataset, OwnData) and dataset.parts[2] is None:
            return None
        root = engine.data_root
        return TestData(partial(dataset.load_test, root), dataset.name, partial(dataset.test_digest, root))
    if not isinstance(dataset, OwnData):
        raise ReLeQError(f"test_data= was given for {engine.task.name}, which has its own; leave it out")
    with_test = dataset.with_test(test_data)  # which checks it
    return TestData(with_test.load_test, dataset.name, with_test.test_digest)


def _folder_name(bitwidths: Sequence[int]) -> str:
    name = "-".join(map(str, bitwidths))
    if len(name) <= _LONGEST:
        return name
    return f"{name[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"  # those of many layers begin alike


def _numbers(bitwidths: Any) -> tuple[int, ...]:
    try:
        return tuple(bits.__index__() for bits in bitwidths)
    except (TypeError, AttributeError):
        raise ReLeQError(f"bitwidths={short(bitwidths)} is not accepted; give whole numbers, one a layer") from None
