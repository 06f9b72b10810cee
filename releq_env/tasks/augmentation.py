"""Images mirrored and shifted at random."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from releq_env.errors import ReLeQError


@dataclass(frozen=True)
class Augmentation:
    """Mirrors half of the images left to right, and shifts all.

    There are finitely many ways to do both, so that a way is a number, and what depends on image and way alone can be
    computed once for all epochs (Shen & Xing 2022, arXiv 2112.01528, for the outputs of a teacher).

    Attributes:
        flip: Whether to mirror.
        shift: Largest shift, in pixels, up, down, left and right; zero padded.
    """

    flip: bool = False
    shift: int = 0

    @property
    def ways(self) -> int:
        """How many ways there are: 1 where nothing is done."""
        return (1 + self.flip) * self._windows

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return the ways of so many images, int64, shape `(count,)`, on the generator's device."""
        device = generator.device
        ways = torch.zeros(count, dtype=torch.int64, device=device)
        if self.flip:
            ways += self._windows * (torch.rand(count, generator=generator, device=device) < 0.5)
        if self.shift:
            size = 2 * self.shift + 1
            ways += size * torch.randint(size, (count,), generator=generator, device=device)
            ways += torch.randint(size, (count,), generator=generator, device=device)
        return ways

    def apply(self, images: Tensor, ways: Tensor) -> Tensor:
        """Return images changed in these ways, channels last; other inputs as they are if nothing is done.

        Args:
            images: Shape `(N, C, H, W)`.
            ways: One an image, as `draw` gives them.

        Raises:
            ReLeQError: If what is no image is to be mirrored or shifted.
        """
        if images.ndim != 4:
            if self.ways > 1:
                raise ReLeQError(
                    f"inputs of shape {tuple(images.shape[1:])} cannot be mirrored or shifted; give the recipe "
                    "flip=False and shift=0, or images (channels, height, width)"
                )
            return images
        if self.flip:
            images = torch.where((ways >= self._windows).view(-1, 1, 1, 1), images.flip(3), images)
        if self.shift:
            images = self._shifted(images, ways % self._windows)
        return images.contiguous(memory_format=torch.channels_last)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images changed at random, see `apply`."""
        return self.apply(images, self.draw(len(images), generator))

    @property
    def _windows(self) -> int:
        return (2 * self.shift + 1) ** 2

    def _shifted(self, images: Tensor, windows: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        size, border = 2 * self.shift + 1, self.shift
        padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, border, border, border, border)).contiguous()
        of_image, of_row, of_pixel, _ = padded.stride()
        # All windows as views, a row's pixels side by side: whole rows are copied, not pixel by pixel.
        shape = (count, size, size, height, width * channels)
        every = padded.as_strided(shape, (of_image, of_row, of_pixel, of_row, 1))
        taken = every[torch.arange(count, device=images.device), windows // size, windows % size]
        return taken.view(count, height, width, channels).permute(0, 3, 1, 2)
