"""Data beyond their limit are kept in files: the same data, and nothing is left of them."""

import copy
import gc
import importlib.util
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from releq_env import FinalRecipe, Problem, ReLeQError, finalize
from releq_env.retraining.data import resident
from releq_env.tasks import PretrainingRecipe, RetrainingRecipe
from releq_env.tasks.own import own_network, trained
from releq_env.tasks.own_data import OwnData, own_data
from releq_env.tasks.own_files import OwnFolder
from tests.tasks.own_networks import CASES
from tests.tasks.own_problem import with_workers
from tests.tasks.test_own_data import FORMS, INPUTS, LABELS, TEST, VALIDATION, Broken, Ragged, read

GENERATOR = torch.Generator().manual_seed(0)
PIXELS = torch.randint(256, (600, 3, 6, 6), generator=GENERATOR).to(torch.uint8)
GREY = torch.randn(600, 1, 6, 6, generator=GENERATOR)
OF_IMAGES = torch.arange(600) % 3
RECIPE = RetrainingRecipe(images=64, batch_size=16, learning_rate=1e-3)


def left_over() -> list[Path]:
    """The folders of data that are there."""
    root = Path(os.environ["RELEQ_CACHE"]) / "own_data"
    return [path for path in root.iterdir() if path.is_dir()] if root.exists() else []


def of_images(images: Tensor, limit: float) -> OwnData:
    pairs = ((images[:500], OF_IMAGES[:500]), (images[500:], OF_IMAGES[500:]))
    return own_data("Own", *pairs, None, limit)


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_are_the_same_data_in_files(form: str) -> None:
    data = read(FORMS[form](), limit=0.0)
    assert set(data.in_files) == {"train_data", "validation_data"}
    assert torch.equal(data.load()[0].inputs, INPUTS)
    assert torch.equal(data.load()[0].targets, LABELS)
    assert data.fingerprint() == read((INPUTS, LABELS)).fingerprint()


def test_files_begin_where_the_memory_ends() -> None:
    """Inputs count thrice: as they were given, and twice as they are computed with, while they are laid out."""
    needed = 3 * INPUTS.nbytes + LABELS.nbytes
    others = 3 * VALIDATION[0].nbytes + VALIDATION[1].nbytes
    assert not read(FORMS["a Dataset"](), limit=(needed + others) / 1e9).in_files
    assert list(read(FORMS["a Dataset"](), limit=(needed + others - 1) / 1e9).in_files) == ["validation_data"]
    # What began in memory and went to a file has given its memory back.
    assert list(read(FORMS["a Dataset"](), limit=(needed - 1) / 1e9).in_files) == ["train_data"]
    assert list(read((INPUTS, LABELS), test=TEST, limit=0.0).in_files)[2] == "test_data"


