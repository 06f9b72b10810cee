import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision.datasets import SVHN
from torchvision.datasets.utils import calculate_md5

from releq_env.errors import ReLeQError
from releq_env.tasks.datasets import DATASETS, Dataset, Examples, digest
from tests.fakes import RandomImages, random_dataset

DOWNLOADED = ["MNIST", "FashionMNIST", "CIFAR10", "SVHN"]


def error_of(call: Callable[[], object]) -> str:
    """The message of the one-line error that a call raises."""
    with pytest.raises(ReLeQError) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    return message


def write_idx(folder: Path, count: int = 4, cut: int = 0) -> None:
    """Write well-formed files in MNIST's format; `cut` bytes are missing at the end of the images."""
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = struct.pack(">IIII", 0x803, count, 28, 28) + bytes(count * 784)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images[: len(images) - cut])
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + bytes(count))


# Digits: always there


def test_digits_parts() -> None:
    training, validation = DATASETS["Digits"].load()
    test = DATASETS["Digits"].load_test()
    assert [len(part.targets) for part in (training, validation, test)] == [800, 500, 497]
    for part in (training, validation, test):
        assert part.inputs.dtype == torch.uint8
        assert part.inputs.shape[1:] == (1, 8, 8)
        assert part.targets.dtype == torch.int64
        counts = torch.bincount(part.targets, minlength=10)
        assert int(counts.max() - counts.min()) <= 8  # stratified; the classes are not quite of one size


def test_digits_parts_are_disjoint_and_complete() -> None:
    from sklearn.datasets import load_digits

    training, validation = DATASETS["Digits"].load()
    parts = (training, validation, DATASETS["Digits"].load_test())
    ours = torch.cat([part.inputs.flatten(1) for part in parts]).numpy()
    labels = torch.cat([part.targets for part in parts]).numpy()
    everything = load_digits()
    rows = np.column_stack([ours, labels])
    theirs = np.column_stack([everything.data.astype(np.uint8), everything.target])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, theirs.tolist()))


def test_digits_are_the_same_every_time() -> None:
    first, second = DATASETS["Digits"].load(), DATASETS["Digits"].load()
    assert all(torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


def test_digits_normalised() -> None:
    training, _ = DATASETS["Digits"].load()
    images = DATASETS["Digits"].normalize(training.inputs)
    assert images.dtype == torch.float32
    assert images.mean().item() == pytest.approx(0.0, abs=0.01)
    assert images.std().item() == pytest.approx(1.0, abs=0.01)


def test_normalisation_is_by_channel() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    dataset = replace(DATASETS["SVHN"], mean=(0.0, 0.5, 0.2), std=(1.0, 0.25, 0.5))
    torch.testing.assert_close(dataset.normalize(images).flatten(), torch.tensor([0.0, 2.0, 0.0]))


@pytest.mark.parametrize("count", [1, 3])
def test_lists_are_accepted_one_for_all_or_one_a_channel(count: int) -> None:
    dataset = replace(random_dataset((3, 4, 4)), mean=[0.5] * count, std=[0.25] * count, scale=1)
    assert hash(dataset) == hash(replace(dataset))
    torch.testing.assert_close(dataset.normalize(torch.ones(2, 3, 4, 4)), torch.full((2, 3, 4, 4), 2.0))


@pytest.mark.parametrize(("mean", "std"), [([0.5, 0.5], [0.2, 0.2]), ([0.5], []), ([], [0.2]), ([0.5] * 3, [0.2])])
def test_as_many_means_as_channels(mean: list[float], std: list[float]) -> None:
    message = error_of(lambda: replace(random_dataset((3, 4, 4)), mean=mean, std=std))
    assert "give 1 or 3 of each, or none" in message


@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (2, 4, 4, 4)])
def test_inputs_of_any_shape(shape: tuple[int, ...]) -> None:
    def read(root: Path, train: bool, download: bool) -> Examples:
        return Examples(torch.arange(20.0).reshape(20, *(1,) * len(shape)).expand(20, *shape), torch.arange(20))

    dataset = Dataset(name="Own", input_shape=shape, read=read, validation_images=8, mean=[1.0], std=[2.0])
    training, validation = dataset.load()
    assert (len(training.inputs), len(validation.targets)) == (12, 8)
    normalized = dataset.normalize(training.inputs)
    assert normalized.shape == (12, *shape)
    torch.testing.assert_close(normalized.reshape(12, -1)[:, 0], (torch.arange(12) - 1.0) / 2.0)
    assert torch.equal(replace(dataset, mean=(), std=()).normalize(training.inputs), training.inputs)


