"""What a tool is given, what it answers, and what is known of it."""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from releq_env.problem import Problem
from releq_env.tasks import Examples

_BATCH = 128


class Given(NamedTuple):
    """What every tool is given.

    Attributes:
        problem: Layers and data; a search with retraining asks its source for accuracies.
        network: Trained, in evaluation mode, on the CPU. A tool may change it.
        training: Inputs as the network takes them, and targets.
        validation: Likewise; nothing is trained on it.
        evaluations: How many distinct assignments a search with retraining may measure.
    """

    problem: Problem
    network: nn.Module
    training: Examples
    validation: Examples
    evaluations: int

    def batches(self, most: int) -> list[tuple[Tensor, Tensor]]:
        """Return batches of the first training examples, at most `most` of them."""
        return list(
            zip(self.training.inputs.split(_BATCH)[:most], self.training.targets.split(_BATCH)[:most], strict=True)
        )

    @torch.no_grad()
    def accuracy(self, network: nn.Module, most: int) -> float:
        """Return the share of right answers, in [0, 1], on at most `most` validation examples."""
        inputs, targets = self.validation.inputs[:most], self.validation.targets[:most]
        outputs = torch.cat([network(batch) for batch in inputs.split(_BATCH)])
        return float((outputs.argmax(dim=1) == targets).float().mean())


class Choice(NamedTuple):
    """What a tool answers.

    Attributes:
        bitwidths: Of every layer, by its name in the network.
        seconds: What choosing took; importing the tool and writing its file do not count.
        file: What the tool itself writes of the network with these bitwidths.
    """

    bitwidths: dict[str, int]
    seconds: float
    file: Path


Choose = Callable[[Given, float, Path], Choice]
"""`(given, bits a weight on average at most, an empty folder) -> choice`."""


@dataclass(frozen=True)
class Vendor:
    """A tool.

    Attributes:
        label: What it is called.
        choose: The function, or where it is: `"module:name"`.
        bits: The bitwidths that it can give a layer.
        file: What the file is that it writes.
        needs: Modules that have to be there.
        install: What pip is to be given for them.
    """

    label: str
    choose: str | Choose
    bits: tuple[int, ...]
    file: str
    needs: tuple[str, ...] = ()
    install: str = ""

    def missing(self) -> str | None:
        """Return in one line what is not installed, `None` if nothing is missing."""
        absent = [name for name in self.needs if find_spec(name) is None]
        if not absent:
            return None
        return f"{self.label} is left out: {absent[0]} is not installed; python -m pip install {self.install}"

    def chosen(self, given: Given, weighted_bits: float, folder: Path) -> Choice:
        """Return what it answers."""
        choose: Choose = pkgutil.resolve_name(self.choose) if isinstance(self.choose, str) else self.choose
        return choose(given, weighted_bits, folder)
