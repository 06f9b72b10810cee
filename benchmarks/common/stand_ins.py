"""Tasks over random images of the right shape: a timing does not depend on what is to be seen."""

import dataclasses
from functools import partial
from pathlib import Path

import torch

from releq_env.quantization import quantizable_layers
from releq_env.tasks import TASKS, Pretrained, Task, load_pretrained
from releq_env.tasks.datasets import Examples

TASK_OF = {"lenet": "mnist", "simplenet": "cifar10", "svhn8": "svhn"}
NETWORKS = tuple(TASK_OF)
STEPS = {"lenet": 60, "simplenet": 80, "svhn8": 10}
"""As many as take long enough for a clock."""
BATCH = 128
BITS = 4


def random_task(network: str, training: int, validation: int) -> tuple[Task, Pretrained]:
    """Return a network's task with random images, and the network untrained.

    Args:
        network: Out of `NETWORKS`.
        training: Images to retrain on.
        validation: Images to measure on.
    """
    task = TASKS[TASK_OF[network]]
    shape = task.dataset.input_shape
    dataset = dataclasses.replace(
        task.dataset,
        name="Random",
        read=partial(_random_images, shape, training + validation),
        digests=None,
        validation_images=validation,
        downloads=False,
        cache_key=f"{training + validation} random images",
    )
    module = task.untrained().eval()
    layers = quantizable_layers(module, shape)
    pretrained = Pretrained(module, layers, accuracy=0.1, sha256="random", input_shape=shape)
    return dataclasses.replace(task, dataset=dataset), pretrained


def real_or_random(network: str, random_data: bool, training: int, validation: int) -> tuple[Task, Pretrained]:
    """Return the built-in task and its weights, or with random images what `random_task` returns.

    SVHN-8 always has random images: its data set is large and its weights are not shipped.
    """
    if random_data or network == "svhn8":
        return random_task(network, training, validation)
    task = TASKS[TASK_OF[network]]
    return task, load_pretrained(task)


def _random_images(shape: tuple[int, ...], count: int, root: Path, train: bool, download: bool) -> Examples:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    return Examples(images, torch.randint(0, 10, (count,), generator=generator))
