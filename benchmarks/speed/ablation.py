"""Row h: what single parts of the engine buy: a whole training step without one of them, over one with all.

Each part is replaced by doing nothing, in the engine itself and in one process with all that it is compared with.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.speed.measuring import Measure, Options, Reading, child, networks, values
from benchmarks.speed.steps import step_seconds, steps_of
from benchmarks.speed.table import Line, ratio
from releq_env.retraining import short
from releq_env.retraining.batch_norm import fold
from releq_env.retraining.data import channels_last
from releq_env.retraining.fused import fuse

LETTER = "h"


def _nothing(network: Any, pairs: Any) -> None:
    """Leave the network as it is."""


def _as_torch_does(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last)


FUSED, FOLDED, TOLD = "pooling and ReLU in one layer", "folded batch norm", "channels last told of one channel"
_INSTEAD: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    FUSED: (fuse, _nothing),
    FOLDED: (fold, _nothing),
    TOLD: (channels_last, _as_torch_does),
}
"""Part: the engine's function, and what is there without it."""
PARTS = {"lenet": (FUSED, TOLD), "simplenet": (FUSED,), "svhn8": (FUSED, FOLDED)}
"""Those that a network has."""


@contextlib.contextmanager
def measuring(options: Options) -> Iterator[Measure]:
    """Seconds a step of one thread, with and without each part in turn; which comes first changes."""
    with child() as process:

        def run(network: str, part: str, side: str, steps: int) -> Reading:
            seconds = process.submit(seconds_of_step, network, part, side, steps).result()
            return Reading("h", side, "s", seconds, network, part)

        def measure(number: int) -> list[Reading]:
            return [
                run(network, part, side, steps_of(network, options))
                for network in options.networks
                for part in PARTS[network]
                for side in (("with", "without") if number % 2 == 0 else ("without", "with"))
            ]

        for network in options.networks:
            run(network, PARTS[network][0], "with", 1)
        yield measure


def lines(readings: Sequence[Reading]) -> list[Line]:
    """Compare the two."""
    return [
        ratio("h", f"{network}: step without {part} / with", without, with_it, ">= 1.05", "ms")
        for network in networks(readings, "h")
        for part in PARTS[network]
        for without, with_it in [[values(readings, "h", side, network, part) for side in ("without", "with")]]
    ]


def seconds_of_step(network: str, part: str, side: str, steps: int) -> float:
    """Return how long a training step takes, `"with"` or `"without"` a part, on random images."""
    with left_out(part) if side == "without" else contextlib.nullcontext():
        return step_seconds(network, "auto", True, steps)


@contextlib.contextmanager
def left_out(part: str) -> Iterator[None]:
    """Take a part out of this process's engine."""
    function, instead = _INSTEAD[part]
    with patch.object(short, function.__name__, instead):
        yield
