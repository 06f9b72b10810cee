"""The control: the full-precision network that a quantized one is compared with.

It is the better, by validation, of the pre-trained network and of that network retrained by the same recipe, at
the best of the recipe's `control_rates`. It does not depend on quantizer or assignment, so a task has one, which is
kept on disk.
"""

import copy
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import nn

from releq_env.finalizing.folder import FinalFolder
from releq_env.finalizing.held_out import accuracy
from releq_env.finalizing.progress import Listener
from releq_env.finalizing.sharing import Piece
from releq_env.retraining.final import DivergedError, FinalRetraining, digest
from releq_env.tasks import Examples

SEED = 0
"""Of the control's retrainings."""

PRETRAINED = "pre-trained"


class Control(NamedTuple):
    """A chosen control.

    Attributes:
        which: `PRETRAINED`, or `"retrained at RATE"`.
        validation_accuracy: In [0, 1].
        candidates: Validation accuracy of every candidate, `None` where retraining diverged.
        load: Returns the network, on the CPU.
        sha256: Of its weights.
        folder: Where it is kept.
        place: Where it was retrained, see `FinalRetraining`; `None` for the pre-trained network.
    """

    which: str
    validation_accuracy: float
    candidates: dict[str, float | None]
    load: Callable[[], nn.Module]
    sha256: str
    folder: FinalFolder
    place: dict[str, str] | None


class ControlRuns:
    """The retrainings among which the control is chosen.

    Args:
        final: Retrains.
        kept_in: The folder that all controls are kept in, each in one of its own.
    """

    def __init__(self, final: FinalRetraining, kept_in: Path) -> None:
        self._final = final
        rates = list(dict.fromkeys(float(rate) for rate in final.recipe.control_rates))
        asked = final.asked(None, 0.0, SEED)
        names = ("version", "task", "network", "teacher", "recipe", "seed", "precision", "device")
        self.asked = {name: asked[name] for name in names}
        self.asked |= {"rates": rates}
        self._rates = rates
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
        for rate in self._rates:
            make = partial(self._retrain, rate, validation, progress)
            pieces.append(Piece(self.folder, _name(rate), f"full precision at {rate}", self._final.epochs, make))
        return [piece for piece in pieces if not piece.finished]

    def chosen(self, validation: Callable[[], Examples]) -> Control:
        """Return the control, once all retrainings are finished.

        Raises:
            ReLeQError: If data are not to be had, or a file is damaged or cannot be written.
        """
        with self.folder.locked("control"):
            return self._best(validation)

    def _retrain(self, rate: float, validation: Callable[[], Examples], progress: Listener) -> None:
        name = _name(rate)
        checkpoint = self.folder.path / f"{name}.checkpoint.safetensors"
        try:
            trained = self._final.train(None, rate, SEED, checkpoint, progress.epoch_done)
        except DivergedError as error:
            self.folder.write(f"{name}.json", {"diverged": str(error), "learning_rate": rate})
            return
        network = trained.network.cpu()
        state = network.state_dict()
        payload = save({key: state[key].clone(memory_format=torch.contiguous_format) for key in state})
        self.folder.write(f"{name}.safetensors", payload)
        row = {
            "learning_rate": rate,
            "validation_accuracy": accuracy(network, validation(), self._final.engine.task),
            "sha256": hashlib.sha256(payload).hexdigest(),
            "place": self._final.place,
            "history": trained.history,
        }
        self.folder.write(f"{name}.json", row)
        checkpoint.unlink(missing_ok=True)

    def _best(self, validation: Callable[[], Examples]) -> Control:
        known = self.folder.read("control.json")
        pretrained = self._final.engine.pretrained
        if known is None:
            as_it_is = accuracy(copy.deepcopy(pretrained.network), validation(), self._final.engine.task)
            candidates: dict[str, float | None] = {PRETRAINED: as_it_is}
            best, which, sha256, place = as_it_is, PRETRAINED, pretrained.sha256, None
            for rate in self._rates:
                row: dict[str, Any] = self.folder.row(_name(rate)) or {}
                found = candidates[f"retrained at {rate}"] = row.get("validation_accuracy")
                if found is not None and found > best:
                    best, which, sha256, place = found, f"retrained at {rate}", row["sha256"], row["place"]
            known = {"which": which, "validation_accuracy": best, "candidates": candidates, "sha256": sha256}
            known |= {"place": place}
            self.folder.write("control.json", known)
        load = self._loader(known["which"])
        measured = (known["validation_accuracy"], known["candidates"])
        return Control(known["which"], *measured, load, known["sha256"], self.folder, known["place"])

    def _loader(self, which: str) -> Callable[[], nn.Module]:
        original = self._final.engine.pretrained.network
        rates = {f"retrained at {rate}": rate for rate in self._rates}

        def load() -> nn.Module:
            network = copy.deepcopy(original)
            if which != PRETRAINED:
                network.load_state_dict(load_file(self.folder.path / f"{_name(rates[which])}.safetensors"))
            return network.eval()

        return load


def _name(rate: float) -> str:
    return f"rate-{rate}"
