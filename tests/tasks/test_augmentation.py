"""Images mirrored and shifted."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from releq_env import ReLeQError
from releq_env.tasks.augmentation import Augmentation

IMAGES = torch.randn(40, 2, 6, 7, generator=torch.Generator().manual_seed(5))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plainly(image: Tensor, way: int, shift: int) -> Tensor:
    """An image in a way, by slices."""
    size = 2 * shift + 1
    image = image.flip(2) if way >= size * size else image
    row, column = way % (size * size) // size, way % size
    return F.pad(image, (shift,) * 4)[:, row : row + image.shape[1], column : column + image.shape[2]]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("flip", "shift"), [(False, 0), (True, 0), (False, 1), (True, 2)])
def test_every_way_is_what_slices_give(flip: bool, shift: int, channels: int, layout: torch.memory_format) -> None:
    augmentation = Augmentation(flip, shift)
    ways = torch.arange(augmentation.ways)
    images = torch.randn(len(ways), channels, 6, 7, generator=seeded()).contiguous(memory_format=layout)
    before = images.clone()
    found = augmentation.apply(images, ways)
    assert torch.equal(images, before)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for image, source, way in zip(found, images, ways.tolist(), strict=True):
        assert torch.equal(image, plainly(source, way, shift))
    if shift and flip:
        assert len({image.sum().item() for image in augmentation.apply(images[:1].expand_as(images), ways)}) > 40


def test_no_augmentation_is_the_identity() -> None:
    assert Augmentation().ways == 1
    assert torch.equal(Augmentation()(IMAGES, seeded()), IMAGES)
    tokens = torch.arange(6).view(2, 3)
    assert torch.equal(Augmentation()(tokens, seeded()), tokens)


def test_flip_mirrors_some_images_and_no_other() -> None:
    found = Augmentation(flip=True)(IMAGES, seeded())
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(found, IMAGES, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(found, IMAGES, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    assert 5 < sum(mirrored) < 35


def test_every_way_is_drawn_as_often() -> None:
    augmentation = Augmentation(flip=True, shift=1)
    counts = torch.bincount(augmentation.draw(18_000, seeded()), minlength=18)
    assert len(counts) == augmentation.ways == 18
    assert 800 < counts.min() <= counts.max() < 1200  # 1000 each, 6 standard deviations of 31 off


def test_what_is_drawn_is_what_weights_were_trained_with() -> None:
    """The shipped weights are made again only as long as numbers are drawn in this order."""
    generator = seeded(3)
    mirrored = torch.rand(500, generator=generator) < 0.5
    rows = torch.randint(5, (500, 1), generator=generator)
    columns = torch.randint(5, (500, 1), generator=generator)
    expected = (25 * mirrored + 5 * rows[:, 0] + columns[:, 0]).long()
    assert torch.equal(Augmentation(flip=True, shift=2).draw(500, seeded(3)), expected)


def test_what_is_no_image_is_refused_in_one_line() -> None:
    with pytest.raises(ReLeQError, match=r"inputs of shape \(8,\) cannot be mirrored or shifted; give the recipe flip"):
        Augmentation(flip=True)(torch.zeros(3, 8), seeded())
