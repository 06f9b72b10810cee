"""Measure every assignment of a task: an accuracy table.

    nohup python -m benchmarks.tables.build --task mnist --bits 1-8 --seeds 0,1 --out mnist.npz &

The file is written every few minutes and at the end, whole each time, and is a table from the first time on: of the
assignments that were measured so far, in random order. Whatever ended a run, the same command goes on from the file
(and from the cache of evaluations, which has the minutes since). A file is added to only on the kind of machine, with
the precision and the versions, with which it was begun.

Sensitivities of the layers are measured first and kept in the file.
"""

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.common import machine, recording
from releq_env import locks
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.evaluation.live import LiveSource
from releq_env.problem import Problem
from releq_env.sensitivity import IMAGES, measure_sensitivities
from releq_env.sensitivity.alone import from_accuracies, one_at_a_time
from releq_env.tables import AccuracyTable
from releq_env.tables.sensitivities import Sensitivities, parse
from releq_env.workers.waiting import Assignment

_ORDER_SEED = 0
_BAR: dict[str, Any] = {"unit": "assignment", "smoothing": 0.02, "mininterval": 0.5 if sys.stderr.isatty() else 60.0}


class Growing:
    """A table that grows; told of every evaluation.

    Args:
        path: Its file; goes on from what is there.
        problem: What is measured. Of a network that is retrained, the sensitivities are measured at once.
        name: What the table is called.
        command: With which it is measured, for the record.
        save_seconds: How often the file is written.
        images: On how many training images sensitivities are measured; 0: not at all.

    Attributes:
        known: Accuracy by assignment and retraining seed.

    Raises:
        ReLeQError: If the file is of another network, or was measured by another kind of machine.
    """

    def __init__(
        self, path: Path, problem: Problem, name: str, command: str, save_seconds: float, images: int = IMAGES
    ) -> None:
        self.known: dict[tuple[Assignment, int], float] = {}
        self._path, self._problem, self._name, self._save_seconds = path, problem, name, save_seconds
        self._about = about(problem) | {"commands": [command], "begun": _now(), "seconds": 0.0}
        self._seed = 0
        self._saved = time.monotonic()
        if path.exists():
            self._go_on(AccuracyTable.load(path), command)
        self._about["sensitivities"] = self._sensitivities(images)

    def _go_on(self, table: AccuracyTable, command: str) -> None:
        before, here = table.about.get("accuracy_depends_on", {}), self._about["accuracy_depends_on"]
        if before != here:
            raise ReLeQError(
                f"{self._path} was measured otherwise: {difference(before, here)}; go on where, and with what, it was "
                "begun, or give another --out"
            )
        both = [sorted({*old, *new}) for old, new in zip(table.choices, self._problem.choices, strict=True)]
        self._problem = self._problem.replace(bitwidths=both)
        bitwidths, seeds, accuracy = table.records()
        keys = zip(map(tuple, bitwidths.tolist()), seeds.tolist(), strict=True)
        self.known.update(zip(keys, accuracy.tolist(), strict=True))
        commands = dict.fromkeys([*table.about["commands"], command])
        self._about |= {"commands": list(commands), **{name: table.about[name] for name in ("begun", "seconds")}}
        self._about["sensitivities"] = table.about.get("sensitivities", {})

    def _sensitivities(self, images: int) -> dict[str, Any]:
        """Return those of the file if they are of these choices, else measure them where there is a network."""
        known = parse(self._about["sensitivities"], self._problem.num_layers)
        if known is not None and known.choices == self._problem.choices:
            return known.as_dict()
        if getattr(self._problem.evaluator.source, "retraining", None) is None or not images:
            return {} if known is None else known.as_dict()
        print(f"measuring the sensitivities of {self._problem.num_layers} layers", file=sys.stderr, flush=True)
        return measure_sensitivities(self._problem, images=images).as_dict()

    def measure(self, assignments: Sequence[Assignment], seeds: Sequence[int]) -> None:
        """Measure what is not known yet, writing the file now and then, and at the end whatever happens."""
        wanted = [(assignment, seed) for seed in seeds for assignment in assignments]
        missing = sum(key not in self.known for key in wanted)
        with tqdm(total=len(wanted), initial=len(wanted) - missing, **_BAR) as self._bar:
            try:
                for seed in seeds:
                    self._measure_with(seed, assignments)
            finally:
                self.save()

    def _measure_with(self, seed: int, assignments: Sequence[Assignment]) -> None:
        evaluator = self._problem.evaluator.reseeded(seed)
        evaluator.listener, self._seed = self, seed
        evaluator.evaluate_many([each for each in assignments if (each, seed) not in self.known])

    def evaluated(self, evaluation: Evaluation, retrained: bool) -> None:
        """Take up an evaluation."""
        self.known[evaluation.bitwidths, self._seed] = evaluation.accuracy
        self._about["seconds"] += evaluation.seconds
        self._bar.update()
        if time.monotonic() - self._saved >= self._save_seconds:
            self.save()

    def diverged(self) -> None:
        """Nothing is repeated here."""

    def save(self) -> None:
        """Write the file, if there is anything to write."""
        if self.known:
            self.table().save(self._path)
            self._saved = time.monotonic()

    def table(self) -> AccuracyTable:
        """Return the table as it is."""
        records = [(bitwidths, seed, accuracy) for (bitwidths, seed), accuracy in self.known.items()]
        written = {"written": _now(), "seconds": round(self._about["seconds"], 3)}
        written["sensitivities"] = self._with_alone()
        return AccuracyTable.of_problem(self._problem, records, name=self._name, about=self._about | written)

    def _with_alone(self) -> dict[str, Any]:
        """Return the sensitivities, with accuracies of one layer at a time where all of these are measured."""
        choices, seed = self._problem.choices, min(seed for _, seed in self.known)
        known = {assignment: self.known.get((assignment, seed)) for assignment in one_at_a_time(choices)}
        if not self._about["sensitivities"] or None in known.values():
            return dict(self._about["sensitivities"])
        seconds = self._about["seconds"] / len(self.known) * len(known)  # as long as the others took on average
        proxy = from_accuracies(choices, lambda bits: float(known[bits] or 0.0), seconds)
        found = parse(self._about["sensitivities"], len(choices))
        assert found is not None
        return Sensitivities(choices, {**found.proxies, "alone": proxy}).as_dict()


