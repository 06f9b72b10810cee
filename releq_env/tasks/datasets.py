"""Data sets: where they come from, how they are split, how they are normalised.

Inputs stay as they are stored (images: `uint8`) until they are used. The training, validation and
test parts are disjoint; test data has a loader of its own, so that nothing reads it by accident.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from releq_env.arithmetic import pinned_arithmetic
from releq_env.errors import ReLeQError
from releq_env.paths import data_folder


class Examples(NamedTuple):
    """Inputs with what is to be made of them.

    Attributes:
        inputs: Shape `(N, *input_shape)`, e.g. uint8 images `(N, channels, height, width)`.
        targets: Shape `(N, ...)`, whatever the task's loss and metric take, e.g. int64 labels `(N,)`.
    """

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Dataset:
    """A data set with a fixed split.

    Attributes:
        name: torchvision's class name, or one's own.
        input_shape: Shape of one input, channels first: `(channels, height, width)`.
        read: `(root, train, download) -> Examples`, the training (with validation) or the test part;
            raises what the library beneath raises.
        validation_images: How many examples at the end of the training part are validation.
        mean: Per channel or one for all, of inputs divided by `scale`; empty: inputs are only divided.
        std: Likewise.
        scale: The largest value of an input.
        digests: SHA-256 of the training and test part that are published, `None` where there are none.
        downloads: Whether the library beneath can fetch missing files.
        cache_key: A name for the content, so that it need not be hashed; to be changed with the content.

    Raises:
        ReLeQError: If there are not as many means and standard deviations as channels.
    """

    name: str
    input_shape: tuple[int, ...]
    read: Callable[[Path, bool, bool], Examples]
    validation_images: int
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    scale: float = 1.0
    digests: tuple[str, str] | None = None
    downloads: bool = False
    cache_key: str | None = None

    def __post_init__(self) -> None:
        for field in ("input_shape", "mean", "std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))  # data sets are hashed
        accepted = {1, *self.input_shape[:1]}
        if len(self.mean) != len(self.std) or (self.mean and len(self.mean) not in accepted):
            raise ReLeQError(
                f"mean={self.mean} and std={self.std} of {self.name} do not fit inputs of shape {self.input_shape}; "
                f"give {' or '.join(map(str, sorted(accepted)))} of each, or none"
            )

    def fingerprint(self, data_root: str | os.PathLike[str] | None = None) -> str:
        """Return what tells this data and its split from others.

        Data with published digests or a `cache_key` are not read. Others are, and hashed, once.

        Args:
            data_root: Folder of the data, see `releq_env.paths.data_folder`.

        Raises:
            ReLeQError: If the data have to be read and cannot be.
        """
        if self.cache_key is not None:
            content = f"key {self.cache_key}"
        elif self.digests is not None:
            content = self.digests[0]
        elif self.read is _svhn:
            content = "md5"  # torchvision compares its files with the published ones
        else:
            content = self._hashed(data_folder(data_root))
        return f"{self.name}/{content}/{self.validation_images}/{self.mean}/{self.std}/{self.scale}"

    def test_digest(self, data_root: str | os.PathLike[str] | None = None) -> str:
        """Return what tells the test part from others; it is read for that unless it has a published digest or a key.

        Args:
            data_root: Folder of the data, see `releq_env.paths.data_folder`.

        Raises:
            ReLeQError: If it has to be read and cannot be.
        """
        if self.cache_key is not None:
            return f"key {self.cache_key}"
        return self.digests[1] if self.digests is not None else digest(self.load_test(data_root))

    def load(self, data_root: str | os.PathLike[str] | None = None) -> tuple[Examples, Examples]:
        """Return the training and the validation part.

        Args:
            data_root: Folder of the data, see `releq_env.paths.data_folder`.

        Raises:
            ReLeQError: If files are missing and cannot be downloaded, or are damaged.
        """
        everything = self._load(data_folder(data_root), train=True)
        cut = len(everything.targets) - self.validation_images
        if cut <= 0 or self.validation_images <= 0:
            raise ReLeQError(
                f"the {self.name} training data in {data_folder(data_root)} are {len(everything.targets)} examples, "
                f"of which {self.validation_images} are validation; at least one must be left for each"
            )
        return (
            Examples(everything.inputs[:cut], everything.targets[:cut]),
            Examples(everything.inputs[cut:], everything.targets[cut:]),
        )

    def load_test(self, data_root: str | os.PathLike[str] | None = None) -> Examples:
        """Return the test part. For final reports only: no choice may depend on it."""
        return self._load(data_folder(data_root), train=False)

    @pinned_arithmetic()
    def normalize(self, inputs: Tensor) -> Tensor:
        """Return float32 inputs, same shape; with zero mean and unit variance a channel where both are known."""
        scaled = inputs.float() / self.scale
        if not self.mean:
            return scaled
        channels = (-1, *(1,) * (inputs.ndim - 2))
        mean = torch.tensor(self.mean, device=inputs.device).view(channels)
        std = torch.tensor(self.std, device=inputs.device).view(channels)
        return (scaled - mean) / std

    def _hashed(self, root: Path) -> str:
        known: dict[Path, str] = self.__dict__.setdefault("_digests", {})
        if root not in known:
            data = self._load(root, train=True)
            known[root] = f"{digest(data)} {data.inputs.dtype} {data.targets.dtype} {tuple(data.targets.shape)}"
        return known[root]

    @pinned_arithmetic()
    def _load(self, root: Path, train: bool) -> Examples:
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
        if data.inputs.shape[1:] != self.input_shape or len(data.inputs) != len(data.targets):
            raise ReLeQError(
                f"the {self.name} {part} data have inputs of shape {tuple(data.inputs.shape)} and "
                f"{len(data.targets)} targets; give (N, {', '.join(map(str, self.input_shape))}) and N"
            )
        return data

    def _read_or_download(self, root: Path, train: bool) -> Examples:
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


def digest(data: Examples) -> str:
    """Return the SHA-256 of inputs and targets."""
    sha = hashlib.sha256()
    for tensor in data:
        sha.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _grey(name: str, root: Path, train: bool, download: bool) -> Examples:
    data = _torchvision(name)(root, train=train, download=download)
    return Examples(data.data.unsqueeze(1), data.targets)


def _cifar10(root: Path, train: bool, download: bool) -> Examples:
    data = _torchvision("CIFAR10")(root, train=train, download=download)
    return Examples(torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets))


def _svhn(root: Path, train: bool, download: bool) -> Examples:
    data = _torchvision("SVHN")(root, split="train" if train else "test", download=download)
    return Examples(torch.from_numpy(data.data), torch.from_numpy(data.labels.astype(np.int64)))


def _digits(root: Path, train: bool, download: bool) -> Examples:
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
    return Examples(images, torch.from_numpy(digits.target[chosen].astype(np.int64)))


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
        downloads=True,
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
        downloads=True,
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
        downloads=True,
    ),
    "SVHN": Dataset(
        name="SVHN",
        input_shape=(3, 32, 32),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        scale=255.0,
        read=_svhn,
        validation_images=5000,
        downloads=True,
    ),
}
