"""Data sets: where they come from, how they are split, how they are normalised.

Images stay `uint8` until they are used. The training, validation and test parts are disjoint;
test data has a loader of its own, so that nothing reads it by accident.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from releq_env.errors import ReLeQError
from releq_env.paths import data_folder


class Images(NamedTuple):
    """Labelled images.

    Attributes:
        images: uint8, shape `(N, channels, height, width)`.
        labels: int64, shape `(N,)`.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Dataset:
    """A data set with a fixed split.

    Attributes:
        name: torchvision's class name, or `"Digits"`.
        input_shape: `(channels, height, width)`.
        mean: Per channel, of images scaled to [0, 1].
        std: Per channel, of images scaled to [0, 1].
        scale: The largest pixel value.
        read: `(root, train) -> Images`; raises what the library beneath raises.
        digests: SHA-256 of the training and test part, `None` where they are checked on reading.
        validation_images: How many images at the end of the training part are validation.
        downloads: Whether the library beneath can fetch missing files.
    """

    name: str
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    read: Callable[[Path, bool, bool], Images]
    digests: tuple[str, str] | None
    validation_images: int
    downloads: bool = True

    @property
    def fingerprint(self) -> str:
        """What tells this data and its split from others."""
        published = self.digests[0] if self.digests else "md5"
        return f"{self.name}/{published}/{self.validation_images}/{self.mean}/{self.std}/{self.scale}"

    def load(self, data_root: str | os.PathLike[str] | None = None) -> tuple[Images, Images]:
        """Return the training and the validation part.

        Args:
            data_root: Folder of the data, see `releq_env.paths.data_folder`.

        Raises:
            ReLeQError: If files are missing and cannot be downloaded, or are damaged.
        """
        everything = self._load(data_folder(data_root), train=True)
        cut = len(everything.labels) - self.validation_images
        if cut <= 0:
            raise ReLeQError(
                f"the {self.name} training data in {data_folder(data_root)} are {len(everything.labels)} images, "
                f"of which {self.validation_images} are validation; give more images or validate on fewer"
            )
        return (
            Images(everything.images[:cut], everything.labels[:cut]),
            Images(everything.images[cut:], everything.labels[cut:]),
        )

    def load_test(self, data_root: str | os.PathLike[str] | None = None) -> Images:
        """Return the test part. For final reports only: no choice may depend on it."""
        return self._load(data_folder(data_root), train=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Return float32 images with zero mean and unit variance a channel, same shape."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return (images.float() / self.scale - mean) / std

    def _load(self, root: Path, train: bool) -> Images:
        part = "training" if train else "test"
        mend = (
            f"delete the {self.name} files in it and let them be downloaded again, "
            "or point data_root= or RELEQ_DATA at a good copy"
        )
        try:
            data = self._read_or_download(root, train)
        except ReLeQError:
            raise
        except Exception as error:
            # torchvision raises whatever its parser meets first (assertions, EOFError, pickle errors, ...).
            raise ReLeQError(
                f"the {self.name} {part} data in {root} cannot be read ({type(error).__name__}: {error}); {mend}"
            ) from error
        if self.digests is not None and digest(data) != self.digests[0 if train else 1]:
            raise ReLeQError(
                f"the {self.name} {part} data in {root} is not the published data set (SHA-256 differs); {mend}"
            )
        return data

    def _read_or_download(self, root: Path, train: bool) -> Images:
        try:
            return self.read(root, train, False)
        except RuntimeError as error:  # torchvision: files are missing, or their MD5 differs
            if not self.downloads or "not found" not in str(error):
                raise
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{self.name}.lock"):  # N workers download once
                return self.read(root, train, True)
        except Exception as error:  # urllib's, ssl's, torchvision's and the file system's
            raise ReLeQError(
                f"the {self.name} data in {root} are missing or damaged, and downloading them failed "
                f"({type(error).__name__}: {error}); "
                "connect to the internet and try again (delete damaged files first), "
                "or point data_root= or RELEQ_DATA at a folder "
                "that has it in torchvision's layout"
            ) from error


def digest(data: Images) -> str:
    """Return the SHA-256 of images and labels."""
    sha = hashlib.sha256()
    for tensor in data:
        sha.update(np.ascontiguousarray(tensor.numpy()).data)
    return sha.hexdigest()


def _grey(name: str, root: Path, train: bool, download: bool) -> Images:
    data = _torchvision(name)(root, train=train, download=download)
    return Images(data.data.unsqueeze(1), data.targets)


def _cifar10(root: Path, train: bool, download: bool) -> Images:
    data = _torchvision("CIFAR10")(root, train=train, download=download)
    return Images(torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets))