def test_data_that_do_not_fit_what_is_said_of_them() -> None:
    assert "inputs of shape (80, 1, 8, 8) and 80 targets; give (N, 3, 8, 8) and N" in error_of(
        replace(random_dataset(), input_shape=(3, 8, 8)).load
    )
    assert "80 examples, of which 0 are validation" in error_of(random_dataset(validation_images=0).load)
    assert "80 examples, of which 80 are validation" in error_of(random_dataset(validation_images=80).load)


def test_data_loaded_in_inference_mode_can_be_trained_on() -> None:
    with torch.inference_mode():
        training, _ = DATASETS["Digits"].load()
        images = DATASETS["Digits"].normalize(training.inputs)
    assert not images.is_inference()


# What tells data from others


def test_published_data_are_not_read_to_be_told(tmp_path: Path) -> None:
    fingerprints = {dataset.fingerprint(tmp_path / "nothing") for dataset in DATASETS.values()}
    assert len(fingerprints) == len(DATASETS)


def test_other_data_of_the_same_name_are_told_apart() -> None:
    def other(root: Path, train: bool, download: bool) -> Examples:
        data = RandomImages()(root, train, download)
        data.targets[7] += 1
        return data

    dataset = random_dataset()
    assert dataset.fingerprint() == random_dataset().fingerprint()
    assert dataset.fingerprint() != replace(dataset, read=other).fingerprint()
    own = replace(DATASETS["SVHN"], read=RandomImages((3, 32, 32)))
    assert own.fingerprint() != DATASETS["SVHN"].fingerprint()


def test_data_are_hashed_once() -> None:
    read = RandomImages()
    dataset = replace(random_dataset(), read=read)
    assert read.reads == 0
    assert dataset.fingerprint() == dataset.fingerprint()
    assert read.reads == 1


def test_a_cache_key_stands_for_the_content() -> None:
    def refuse(root: Path, train: bool, download: bool) -> Examples:
        raise AssertionError("the data were read")

    first, second = (replace(random_dataset(), read=refuse, cache_key=key).fingerprint() for key in ("1", "2"))
    assert first != second


# Missing and damaged files


@pytest.mark.parametrize("name", DOWNLOADED)
@pytest.mark.parametrize("train", [True, False])
def test_missing_data_without_a_network(name: str, train: bool, tmp_path: Path) -> None:
    dataset, root = DATASETS[name], tmp_path / "nothing"
    message = error_of(lambda: dataset.load(str(root)) if train else dataset.load_test(str(root)))
    assert name in message
    assert str(root) in message
    assert "data_root=" in message
    assert "RELEQ_DATA" in message


