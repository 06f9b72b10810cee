"""One assignment's finalization, from the checks to the result."""

import copy
import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from releq_env.cost.size import size
from releq_env.devices import cores
from releq_env.errors import ReLeQError, short
from releq_env.export import About, load_packed, packed_size, save_packed
from releq_env.export.folder import ASSIGNMENT, PACKED, assignment
from releq_env.finalizing.control import Control, ControlRuns
from releq_env.finalizing.folder import FinalFolder, sha256
from releq_env.finalizing.held_out import Network, accuracy, read_test
from releq_env.finalizing.helpers import check_workers, helped
from releq_env.finalizing.progress import Listener, Progress, counted, expected
from releq_env.finalizing.result import FinalResult
from releq_env.finalizing.sharing import Piece, make_all
from releq_env.finalizing.subject import Subject
from releq_env.paths import cache_folder
from releq_env.quantization import with_scales
from releq_env.retraining.data import Data
from releq_env.retraining.final import DivergedError, FinalRetraining
from releq_env.tasks import TASKS, Examples
from releq_env.tasks.final import FinalRecipe, final_recipe
from releq_env.tasks.own_data import OwnData
from releq_env.tasks.own_reading import is_ids
from releq_env.workers.processes import refuse_in_worker

_PAYS = 20.0  # seconds that other processes have to save; to start one takes 3 to 8
_MARKED = ", and cache_key= that stands for loss and metric: without it only the process that began can go on"