def _svhn(root: Path, train: bool, download: bool) -> Images:
    data = _torchvision("SVHN")(root, split="train" if train else "test", download=download)
    return Images(torch.from_numpy(data.data), torch.from_numpy(data.labels.astype(np.int64)))


def _digits(root: Path, train: bool, download: bool) -> Images:
    """Scikit-learn's digits, stratified: 800 training, 500 validation and 497 test images."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    shuffled = np.random.RandomState(0).permutation(len(digits.target))  # a stream that NumPy keeps for ever
    quantile = np.empty(len(shuffled))
    for label in range(10):
        members = shuffled[digits.target[shuffled] == label]
        quantile[members] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.argsort(quantile, kind="stable")  # every stretch of it has all classes in proportion
    chosen = order[:1300] if train else order[1300:]
    images = torch.from_numpy(digits.images[chosen].astype(np.uint8)).unsqueeze(1)
    return Images(images, torch.from_numpy(digits.target[chosen].astype(np.int64)))


def _torchvision(name: str) -> Any:
    # Imported here: a torchvision that does not match its torch fails at import, and costs a second.
    import torchvision.datasets

    return getattr(torchvision.datasets, name)


DATASETS: dict[str, Dataset] = {
    "Digits": Dataset(
        name="Digits",
        input_shape=(1, 8, 8),
        mean=(0.3053,),
        std=(0.3760,),
        scale=16.0,
        read=_digits,
        digests=(
            "540cc3d5131c1761b1dab8dcadf3f4d1ac468147d5fee5eebcb1c1e291004e3d",
            "147db1c5c745e333f958d215b7ccf8204635fe31d831e225b507700a215d9a98",
        ),
        validation_images=500,
        downloads=False,
    ),
    "MNIST": Dataset(
        name="MNIST",
        input_shape=(1, 28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        scale=255.0,
        read=partial(_grey, "MNIST"),
        digests=(
            "d18cfd466eb143ac1097fde604dba9eec4116885869d04cc648b510949f9e88c",
            "a0863a96c44e5666edbb30c4071ee79ca0514c621e6349c5967fc78e7305c891",
        ),
        validation_images=5000,
    ),
    "FashionMNIST": Dataset(
        name="FashionMNIST",
        input_shape=(1, 28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        scale=255.0,
        read=partial(_grey, "FashionMNIST"),
        digests=(
            "1f243a60b4b748a44c48b9a6f6907be2a08bee3e4e226f0e86fbde8e147b745a",
            "9a494dc49efeb996f4076c469b31cd058152067b1594ba6ab85dd739fce3775e",
        ),
        validation_images=5000,
    ),
    "CIFAR10": Dataset(
        name="CIFAR10",
        input_shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        scale=255.0,
        read=_cifar10,
        digests=(
            "973ef2abb5897efc795681a4d79a6f5f642fa2bcb1a828f7476017c89db53a57",
            "2c33b053d1cd726af8d86e174a96dd89d7000ba1412add026d68142375b89d51",
        ),
        validation_images=5000,
    ),
    "SVHN": Dataset(
        name="SVHN",
        input_shape=(3, 32, 32),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        scale=255.0,
        read=_svhn,
        digests=None,
        validation_images=5000,
    ),
}