def test_data_root_that_is_a_file(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("not a folder")
    assert str(root) in error_of(lambda: DATASETS["MNIST"].load(str(root)))
    assert root.read_text() == "not a folder"


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_truncated_files(name: str, tmp_path: Path) -> None:
    write_idx(tmp_path / name / "raw", cut=100)
    message = error_of(lambda: DATASETS[name].load(str(tmp_path)))
    assert f"{name} training data in {tmp_path}" in message
    assert "delete" in message


@pytest.mark.parametrize("content", [b"", b"\x00\x00", b"<html>Not Found</html>"])
def test_files_that_are_something_else(content: bytes, tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    assert "MNIST training data" in error_of(lambda: DATASETS["MNIST"].load(str(tmp_path)))


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_well_formed_files_of_other_data(name: str, tmp_path: Path) -> None:
    write_idx(tmp_path / name / "raw")
    assert "not the published data set" in error_of(lambda: DATASETS[name].load(str(tmp_path)))
    assert "not the published data set" in error_of(lambda: DATASETS[name].load_test(str(tmp_path)))


def test_corrupt_cifar10(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"\x80\x04garbage")
    message = error_of(lambda: DATASETS["CIFAR10"].load(str(tmp_path)))
    assert "CIFAR10" in message
    assert str(tmp_path) in message


def test_corrupt_svhn(tmp_path: Path) -> None:
    (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    message = error_of(lambda: DATASETS["SVHN"].load(str(tmp_path)))
    assert "SVHN" in message
    assert str(tmp_path) in message


def test_one_changed_pixel_is_noticed() -> None:
    def read(root: Path, train: bool, download: bool) -> Any:
        data = DATASETS["Digits"].read(root, train, download)
        data.inputs[3, 0, 2, 2] += 1
        return data

    dataset = replace(DATASETS["Digits"], read=read)
    assert "SHA-256" in error_of(dataset.load)


def test_digest_depends_on_images_and_labels() -> None:
    data = RandomImages()(Path(), True, False)
    digests = {
        digest(data),
        digest(data._replace(targets=data.targets.flip(0))),
        digest(data._replace(inputs=data.inputs.flip(0))),
    }
    assert len(digests) == 3
    assert digest(data) == digest(RandomImages()(Path(), True, False))


def test_what_the_reader_beneath_raises_is_explained() -> None:
    def read(root: Path, train: bool, download: bool) -> Any:
        raise EOFError("Ran out of input")

    assert "EOFError: Ran out of input" in error_of(replace(random_dataset(), read=read).load)


def test_missing_files_are_downloaded_once(tmp_path: Path) -> None:
    downloads = []

    def read(root: Path, train: bool, download: bool) -> Any:
        downloads.append(download)
        if not download:
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        return RandomImages()(root, train, download)

    training, validation = replace(random_dataset(), read=read, downloads=True).load(str(tmp_path))
    assert downloads == [False, True]
    assert (len(training.targets), len(validation.targets)) == (50, 30)


def test_validation_is_the_end_of_the_training_part() -> None:
    dataset = random_dataset(count=80, validation_images=30)
    everything = dataset.read(Path(), True, False)
    training, validation = dataset.load()
    assert torch.equal(training.inputs, everything.inputs[:50])
    assert torch.equal(validation.targets, everything.targets[50:])


# SVHN in its real format


@pytest.fixture
def svhn_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, tuple[Any, Any]]]:
    random = np.random.default_rng(0)
    arrays, entries = {}, {}
    for split, count in (("train", 23), ("test", 11)):
        images = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = (np.arange(count, dtype=np.uint8) % 10 + 1).reshape(-1, 1)  # 10 stands for zero
        path = tmp_path / f"{split}_32x32.mat"
        savemat(path, {"X": images, "y": labels})
        url, name, _ = SVHN.split_list[split]
        entries[split] = [url, name, calculate_md5(path)]
        arrays[split] = (images, labels)
    monkeypatch.setattr(SVHN, "split_list", SVHN.split_list | entries)
    return tmp_path, arrays


def test_svhn_files(svhn_folder: tuple[Path, dict[str, tuple[Any, Any]]]) -> None:
    root, arrays = svhn_folder
    dataset = replace(DATASETS["SVHN"], validation_images=5)
    training, validation = dataset.load(str(root))
    assert training.inputs.shape == (18, 3, 32, 32)
    assert validation.inputs.shape == (5, 3, 32, 32)
    assert training.inputs.dtype == torch.uint8
    images, labels = arrays["train"]
    np.testing.assert_array_equal(training.inputs[7], images[:, :, :, 7].transpose(2, 0, 1))
    np.testing.assert_array_equal(torch.cat([training.targets, validation.targets]), labels[:, 0] % 10)
    assert training.targets.dtype == torch.int64
    test = dataset.load_test(str(root))
    np.testing.assert_array_equal(test.inputs[3], arrays["test"][0][:, :, :, 3].transpose(2, 0, 1))


def test_svhn_file_with_another_md5(svhn_folder: tuple[Path, object], monkeypatch: pytest.MonkeyPatch) -> None:
    root, _ = svhn_folder
    path = root / "train_32x32.mat"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert "SVHN" in error_of(lambda: DATASETS["SVHN"].load(str(root)))


# The real thing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("MNIST", (55000, 5000, 10000)), ("FashionMNIST", (55000, 5000, 10000)), ("CIFAR10", (45000, 5000, 10000))],
)
def test_published_data(name: str, sizes: tuple[int, ...], real_data: str) -> None:
    dataset = DATASETS[name]
    try:
        training, validation = dataset.load(real_data)
    except ReLeQError as error:
        if "downloading it failed" in str(error):
            pytest.skip(f"{name} is not in RELEQ_DATA")
        raise
    parts = (training, validation, dataset.load_test(real_data))
    assert tuple(len(part.targets) for part in parts) == sizes
    for part in parts:
        assert part.inputs.shape[1:] == dataset.input_shape
        assert part.targets.unique().tolist() == list(range(10))
    images = dataset.normalize(training.inputs)
    np.testing.assert_allclose(images.mean(dim=(0, 2, 3)), 0.0, atol=0.02)
    np.testing.assert_allclose(images.std(dim=(0, 2, 3)), 1.0, atol=0.02)
