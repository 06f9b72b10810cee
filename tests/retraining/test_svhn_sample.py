"""SVHN-8 on a sample of real SVHN images: too few to report an accuracy, enough to try the machinery."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from releq_env.retraining.short import ShortRetraining
from releq_env.tasks import TASKS, load_pretrained
from releq_env.tasks.datasets import Examples


@pytest.mark.slow
def test_short_retraining_learns_on_real_images(real_data: str) -> None:
    path = Path(real_data) / "svhn-sample.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in RELEQ_DATA")
    sample = np.load(path, allow_pickle=False)

    def read(root: Path, train: bool, download: bool) -> Examples:
        return Examples(torch.from_numpy(sample["X"]), torch.from_numpy(sample["y"].astype(np.int64)))

    svhn = TASKS["svhn"]
    task = dataclasses.replace(
        svhn,
        dataset=dataclasses.replace(svhn.dataset, read=read, validation_images=283),
        pretraining=dataclasses.replace(svhn.pretraining, epochs=40, batch_size=32),
    )
    pretrained = load_pretrained(task)
    assert len(pretrained.layers) == 8
    chance = 0.3  # the most frequent digit is about a fifth of the images
    assert pretrained.accuracy > chance
    retraining = ShortRetraining(task, pretrained, retrain_images=1600)
    assert retraining.measure((8,) * 8)[0] > chance
    untrained = ShortRetraining(task, pretrained, retrain_images=0)
    assert retraining.measure((2,) * 8)[0] >= untrained.measure((2,) * 8)[0]
