"""The control: the full-precision networks that quantized ones are compared with, seed by seed.

They are the better, by mean validation accuracy over the seeds, of the pre-trained network and of that network
retrained by the same recipe with the same seeds, at the best of the recipe's `control_rates`. A single network a rate
would choose the rate by luck, and its own noise would be in no interval. They do not depend on quantizer or
assignment, so a task has them once; they are kept on disk.
"""

import copy
import hashlib
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import nn

from releq_env.errors import ReLeQError
from releq_env.finalizing.folder import FinalFolder
from releq_env.finalizing.held_out import accuracy
from releq_env.finalizing.progress import Listener
from releq_env.finalizing.sharing import Piece
from releq_env.retraining.final import DivergedError, FinalRetraining, digest
from releq_env.tasks import Examples

PRETRAINED = "pre-trained"


class ControlNetwork(NamedTuple):
    """A network of a control.

    Attributes:
        seed: Of its retraining; `None` for the pre-trained network.
        load: Returns it, on the CPU.
        sha256: Of its weights.
        place: Where it was retrained, see `FinalRetraining`; `None` for the pre-trained network.
    """

    seed: int | None
    load: Callable[[], nn.Module]
    sha256: str
    place: dict[str, str] | None


class Control(NamedTuple):
    """A chosen control.

    Attributes:
        which: `PRETRAINED`, or `"retrained at RATE"`.
        validation_accuracies: In [0, 1], one a seed; of the pre-trained network the same for all.
        candidates: Mean validation accuracy of every candidate, `None` where a retraining diverged.
        networks: One a seed; of the pre-trained network the same for all.
        folder: Where they are kept.
    """

    which: str
    validation_accuracies: tuple[float, ...]
    candidates: dict[str, float | None]
    networks: tuple[ControlNetwork, ...]
    folder: FinalFolder


class ControlRuns:
    """The retrainings among which the control is chosen.

    Args:
        final: Retrains.
        kept_in: The folder that all controls are kept in, those of a task and recipe in one of its own.
        seeds: Of the retrainings.
    """

    def __init__(self, final: FinalRetraining, kept_in: Path, seeds: tuple[int, ...]) -> None:
        self._final, self._seeds = final, seeds
        self._rates = list(dict.fromkeys(float(rate) for rate in final.recipe.control_rates))
        asked = final.asked(None, 0.0, 0)
        names = ("version", "task", "network", "teacher", "recipe", "precision", "device")
        self.asked = {name: asked[name] for name in names}
        self.folder = FinalFolder(kept_in / f"{final.engine.task.name}-{digest(self.asked)}")

    def begin(self) -> None:
        """Make the folder.

        Raises:
            ReLeQError: If it cannot be written.
        """
        self.folder.begin(self.asked)

    def pieces(self, validation: Callable[[], Examples], progress: Listener) -> list[Piece]:
        """Return the retrainings that are not finished.

        Args:
            validation: Reads the validation data.
            progress: Told of every epoch.
        """
        pieces = []
        for seed, rate in itertools.product(self._seeds, self._rates):
            make = partial(self._retrain, rate, seed, validation, progress)
            said = f"full precision at {rate}, seed {seed}"
            pieces.append(Piece(self.folder, _name(rate, seed), said, self._final.epochs, make))
        return [piece for piece in pieces if not piece.finished]

    def chosen(self, validation: Callable[[], Examples]) -> Control:
        """Return the control, once all retrainings are finished.

        Raises:
            ReLeQError: If data are not to be had, or a file is damaged or cannot be written.
        """
        best = self._pretrained(validation)
        candidates: dict[str, float | None] = {best.which: mean(best.validation_accuracies)}
        for rate in self._rates:
            rows = [self._row(_name(rate, seed)) for seed in self._seeds]
            name = f"retrained at {rate}"
            if any("diverged" in row for row in rows):
                candidates[name] = None
                continue
            accuracies = tuple(float(row["validation_accuracy"]) for row in rows)
            candidates[name] = mean(accuracies)
            if mean(accuracies) > mean(best.validation_accuracies):
                best = Control(name, accuracies, candidates, self._networks(rate, rows), self.folder)
        return best._replace(candidates=candidates)

    def _row(self, name: str) -> dict[str, Any]:
        row = self.folder.row(name)
        if row is None:
            raise ReLeQError(f"{name} in {self.folder.path} has vanished or is damaged; start again")
        return row

    def _retrain(self, rate: float, seed: int, validation: Callable[[], Examples], progress: Listener) -> None:
        name = _name(rate, seed)
        checkpoint = self.folder.path / f"{name}.checkpoint.safetensors"
        try:
            trained = self._final.train(None, rate, seed, checkpoint, progress.epoch_done)
        except DivergedError as error:
            self.folder.write(f"{name}.json", {"diverged": str(error), "learning_rate": rate, "seed": seed})
            return
        network = trained.network.cpu()
        state = network.state_dict()
        payload = save({key: state[key].clone(memory_format=torch.contiguous_format) for key in state})
        self.folder.write(f"{name}.safetensors", payload)
        row = {
            "learning_rate": rate,
            "seed": seed,
            "validation_accuracy": accuracy(network, validation(), self._final.engine.task),
            "sha256": hashlib.sha256(payload).hexdigest(),
            "place": self._final.place,
            "history": trained.history,
        }
        self.folder.write(f"{name}.json", row)
        checkpoint.unlink(missing_ok=True)

    def _pretrained(self, validation: Callable[[], Examples]) -> Control:
        """Return the pre-trained network as a control; its accuracy is measured once."""
        pretrained = self._final.engine.pretrained
        with self.folder.locked("pretrained"):
            known = self.folder.read("pretrained.json")
            if known is None:
                measured = accuracy(copy.deepcopy(pretrained.network), validation(), self._final.engine.task)
                known = {"validation_accuracy": measured, "sha256": pretrained.sha256}
                self.folder.write("pretrained.json", known)
        network = ControlNetwork(None, lambda: copy.deepcopy(pretrained.network).eval(), pretrained.sha256, None)
        count = len(self._seeds)
        alike = (float(known["validation_accuracy"]),) * count
        return Control(PRETRAINED, alike, {}, (network,) * count, self.folder)

    def _networks(self, rate: float, rows: list[dict[str, Any]]) -> tuple[ControlNetwork, ...]:
        return tuple(
            ControlNetwork(seed, partial(self._load, _name(rate, seed)), row["sha256"], row["place"])
            for seed, row in zip(self._seeds, rows, strict=True)
        )

    def _load(self, name: str) -> nn.Module:
        network = copy.deepcopy(self._final.engine.pretrained.network)
        network.load_state_dict(load_file(self.folder.path / f"{name}.safetensors"))
        return network.eval()


def _name(rate: float, seed: int) -> str:
    return f"rate-{rate}-seed-{seed}"
