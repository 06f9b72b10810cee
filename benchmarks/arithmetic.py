"""Rows d and e: what quantizing costs a training step, and how much of the processor a step uses.

A step's time is that of an evaluation with some steps less that of one without, over their number; so
copying, calibrating and validating are not in it, and the engine is measured through its public method.
The full-precision step is the same evaluator with no layer to quantize.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.measuring import BATCH, Measure, Options, child
from benchmarks.stand_ins import random_task
from releq_env.evaluation import RetrainingEvaluator
from releq_env.tasks import Pretrained, Task

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_STEPS = {"lenet": 60, "simplenet": 80, "svhn8": 10}
_TRAINING_IMAGES = {"lenet": 20 * BATCH, "simplenet": 20 * BATCH, "svhn8": 2 * BATCH}
_BITS = 4
_GEMM_SIZE = 2048
_GEMM_SECONDS = 0.4
_LEAD_SECONDS = 0.05


@contextlib.contextmanager
def quantizing(options: Options) -> Iterator[Measure]:
    """Row d: seconds of one thread's step, with and without quantization, in the default precision."""
    with child() as process:

        def run(network: str, quantized: bool) -> float:
            steps = _steps(network, options)
            return process.submit(step_seconds, network, "auto", quantized, steps).result()

        def measure(number: int) -> dict[str, float]:
            found = {}
            for network in options.networks:
                for quantized in (False, True) if number % 2 == 0 else (True, False):
                    found[f"d/{network}/{'quantized' if quantized else 'plain'}"] = run(network, quantized)
            return found

        for network in options.networks:
            process.submit(step_seconds, network, "auto", True, 1).result()
        yield measure


@contextlib.contextmanager
def share_of_peak(options: Options) -> Iterator[Measure]:
    """Row e: GFLOP/s of two one-thread processes at once, of matrix products and of retraining."""
    with child() as first, child() as second:

        def both(function: Callable[..., float], *arguments: object) -> float:
            start = time.time() + _LEAD_SECONDS
            futures = [process.submit(_at, start, function, *arguments) for process in (first, second)]
            return sum(future.result() for future in futures)

        def measure(_: int) -> dict[str, float]:
            found = {}
            for precision in PRECISIONS:
                found[f"e/peak/{precision}"] = both(gemm_rate, precision)
                for network in options.networks:
                    steps = _steps(network, options)
                    found[f"e/{network}/{precision}"] = both(retraining_rate, network, precision, steps)
            return found

        for precision in PRECISIONS:
            both(gemm_rate, precision, 0.01)
            for network in options.networks:
                both(retraining_rate, network, precision, 1)
        yield measure


def step_seconds(network: str, precision: str, quantized: bool, steps: int) -> float:
    """Return how long one training step of one thread takes, on random images."""
    bits = (_BITS,) * len(_task(network)[1].layers) if quantized else ()
    without = _evaluator(network, precision, quantized, 0)
    with_steps = _evaluator(network, precision, quantized, steps)
    for evaluator in (without, with_steps):
        evaluator.load()
    return (with_steps.measure(bits)[1] - without.measure(bits)[1]) / steps


def retraining_rate(network: str, precision: str, steps: int) -> float:
    """Return the GFLOP/s of one thread's retraining."""
    return flops_per_image(network) * BATCH / step_seconds(network, precision, True, steps) / 1e9


def flops_per_image(network: str) -> int:
    """Return a training step's operations an image.

    Two a multiply-accumulate, in the forward pass, for the weights' gradient and for the input's
    gradient; the last is not needed, and not computed, in the first layer.
    """
    macs = [layer.macs for layer in _task(network)[1].layers]
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


@functools.cache
def _task(network: str) -> tuple[Task, Pretrained]:
    return random_task(network, training=_TRAINING_IMAGES[network], validation=10)


@functools.cache
def _evaluator(network: str, precision: str, quantized: bool, steps: int) -> RetrainingEvaluator:
    task, pretrained = _task(network)
    if not quantized:
        pretrained = dataclasses.replace(pretrained, layers=())
    return RetrainingEvaluator(task, pretrained, retrain_images=steps * BATCH, precision=precision)


def _steps(network: str, options: Options) -> int:
    return min(_STEPS[network], max(options.images // BATCH, 1))


def _at(start: float, function: Callable[..., float], *arguments: object) -> float:
    time.sleep(max(start - time.time(), 0.0))
    return function(*arguments)