@pytest.mark.parametrize("images", [PIXELS, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_computed_with_is_the_same(images: Tensor, dtype: torch.dtype) -> None:
    expected = resident(of_images(images, 1.0), None, torch.device("cpu"), dtype)
    in_files = of_images(images, 0.0)
    data = resident(in_files, None, torch.device("cpu"), dtype)
    for name, tensor in vars(expected).items():
        mine = getattr(data, name)
        assert torch.equal(mine, tensor)
        assert (mine.dtype, mine.stride()) == (tensor.dtype, tensor.stride())
    assert in_files.fingerprint() == of_images(images, 1.0).fingerprint()


class SmallNet(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(64, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.net(images))


@pytest.mark.parametrize("images", [PIXELS, GREY], ids=["colour", "grey"])
def test_what_is_trained_and_measured_is_the_same(images: Tensor, tmp_path: Path) -> None:
    found = []
    pairs = (images[:500], OF_IMAGES[:500]), (images[500:], OF_IMAGES[500:])
    for limit in (1.0, 0.0):
        os.environ["RELEQ_CACHE"] = str(tmp_path / str(limit))  # put back by the fixture
        own = own_network(
            SmallNet(images.shape[1]),
            *pairs,
            pretraining=PretrainingRecipe(epochs=1, batch_size=32, flip=True),
            data_limit=limit,
        )
        first = trained(own)
        problem = Problem.from_network(
            first.pretrained.network, *pairs, retraining=RECIPE, data_limit=limit, precision="fp32", workers=1
        )
        accuracies = [problem.evaluator.evaluate(bits).accuracy for bits in ((1, 1), (3, 3))]
        found.append((first.pretrained.sha256, first.pretrained.identity, problem.evaluator.fingerprint, accuracies))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", CASES)
def test_networks_of_every_kind_take_them(name: str) -> None:
    case = CASES[name]
    accuracies = []
    for limit in (1.0, 0.0):
        problem = Problem.from_network(
            *case.made(),
            **case.arguments | {"retraining": RetrainingRecipe(32, 16), "workers": 1, "cache": None},
            precision="fp32",
            data_limit=limit,
        )
        accuracies.append(problem.evaluator.evaluate((2,) * problem.num_layers).accuracy)
    assert accuracies[0] == accuracies[1]


def test_data_without_their_test_part_share_the_files() -> None:
    data = of_images(PIXELS, 0.0)
    data.converted(0, torch.bfloat16)
    files = len(left_over())
    other = data.without_test()
    assert other.parts[2] is None
    assert other.fingerprint() == data.fingerprint()
    other.converted(0, torch.bfloat16)
    other.converted(1, torch.bfloat16)
    data.converted(1, torch.bfloat16)
    assert len(left_over()) == files + 1


def test_another_process_maps_the_same_files() -> None:
    data = of_images(PIXELS, 0.0)
    data.converted(0, torch.bfloat16)
    sent = pickle.dumps(data)
    assert len(sent) < 4000  # where they are, not what is in them
    other = pickle.loads(sent)
    assert other.in_files == data.in_files
    assert other.fingerprint() == data.fingerprint()
    assert torch.equal(other.load()[0].inputs, data.load()[0].inputs)
    assert torch.equal(other.converted(0, torch.bfloat16), data.load()[0].inputs.bfloat16())
    assert len(left_over()) == 3  # two parts, and one of them in another type
    del other
    gc.collect()
    assert len(left_over()) == 3
    del data
    gc.collect()
    assert left_over() == []
    with pytest.raises(ReLeQError, match="gone with the process that has read the data; read them again"):
        pickle.loads(sent)


def test_a_copy_is_the_same() -> None:
    data = of_images(PIXELS, 0.0)
    assert copy.deepcopy({"data": data})["data"] is data


def test_a_problem_is_measured_in_worker_processes() -> None:
    """They are sent no data: `shared_data` says that each maps the files."""
    problem = Problem.from_network(*CASES["signals"].made(), retraining=RECIPE, cache=None, data_limit=0.0)
    source: Any = problem.evaluator.source
    assert source.retraining.shared_data() is None
    again = pickle.loads(pickle.dumps(source.retraining))
    assert again.measure((2, 2))[0] == source.retraining.measure((2, 2))[0]


@pytest.mark.slow
def test_worker_processes_measure_what_one_does() -> None:
    assignments = [(bits, 9 - bits) for bits in range(1, 9)]
    found = []
    for workers, limit in ((1, 4.0), (2, 0.0)):
        problem = with_workers(workers, data_limit=limit, cache=None)
        found.append([each.accuracy for each in problem.evaluator.evaluate_many(assignments)])
        problem.evaluator.close()
    assert found[0] == found[1]


def test_test_data_may_come_later() -> None:
    """Of several targets, too; they take no memory that is not there."""
    targets = (torch.arange(6.0), torch.arange(12.0).reshape(6, 2))
    parts = [(torch.randn(6, 2, generator=GENERATOR), targets) for _ in range(3)]
    data = own_data("Own", parts[0], parts[1], None, 0.0)
    with_test = data.with_test(parts[2])
    assert set(with_test.in_files) == {"train_data", "validation_data", "test_data"}
    assert torch.equal(with_test.load_test().inputs, parts[2][0])
    assert with_test.test_digest() == own_data("Own", *parts, 1.0).test_digest()
    assert with_test.fingerprint() == data.fingerprint()
    folders = len(left_over())
    with pytest.raises(ReLeQError, match="train_data and test_data are the same"):
        data.with_test(parts[0])
    with pytest.raises(ReLeQError, match=r"test_data has inputs of shape \(3,\)"):
        data.with_test((torch.zeros(6, 3), targets))
    assert len(left_over()) == folders


@pytest.mark.parametrize("name", ["two outputs", "signals"])
def test_a_network_is_finalized_with_them(name: str, tmp_path: Path) -> None:
    case, found = CASES[name], []
    model, training, validation = case.made()
    targets = training[1]
    test = (training[0] + 1, targets)
    for limit in (1.0, 0.0):
        arguments = case.arguments | {"retraining": RetrainingRecipe(0), "cache": None, "workers": 1}
        problem = Problem.from_network(model, training, validation, **arguments, precision="fp32", data_limit=limit)
        result = finalize(
            problem,
            (2,) * problem.num_layers,
            seeds=(0,),
            recipe=FinalRecipe(epochs=1, batch_size=16, control_rates=(1e-3,)),
            test_data=test,
            folder=tmp_path / str(limit),
            controls=tmp_path / f"{limit} controls",
            progress=False,
        )
        assert result.measured_on == "test"
        found.append((result.accuracies, result.control_accuracy, result.validation_accuracies))
    assert found[0] == found[1]


class Late(Broken):
    """Fails at the last example."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return (INPUTS[index], int(LABELS[index])) if index < 299 else super().__getitem__(index)


class Endless(Dataset[tuple[Tensor, int]]):
    """More than any disk has: 256 examples are 16 MB."""

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(2**14), 0


@pytest.mark.parametrize(
    ("training", "validation", "message"),
    [
        (Late(), VALIDATION, "train_data cannot be read .OSError: the disk is gone"),
        (Ragged(), VALIDATION, "the examples of train_data are not of one shape"),
        (VALIDATION, Late(), "validation_data cannot be read"),
        (VALIDATION, VALIDATION, "train_data and validation_data are the same"),
        ((INPUTS, LABELS), (INPUTS[:, :1], LABELS), r"validation_data has inputs of shape \(1,\)"),
    ],
    ids=range(5),
)
def test_what_is_refused_leaves_no_file(training: Any, validation: Any, message: str) -> None:
    with pytest.raises(ReLeQError, match=message):
        read(training, validation, limit=0.0)
    assert left_over() == []


def test_a_full_disk_is_one_line_and_leaves_no_file() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))  # a disk of a megabyte
    try:
        with pytest.raises(
            ReLeQError, match=r"^train_data does not fit into .*own_data \(.*point RELEQ_CACHE"
        ) as raised:
            read(Endless(), limit=1e-3)
        assert "\n" not in str(raised.value)
        assert left_over() == []
        data = read((INPUTS, LABELS), limit=0.0)
        with pytest.raises(ReLeQError, match=r"^test_data does not fit"):
            data.with_test(Endless())
        assert set(data.in_files) == {"train_data", "validation_data"}
        assert len(left_over()) == 2  # what is used stays
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.environ["RELEQ_CACHE"] = str(tmp_path / "file")  # put back by the fixture
    with pytest.raises(ReLeQError, match="no files can be kept in .*point RELEQ_CACHE at a folder that can be written"):
        read((INPUTS, LABELS), limit=0.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_what_a_killed_process_has_left_is_removed_and_others_are_not() -> None:
    mine = OwnFolder()
    assert left_over() == [mine.path]
    killed = os.fork()
    if not killed:
        theirs = OwnFolder()  # two processes at once
        (theirs.path / "half").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(killed, 0)
    assert mine.path in left_over()
    assert len(left_over()) == 2
    ended = os.fork()
    if not ended:
        mine.remove()  # a child's copy is not its own
        os._exit(0)
    os.waitpid(ended, 0)
    other = OwnFolder()
    assert sorted(left_over()) == sorted([mine.path, other.path])
    mine.remove()
    assert left_over() == [other.path]


def test_files_end_with_the_process(python: Callable[..., str]) -> None:
    made = python("from releq_env.tasks.own_files import OwnFolder; kept = OwnFolder(); print(kept.path)").strip()
    assert Path(made).parent.exists()
    assert not Path(made).exists()


def test_what_a_user_has_mapped_is_not_read_into_memory(tmp_path: Path) -> None:
    """An array larger than memory, in a file of the user's own."""
    np.save(tmp_path / "inputs.npy", PIXELS.numpy())
    mapped = np.load(tmp_path / "inputs.npy", mmap_mode="r+")
    data = own_data("Own", (mapped[:500], OF_IMAGES[:500]), (mapped[500:], OF_IMAGES[500:]), None, 0.0)
    assert data.fingerprint() == of_images(PIXELS, 1.0).fingerprint()


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="ray is not installed")
def test_what_needs_all_in_memory_is_refused() -> None:
    with pytest.raises(ReLeQError, match='parallel="ray" needs the data in memory.*give a larger one'):
        Problem.from_network(*CASES["signals"].made(), retraining=RECIPE, parallel="ray", data_limit=0.0)
    assert left_over() == []


@pytest.mark.parametrize("limit", [-1, float("nan"), "4", None, True])
def test_a_limit_is_a_number_of_gigabytes(limit: Any) -> None:
    with pytest.raises(ReLeQError, match="data_limit=.* is not accepted; give a number of GB, 0 or more"):
        read((INPUTS, LABELS), limit=limit)


def test_it_is_said_where_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    problem = Problem.from_network(*CASES["signals"].made(), retraining=RECIPE, cache=None, data_limit=0.0)
    said = capfd.readouterr().err.splitlines()
    assert problem.name in said[0]
    assert "train_data is more than data_limit=, and is kept in" in said[0]
    assert "validation_data is more" in said[1]
