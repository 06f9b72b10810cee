"""Row e: how much of the processor retraining uses: beside matrix products, in two one-thread processes at once."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.common.stand_ins import BATCH
from benchmarks.speed.measuring import Measure, Options, Reading, child, networks, values
from benchmarks.speed.steps import random_images, step_seconds, steps_of
from benchmarks.speed.table import Line, median, ratio

LETTER = "e"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_GEMM_SIZE = 2048
_GEMM_SECONDS = 0.4
_LEAD_SECONDS = 0.05


@contextlib.contextmanager
def measuring(options: Options) -> Iterator[Measure]:
    """GFLOP/s of both processes together."""
    with child() as first, child() as second:

        def both(function: Callable[..., float], *arguments: object) -> float:
            start = time.time() + _LEAD_SECONDS
            futures = [process.submit(_at, start, function, *arguments) for process in (first, second)]
            return sum(future.result() for future in futures)

        def measure(_: int) -> list[Reading]:
            found = []
            for precision in PRECISIONS:
                found.append(Reading("e", "peak", "GFLOP/s", both(gemm_rate, precision), setting=precision))
                for network in options.networks:
                    rate = both(retraining_rate, network, precision, steps_of(network, options))
                    found.append(Reading("e", "retraining", "GFLOP/s", rate, network, precision))
            return found

        for precision in PRECISIONS:
            both(gemm_rate, precision, 0.01)
            for network in options.networks:
                both(retraining_rate, network, precision, 1)
        yield measure


def lines(readings: Sequence[Reading]) -> list[Line]:
    """Return the peaks, and the share of them that retraining reaches."""
    found = []
    for precision in PRECISIONS:
        peak = values(readings, "e", "peak", setting=precision, unit="GFLOP/s")
        if not peak:
            continue
        found.append(Line("e", f"GEMM peak, {precision}, 2 processes", median(peak, "GFLOP/s")))
        for network in networks(readings, "e"):
            reached = values(readings, "e", "retraining", network, precision, "GFLOP/s")
            what = f"{network}: retraining, share of {precision} peak"
            wanted = ">= 0.25" if (network, precision) == ("svhn8", "bf16") else ""
            found.append(ratio("e", what, reached, peak, wanted, "GFLOP/s"))
    return found


def retraining_rate(network: str, precision: str, steps: int) -> float:
    """Return the GFLOP/s of one thread's retraining."""
    return flops_per_image(network) * BATCH / step_seconds(network, precision, True, steps) / 1e9


def flops_per_image(network: str) -> int:
    """Return a training step's operations an image.

    Two a multiply-accumulate, in the forward pass, for the weights' gradient and for the input's
    gradient; the last is not needed, and not computed, in the first layer.
    """
    macs = [layer.macs for layer in random_images(network)[1].layers]
    return 2 * (3 * sum(macs) - macs[0])


def gemm_rate(precision: str, seconds: float = _GEMM_SECONDS) -> float:
    """Return the GFLOP/s of one thread's matrix products."""
    torch.set_num_threads(1)
    left, right = _matrices(precision)
    out = torch.mm(left, right)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        torch.mm(left, right, out=out)
        count += 1
    return count * 2 * _GEMM_SIZE**3 / (time.perf_counter() - start) / 1e9


@functools.cache
def _matrices(precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    left, right = torch.randn(2, _GEMM_SIZE, _GEMM_SIZE).to(PRECISIONS[precision])
    return left, right


def _at(start: float, function: Callable[..., float], *arguments: object) -> float:
    time.sleep(max(start - time.time(), 0.0))
    return function(*arguments)
