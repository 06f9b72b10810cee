"""How long a training step takes; what rows d, e and h measure.

A step's time is that of an evaluation with some steps less that of one without, over their number; so
copying, calibrating and validating are not in it, and the engine is measured through its public method.
The full-precision step is the same evaluation with no layer to quantize.
"""

import dataclasses
import functools

from benchmarks.common.stand_ins import BATCH, BITS, STEPS, random_task
from benchmarks.speed.measuring import Options
from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import Pretrained, Task

_TRAINING_IMAGES = {"lenet": 20 * BATCH, "simplenet": 20 * BATCH, "svhn8": 2 * BATCH}


def step_seconds(network: str, precision: str, quantized: bool, steps: int) -> float:
    """Return how long one training step of one thread takes, on random images."""
    bits = (BITS,) * len(random_images(network)[1].layers) if quantized else ()
    without = _retraining(network, precision, quantized, 0)
    with_steps = _retraining(network, precision, quantized, steps)
    for retraining in (without, with_steps):
        retraining.load()
    return (with_steps.measure(bits)[1] - without.measure(bits)[1]) / steps


def steps_of(network: str, options: Options) -> int:
    """Return how many steps are timed."""
    return min(STEPS[network], max(options.images // BATCH, 1))


@functools.cache
def random_images(network: str) -> tuple[Task, Pretrained]:
    """Return the network's task with so many random images as a step's time depends on."""
    return random_task(network, training=_TRAINING_IMAGES[network], validation=10)


@functools.cache
def _retraining(network: str, precision: str, quantized: bool, steps: int) -> ShortRetraining:
    task, pretrained = random_images(network)
    if not quantized:
        pretrained = dataclasses.replace(pretrained, layers=())
    return ShortRetraining(task, pretrained, retrain_images=steps * BATCH, precision=precision)
