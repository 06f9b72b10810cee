"""Whether an exported file computes what the network computes in torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError

TOLERANCE = 1e-4
"""Largest difference that is accepted, times the largest output where that is above 1."""

Runner = Callable[[Tensor], list[NDArray[Any]]]
"""From a batch of inputs to the outputs of an exported file, several where the network has several."""

_BATCH = 256


@dataclass(frozen=True)
class Agreement:
    """How near two computations of the same outputs are.

    Attributes:
        inputs: How many were compared.
        difference: The largest between two outputs; infinite where one is not a number.
        tolerance: What is accepted of it.
        other_classes: Of how many inputs the largest output is another one, without ties (both outputs within
            the tolerance); 0 where outputs are no classes, that is not of shape `(count, classes)`.
    """

    inputs: int
    difference: float
    tolerance: float
    other_classes: int

    @property
    def agree(self) -> bool:
        """Whether they are the same for all purposes."""
        return self.difference <= self.tolerance and not self.other_classes

    def __str__(self) -> str:
        verdict = "agree" if self.agree else "DIFFER"
        return (
            f"{verdict} with torch on {self.inputs} inputs: largest difference {self.difference:.1e} "
            f"(accepted {self.tolerance:.1e}), {self.other_classes} other classes"
        )


def compare(network: nn.Module, run: Runner, inputs: Tensor) -> Agreement:
    """Compare outputs of an exported file with those of a network in torch, in float32.

    Args:
        network: In evaluation mode.
        run: Computes those of the file.
        inputs: Shape `(count, ...)`.

    Raises:
        ReLeQError: If the file or the network cannot be run.
    """
    difference, largest, margins = 0.0, 0.0, []
    for batch in inputs.split(_BATCH):
        try:
            with pinned_arithmetic(), torch.no_grad():
                ours = [each.float().numpy() for each in outputs(network(batch))]
        except Exception as error:  # whatever a network raises
            raise ReLeQError(
                f"the network does not run on inputs of shape {tuple(batch.shape[1:])} and type {batch.dtype} "
                f"({' '.join(str(error).split())[:200]}); give --input-shape, --input-dtype, or --check FILE.npy"
            ) from error
        try:
            theirs = run(batch)
        except Exception as error:  # the runtimes' own are of no public class
            raise ReLeQError(f"the exported file does not run ({str(error)[:200]}); export it again") from error
        for a, b in zip(ours, theirs, strict=True):
            apart = float(np.abs(a - b).max(initial=0.0)) if a.shape == b.shape else np.inf
            difference = max(difference, apart if np.isfinite(apart) else np.inf)
            largest = max(largest, float(np.abs(a).max(initial=0.0)))
            if a.ndim == 2 and a.shape[1] > 1 and a.shape == b.shape:
                margins.append(a.max(axis=1) - a[np.arange(len(a)), b.argmax(axis=1)])
    tolerance = TOLERANCE * max(1.0, largest)
    other = sum(int((margin > tolerance).sum()) for margin in margins)
    return Agreement(len(inputs), difference, tolerance, other)


def outputs(given: Any) -> list[Tensor]:
    """Return what a network returns, tensor by tensor: it may be nested in tuples, lists and dictionaries."""
    if isinstance(given, Tensor):
        return [given]
    parts = given.values() if isinstance(given, dict) else given
    return [tensor for part in parts for tensor in outputs(part)]
