"""The networks and their data, and the larger held-out part on which is chosen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from releq_env.errors import ReLeQError
from releq_env.tasks import TASKS as BUILT_IN
from releq_env.tasks import Examples, Task
from releq_env.tasks.datasets import Dataset
from releq_env.tasks.final import FINAL_RECIPES, FinalRecipe

_STREET_FILE = "street-digits-grey.npz"
_TRAINING, _VALIDATION, _TEST = range(3)


def _read_street_digits(root: Path, train: bool, download: bool) -> Examples:
    """Read digits of SVHN's test split in grey, three equal channels; the split keeps a house number together."""
    path = root / _STREET_FILE
    if not path.exists():
        raise ReLeQError(
            f"{path} is missing: the street digits come with no library; put the file there, or leave these rows out "
            "with --only"
        )
    with np.load(path, allow_pickle=False) as file:
        parts = [np.flatnonzero(file["split"] == part) for part in (_TRAINING, _VALIDATION, _TEST)]
        kept = np.concatenate(parts[:2]) if train else parts[2]
        images = torch.from_numpy(file["images"][kept]).unsqueeze(1).expand(-1, 3, -1, -1).contiguous()
        return Examples(images, torch.from_numpy(file["labels"][kept].astype(np.int64)))


STREET_DIGITS = Dataset(
    name="StreetDigits",
    input_shape=(3, 32, 32),
    read=_read_street_digits,
    validation_images=2248,
    mean=(0.4546,),
    std=(0.2229,),
    scale=255.0,
)
"""Not SVHN: its content in grey with a split of its own, so an accuracy on it is never SVHN's."""

STREET_DIGITS_TASK = replace(BUILT_IN["svhn"], name="street-digits", dataset=STREET_DIGITS)
"""For `--env-kwargs problem=benchmarks.reproduce.networks:STREET_DIGITS_TASK`."""

TASKS: dict[str, Task] = {name: BUILT_IN[name] for name in ("mnist", "cifar10", "svhn")} | {
    STREET_DIGITS_TASK.name: STREET_DIGITS_TASK
}
"""The networks of the paper's headline, and what stands in for data that are not to be had."""

RECIPES: dict[str, FinalRecipe] = FINAL_RECIPES | {
    # Not svhn's, which nothing may be learned about from these images: they are of its test split.
    STREET_DIGITS_TASK.name: FinalRecipe(shift=2)
}
"""The final recipe of each task."""

_CHOOSING_IMAGES = {"cifar10": 15_000}


def choosing_task(name: str) -> Task:
    """Return the task on whose validation part recipes and assignments are chosen.

    Where differences of 0.3 points drown in the noise of the standard validation part, a larger one is held out; its
    network is pre-trained without it, and never shipped.

    Args:
        name: A name in `TASKS`.
    """
    task = TASKS[name]
    if name not in _CHOOSING_IMAGES:
        return task
    dataset = replace(task.dataset, validation_images=_CHOOSING_IMAGES[name])
    return replace(task, name=f"{name}-choosing", dataset=dataset)