class Job:
    """Retrains, measures, and writes what comes out.

    Args:
        subject: Network and assignment.
        seeds: Different ones.
        recipe: `None` is the task's.
        folder: `None` is the subject's.
        controls: Folder of all controls; `None`: in the cache folder, or in `folder`.
        teacher: See `FinalRetraining`.
        about: What stands in the packed files; `None`: found out.

    Raises:
        ReLeQError: If the recipe is not accepted, data are missing, or the network cannot be packed.
    """

    def __init__(
        self,
        subject: Subject,
        seeds: tuple[int, ...],
        recipe: FinalRecipe | None,
        folder: str | os.PathLike[str] | None,
        controls: str | os.PathLike[str] | None,
        teacher: nn.Module | None,
        about: About | None = None,
    ) -> None:
        self._subject, self._seeds = subject, seeds
        self._engine, self._task = subject.engine, subject.engine.task
        if recipe is not None and not isinstance(recipe, FinalRecipe):
            raise ReLeQError(f"recipe={short(recipe)} is none; give a releq_env.tasks.final.FinalRecipe")
        self._recipe = final_recipe(self._task) if recipe is None else recipe
        self._final = FinalRetraining(self._engine, self._recipe, teacher)
        self._folder = FinalFolder(subject.folder if folder is None else Path(folder))
        if controls is not None:
            kept_in = Path(controls)
        else:
            known = self._engine.fingerprint is not None
            kept_in = (cache_folder() if known else self._folder.path) / "controls"
        self._controls = ControlRuns(self._final, kept_in, seeds)
        self._about = about or About(
            self._task.name if TASKS.get(self._task.name) is self._task else None,
            self._engine.pretrained.input_shape,
            "int64" if is_ids(self._validation().inputs[:1]) else "float32",
        )
        self._assignment = self._check_packable()
        self._sent = (_untested(subject), seeds, self._recipe, self._folder.path, kept_in, teacher, self._about)

    def run(self, test: bool, progress: bool, workers: int | None = None) -> FinalResult:
        """Train what is not finished, measure and write the result.

        Args:
            test: Whether to read test data.
            progress: Whether to show a progress bar.
            workers: How many processes train; `None`: one a core, where that is faster.

        Raises:
            ReLeQError: If retraining diverges, something cannot be read or written, or no process can help.
        """
        refuse_in_worker()
        most = check_workers(workers, self._engine.fingerprint is not None)
        asked = self._final.asked(self._subject.bitwidths, self._recipe.learning_rate, 0)
        del asked["seed"]
        self._folder.begin(asked, _MARKED if self._task.identity(self._engine.data_root) is None else "")
        self._controls.begin()
        with Progress(self._subject.label, progress) as bar:
            pieces = self._pieces(bar)
            if pieces:
                self._final.teacher.ask(bar.over_ways)
            more = self._processes(pieces, most) - 1
            with helped(more, _share, self._engine.shared_data, self._sent, bar, workers is not None) as helpers:
                bar.expect(sum(piece.epochs for piece in pieces), 1 + helpers)
                make_all(pieces, bar)
        with self._folder.locked("result"):
            return self._result(self._controls.chosen(self._validation), test)

    def share(self, progress: Listener) -> None:
        """Train what is not finished and nobody is at."""
        make_all(self._pieces(progress), progress, wait=False)

    def _processes(self, pieces: list[Piece], most: int | None) -> int:
        """Return how many processes train, this one among them.

        Args:
            pieces: What is to be done.
            most: How many may; `None`: one a core, where that saves time.
        """
        at_once = min(len(pieces), most or cores())
        if most is not None or at_once < 2:
            return max(at_once, 1)
        if self._engine.device.type != "cpu":
            return 1  # which one is enough for
        seconds = self._seconds_an_epoch * sum(piece.epochs for piece in pieces)
        return at_once if seconds * (1 - 1 / at_once) > _PAYS else 1

    @functools.cached_property
    def _seconds_an_epoch(self) -> float:
        return self._final.seconds_an_epoch(self._subject.bitwidths)

    def estimate(self, workers: int | None = None) -> str:
        """Return in words how long `run` would take."""
        most = check_workers(workers, self._engine.fingerprint is not None)
        pieces = self._pieces(Progress(self._subject.label, False))
        seeds = [piece for piece in pieces if piece.folder is self._folder]
        controls = len(pieces) - len(seeds)
        quantized = self._seconds_an_epoch
        whole = self._final.seconds_an_epoch(None) if controls else 0.0
        epochs = sum(piece.epochs for piece in pieces)
        seconds = sum(piece.epochs * (quantized if piece.folder is self._folder else whole) for piece in pieces)
        seconds += self._final.teacher.seconds_to_ask() if epochs else 0.0
        label = f"{self._subject.label}, {counted(len(seeds), 'seed')} and {counted(controls, 'control')}"
        processes = self._processes(pieces, most)
        return expected(label, seconds / epochs if epochs else quantized, epochs, processes)

    def _pieces(self, bar: Listener) -> list[Piece]:
        """Return the retrainings that are not finished."""
        epochs = self._final.epochs
        seeds = [
            Piece(self._folder, _name(seed), f"seed {seed}", epochs, functools.partial(self._retrain, seed, bar))
            for seed in self._seeds
        ]
        return [piece for piece in seeds if not piece.finished] + self._controls.pieces(self._validation, bar)

    def _retrain(self, seed: int, bar: Listener) -> None:
        name = _name(seed)
        checkpoint = self._folder.path / f"{name}.checkpoint.safetensors"
        rate, bits = self._recipe.learning_rate, self._subject.bitwidths
        try:
            trained = self._final.train(bits, rate, seed, checkpoint, bar.epoch_done)
        except DivergedError as error:
            raise DivergedError(f"{self._subject.label}, seed {seed}: {error}") from error
        path = self._folder.path / f"{name}.safetensors"
        save_packed(trained.network.cpu(), path, self._about)
        row = {
            "seed": seed,
            "validation_accuracy": accuracy(self._load(seed)(), self._validation(), self._task),
            "sha256": sha256(path),
            "place": self._final.place,
            "history": trained.history,
        }
        self._folder.write(f"{name}.json", row)
        for over in self._folder.path.glob(f"{name}.checkpoint*"):
            over.unlink(missing_ok=True)

    def _result(self, control: Control, test: bool) -> FinalResult:
        rows = [self._row(seed) for seed in self._seeds]
        validated = tuple(float(row["validation_accuracy"]) for row in rows)
        accuracies, of_controls = validated, control.validation_accuracies
        tested = test and self._subject.test is not None
        if tested:
            assert self._subject.test is not None
            networks = [
                Network(each.load, self._read_row("control", "" if each.seed is None else str(each.seed), each.sha256))
                for each in control.networks
            ]
            networks += [
                Network(self._load(seed), self._read_row("quantized", str(seed), row["sha256"]))
                for seed, row in zip(self._seeds, rows, strict=True)
            ]
            found = read_test(self._subject.test, self._task, networks, self._folder)
            of_controls, accuracies = tuple(found[: len(rows)]), tuple(found[len(rows) :])
        engine, bits = self._engine, self._subject.bitwidths
        layers = with_scales(engine.pretrained.layers, engine.quantizer)
        weights = [layer.weights for layer in layers]
        result = FinalResult(
            task=self._task.name,
            network_name=type(engine.pretrained.network).__name__,
            quantizer=engine.quantizer,
            layers=tuple(layer.name for layer in layers),
            bitwidths=bits,
            measured_on="test" if tested else "validation",
            seeds=self._seeds,
            accuracies=accuracies,
            validation_accuracies=validated,
            control=control.which,
            control_accuracies=of_controls,
            control_validation_accuracies=control.validation_accuracies,
            average_bits=sum(bits) / len(bits),
            weighted_bits=sum(b * w for b, w in zip(bits, weights, strict=True)) / sum(weights),
            size_bytes=int(sum(map(size, layers, bits))),
            packed_bytes=packed_size(engine.pretrained.network, layers, bits),
            file_bytes=max((self._folder.path / f"{_name(seed)}.safetensors").stat().st_size for seed in self._seeds),
            full_precision_bytes=packed_size(engine.pretrained.network, [], []),
            folder=self._folder.path,
            _original=engine.pretrained.network,
        )
        places = {_name(seed): row["place"] for seed, row in zip(self._seeds, rows, strict=True)}
        places |= {f"control-{each.seed}": each.place for each in control.networks if each.place is not None}
        self._write(result, control, places)
        return result

    def _write(self, result: FinalResult, control: Control, places: dict[str, dict[str, str]]) -> None:
        best = self._folder.path / f"{_name(result.best_seed)}.safetensors"
        self._folder.write(PACKED, best.read_bytes())
        self._folder.write(ASSIGNMENT, self._assignment)
        known = {
            "which": control.which,
            "validation_accuracies": control.validation_accuracies,
            "candidates": control.candidates,
            "seeds": self._seeds,
            "sha256": [each.sha256 for each in control.networks],
            "kept_in": control.folder.path.name,
        }
        self._folder.write("control.json", known)
        recipe = {name: getattr(self._recipe, name) for name in self._recipe.__dataclass_fields__}
        first, *others = places.values()
        common = {name: value for name, value in first.items() if all(value == each.get(name) for each in others)}
        where = {"place": common, "places": places}
        test_data = self._subject.test.label if self._subject.test and result.measured_on == "test" else None
        self._folder.write("result.json", result.described() | {"test_data": test_data, "recipe": recipe} | where)

    def _row(self, seed: int) -> dict[str, Any]:
        row = self._folder.row(_name(seed))
        if row is None:
            raise ReLeQError(f"the result of seed {seed} in {self._folder.path} has vanished; start again")
        return row

    def _read_row(self, role: str, seed: str, digest: str) -> dict[str, Any]:
        quantized = role == "quantized"
        return {
            "task": self._task.name,
            "role": role,
            "quantizer": self._engine.quantizer if quantized else "",
            "bitwidths": " ".join(map(str, self._subject.bitwidths)) if quantized else "",
            "seed": seed,
            "sha256": digest,
        }

    def _load(self, seed: int) -> Callable[[], nn.Module]:
        path = self._folder.path / f"{_name(seed)}.safetensors"
        return lambda: load_packed(path, self._engine.pretrained.network)

    def _validation(self) -> Examples:
        return self._kept_validation

    @functools.cached_property
    def _kept_validation(self) -> Examples:
        _, validation = self._task.dataset.load(self._engine.data_root)
        if isinstance(self._task.dataset, OwnData):
            return validation  # which is kept anyway
        return Examples(*(tensor.clone() for tensor in validation))  # not a view that keeps all data in memory

    def _check_packable(self) -> dict[str, int]:
        """Return the bitwidths by layer name; raise now what would be raised after hours: that it cannot be packed."""
        _, network = self._final.prepared(self._subject.bitwidths)
        with tempfile.TemporaryDirectory() as folder:
            save_packed(network.cpu(), Path(folder) / PACKED, self._about)
            load_packed(Path(folder) / PACKED, self._engine.pretrained.network)
        return assignment(network)


def _share(data: Data | None, subject: Subject, *sent: Any) -> Callable[[Listener], None]:
    """Return what does a share of a job in another process.

    Args:
        data: In memory that is shared; `None` has it load its own.
        subject: Of the job.
        sent: The other arguments of `Job`.
    """
    if data is not None:
        subject.engine.adopt(data)
    return Job(subject, *sent).share


def _untested(subject: Subject) -> Subject:
    """Return a subject without its test data: they are for the process that measures."""
    engine, dataset = copy.copy(subject.engine), subject.engine.task.dataset
    if isinstance(dataset, OwnData):
        engine.task = replace(engine.task, dataset=dataset.without_test())
    return replace(subject, engine=engine, test=None)


def _name(seed: int) -> str:
    return f"seed-{seed}"