def about(problem: Problem) -> dict[str, Any]:
    """Return how a problem is measured here, JSON-able.

    Raises:
        ReLeQError: If that is not known.
    """
    source = problem.evaluator.source
    if source.fingerprint is None:
        raise ReLeQError(
            f"what the accuracies of {problem.name} depend on is not known; give its task a cache_key= that stands for "
            "its data, loss and metric"
        )
    depends = {name: value for name, value in source.fingerprint.items() if name != "retrain_seed"}
    known: dict[str, Any] = {"accuracy_depends_on": json.loads(json.dumps(depends)), "sensitivities": {}}
    known["engine"] = depends.get("engine")
    found: dict[str, Any] = machine.describe()
    known["machine"] = {name: found[name] for name in ("processor", "cores", "system")}
    known["versions"] = {"python": found["python"], "revision": found["revision"], **found["versions"]}
    if isinstance(source, LiveSource):
        retraining = source.retraining
        known |= {
            "task": retraining.task.name,
            "split": f"{retraining.task.dataset.validation_images} validation images of {retraining.task.dataset.name}",
            "recipe": asdict(retraining.task.retraining)
            | {
                "images": retraining.retrain_images,
                "learning_rate": retraining.learning_rate,
                "distillation": retraining.task.distilled,
            },
            "precision": str(retraining.dtype).removeprefix("torch."),
            "device": retraining.device.type,
            "instructions": depends.get("instructions"),
            "threads": 1,
            "weights": retraining.pretrained.sha256,
        }
    return known


def difference(before: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return in words what differs between two descriptions."""
    names = [name for name in sorted({*before, *here}) if before.get(name) != here.get(name)]
    return ", ".join(f"{name} {_brief(before.get(name))} there and {_brief(here.get(name))} here" for name in names)


def in_random_order(problem: Problem, count: int | None = None) -> list[Assignment]:
    """Return the first `count` of all assignments in an order that is always the same."""
    shape = [len(of_layer) for of_layer in problem.choices]
    order = np.random.default_rng(_ORDER_SEED).permutation(math.prod(shape))[:count]
    columns = [
        np.take(of_layer, indices)
        for of_layer, indices in zip(problem.choices, np.unravel_index(order, shape), strict=True)
    ]
    return list(map(tuple, np.stack(columns, axis=1).tolist()))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep other processes from building the same file.

    Raises:
        ReLeQError: If one does.
    """
    busy = f"{path} is being built by another process; wait for it, or stop it first"
    with locks.held(path.with_name(f".{path.name}.lock"), busy, path, "give another --out"):
        yield


def numbers(text: str) -> list[int]:
    """Read whole numbers, ascending: `"1-8"`, `"2,3,4,5,8"`, `"0"`."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    if not found:
        raise ValueError
    return sorted(found)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing in the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.build", description=main.__doc__)
    parser.add_argument("--task", required=True, help="a task's name")
    parser.add_argument("--out", type=Path, required=True, help="the .npz file; goes on if it is there")
    parser.add_argument("--quantizer", default="lsq", help="(default: %(default)s)")
    parser.add_argument("--bits", type=numbers, help="of every layer, e.g. 1-8 or 2,4,8 (default: all there are)")
    parser.add_argument("--seeds", type=numbers, default=[0], help="retraining seeds, e.g. 0,1 (default: 0)")
    parser.add_argument("--assignments", type=recording.positive, help="only so many, drawn at random (default: all)")
    parser.add_argument("--name", help="what the table is called (default: the file's name)")
    parser.add_argument("--retrain-images", type=int, help="budget of a retraining (default: the task's)")
    parser.add_argument("--data-root", help="folder of the data (default: RELEQ_DATA)")
    parser.add_argument("--cache", default="auto", help="file of evaluations (default: as of the environments)")
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="(default: %(default)s)")
    parser.add_argument("--parallel", default="processes", help="processes, ray or stacked (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="how many (default: one a core)")
    parser.add_argument(
        "--sensitivity-images", type=int, default=IMAGES,
        help="training images that sensitivities are measured on; 0: none are (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--save-minutes", type=float, default=3.0, help="between two writes (default: %(default)s)")
    args = parser.parse_args(argv)
    elsewhere = ("data_root", "cache", "workers", "save_minutes")  # nothing depends on them
    recorded = {name: value for name, value in vars(args).items() if name not in elsewhere} | {"out": args.out.name}
    recorded |= {name: ",".join(map(str, recorded[name])) for name in ("bits", "seeds") if recorded[name]}
    command = recording.command("benchmarks.tables.build", recorded)
    of_task = ("quantizer", "retrain_images", "data_root", "cache", "device", "precision", "parallel", "workers")
    with ends_in_one_line(), held(args.out), _ended_by_sigterm():
        problem = Problem.from_task(args.task, bitwidths=args.bits, **{name: getattr(args, name) for name in of_task})
        name, seconds = args.name or args.out.stem, 60.0 * args.save_minutes
        growing = Growing(args.out, problem, name, command, seconds, args.sensitivity_images)
        try:
            growing.measure(in_random_order(problem, args.assignments), args.seeds)
        finally:
            problem.evaluator.close()
    print(growing.table())


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program as an exception does, so that the file is written."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


if __name__ == "__main__":
    main()
