"""Files of tables: the same to the last bit, and never a reason to trust one."""

import io
import json
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env import AccuracyTable, Problem, ReLeQError
from releq_env.tables import npz
from releq_env.tables.shipped import TABLES
from tests.tables.strategies import Made, tables

LARGEST_MEMORY = 8 * 2**20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound file."""
    made = AccuracyTable.from_records(
        [[1, 2], [4, 2], [4, 8], [1, 2]],
        [0.1, 1 / 3, 0.9, 0.2],
        seeds=[0, 0, 0, 3],
        full_precision_accuracy=0.95,
        name="mine",
        quantizer="lsq",
        min_relative_accuracy=0.9,
        about={"task": "digits", "sensitivities": {"layer0": [0.5]}},
    )
    made.save(tmp_path / "table.npz")
    return tmp_path / "table.npz"


@given(tables(seeds=3))
def test_saved_and_loaded(made: Made) -> None:
    path = Path(os.environ["RELEQ_CACHE"]).parent / "any.npz"
    made.table.save(path)
    first = path.read_bytes()
    again = AccuracyTable.load(path)
    assert again.digest == made.table.digest
    assert (again.layers, again.choices, again.seeds) == (made.table.layers, made.table.choices, made.table.seeds)
    np.testing.assert_array_equal(again.accuracy, made.table.accuracy)
    again.save(path)
    assert path.read_bytes() == first


def test_what_is_kept_beside_accuracies(path: Path) -> None:
    known = AccuracyTable.load(str(path))
    assert (known.name, known.quantizer, known.min_relative_accuracy) == ("mine", "lsq", 0.9)
    assert known.about == {"task": "digits", "sensitivities": {"layer0": [0.5]}}
    with np.load(path, allow_pickle=False) as arrays:  # NumPy reads it, too
        assert arrays["bitwidths"].tolist() == [[1, 2], [1, 2], [4, 2], [4, 8]]
        metadata = json.loads(arrays["metadata.json"])
    assert metadata["measured"] == {"0": 0.75, "3": 0.25}


def test_saving_leaves_the_old_file_or_the_new_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ReLeQError, match="cannot be written"):
        AccuracyTable.load(path).save(path)
    assert path.read_bytes() == before
    assert list(path.parent.glob(".table*")) == []


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"notes": "x" * 2**20}, "bytes of metadata.json, and at most 1048576 are read; give a smaller about="),
        ({"loss": float("nan")}, "holds? in about= what JSON does not"),
        ({"path": Path("x")}, "hold in about= what JSON does not"),
    ],
    ids=["large", "NaN", "a path"],
)
def test_metadata_that_could_not_be_read_again(about: dict[str, Any], message: str, path: Path) -> None:
    before = path.read_bytes()
    table = AccuracyTable.from_records([[1]], [0.5], full_precision_accuracy=0.95, about=about)
    with pytest.raises(ReLeQError, match=message) as raised:
        table.save(path)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == before


def test_records_that_could_not_be_read_again(path: Path) -> None:
    before = path.read_bytes()
    arrays = {
        "bitwidths": np.broadcast_to(np.uint8(1), (2**20, 65)),
        "seeds": np.broadcast_to(np.int64(0), (2**20,)),
        "accuracy": np.broadcast_to(0.5, (2**20,)),
    }
    with pytest.raises(ReLeQError, match="68157440 bytes of bitwidths, and at most 67108864 are read") as raised:
        npz.write(path, {}, arrays)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == before


def test_a_large_table_loads_at_once(tmp_path: Path, python: Callable[..., str]) -> None:
    bits = np.stack(np.meshgrid(*[[1, 2, 3, 4, 5, 6, 8]] * 5), axis=-1).reshape(-1, 5)
    accuracy = np.random.default_rng(0).integers(0, 5000, len(bits)) / 5000
    AccuracyTable.from_records(bits, accuracy, full_precision_accuracy=1.0).save(tmp_path / "large.npz")
    assert (tmp_path / "large.npz").stat().st_size < 200_000
    code = """
import sys, time
sys.modules["torch"] = None
from releq_env import AccuracyTable
def timed():
    begun = time.process_time()  # others on the machine do not count
    AccuracyTable.load(sys.argv[1])
    return time.process_time() - begun
print(min(timed() for _ in range(5)))
"""
    assert float(python(code, str(tmp_path / "large.npz"))) < 0.05


def array(values: Any, dtype: Any = None, **header: Any) -> bytes:
    """An `.npy` file, its header changed."""
    file = io.BytesIO()
    found = np.asarray(values, dtype)
    if header:
        described = np.lib.format.header_data_from_array_1_0(found) | header
        np.lib.format.write_array_header_1_0(file, described)
        file.write(found.tobytes())
    else:
        np.lib.format.write_array(file, found, allow_pickle=True)
    return file.getvalue()


UNPICKLED: list[str] = []


def _run() -> None:
    UNPICKLED.append("run")


class Malicious:
    """Unpickling it leaves a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _run, ()


BITS = [[1, 2], [1, 2], [4, 2], [4, 8]]
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "pickled objects": ({"accuracy.npy": array([Malicious()] * 4, object)}, "pickled objects, which are never read"),
    "objects declared": ({"accuracy.npy": array([0.5] * 4, descr="|O")}, "pickled objects"),
    "a pickle": ({"accuracy.npy": pickle.dumps(Malicious())}, "magic string"),
    "a wrong number of dimensions": ({"bitwidths.npy": array([1, 2, 3, 4], np.uint8)}, r"of shape \(4,\)"),
    "fewer accuracies": ({"accuracy.npy": array([0.5] * 3)}, "give one number a record"),
    "fewer layers": ({"bitwidths.npy": array([[1], [2], [3], [4]], np.uint8)}, "describes 2 layers"),
    "a wrong type": ({"accuracy.npy": array([0.5] * 4, np.float32)}, "float32"),
    "strings": ({"accuracy.npy": array(["0.5"] * 4)}, "not float64"),
    "columns first": ({"bitwidths.npy": array(BITS, np.uint8, fortran_order=True)}, "not uint8"),
    "a huge shape": ({"accuracy.npy": array([0.5] * 4, shape=(2**50,))}, "declares the shape"),
    "a huge number of layers": ({"bitwidths.npy": array(BITS, np.uint8, shape=(4, 2**62))}, "declares the shape"),
    "a large shape": ({"accuracy.npy": array([0.5] * 4, shape=(2**22,))}, "another number of bytes"),
    "a large array of zeros": ({"accuracy.npy": array(np.zeros(2**23 + 1))}, "more than 67108864 bytes"),
    "a negative shape": ({"accuracy.npy": array([0.5] * 4, shape=(-4,))}, "of shape"),
    "more than declared": ({"accuracy.npy": array([0.5] * 5, shape=(4,))}, "another number of bytes"),
    "a bomb": ({"accuracy.npy": array([0.5] * 4) + bytes(2**26)}, "another number of bytes"),
    "a bomb of metadata": ({"metadata.json": b" " * 2**26}, "more than 1048576 bytes"),
    "deep metadata": ({"metadata.json": b"[" * 100_000}, "recursion|damaged"),
    "metadata that are no object": ({"metadata.json": b"[]"}, "is not an object"),
    "metadata that are no text": ({"metadata.json": b"\xff\xfe"}, "utf-8"),
    "no metadata": ({"metadata.json": None}, "does not hold exactly"),
    "a member more": ({"evil.npy": array([1])}, "does not hold exactly"),
    "NaN": ({"accuracy.npy": array([0.5, float("nan"), 0.5, 0.5])}, "is nan"),
    "infinity": ({"accuracy.npy": array([0.5, float("inf"), 0.5, 0.5])}, "is inf"),
    "percent": ({"accuracy.npy": array([0.5, 97.0, 0.5, 0.5])}, "is 97.0"),
    "no bits": ({"bitwidths.npy": array(np.zeros((4, 2)), np.uint8)}, "not in 1 to 32"),
    "no records": ({"bitwidths.npy": array(np.zeros((0, 2)), np.uint8)}, "shape"),
    "a negative seed": ({"seeds.npy": array([0, 0, 0, -1])}, "seeds"),
    "a contradiction": ({"seeds.npy": array([0, 0, 0, 0])}, "two records of"),
}


def rewritten(path: Path, members: dict[str, bytes | None]) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()} | members
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


def refused(path: Path, message: str) -> None:
    """Check that a file is refused in one line, without much memory, and that nothing in it was run."""
    tracemalloc.start()
    try:
        with pytest.raises(ReLeQError, match=message) as raised:
            AccuracyTable.load(path)
        assert tracemalloc.get_traced_memory()[1] < LARGEST_MEMORY
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    assert not UNPICKLED


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_arrays(path: Path, kind: str) -> None:
    members, message = HOSTILE[kind]
    rewritten(path, members)
    refused(path, message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("format", None),
        ("layers", None),
        ("layers", []),
        ("layers", [{"name": "a"}]),
        ("layers", [{"name": "a", "n": "b", "c": 1, "k": 1, "weights": 1, "macs": 1, "std": 1.0}] * 2),
        ("choices", 7),
        ("choices", [[1, 4]]),
        ("choices", [[1, 4], [2]]),
        ("full_precision_accuracy", 0),
        ("full_precision_accuracy", "1"),
        ("full_precision_accuracy", float("nan")),
        ("min_relative_accuracy", 2),
        ("released_constants", [1]),
        ("released_constants", None),
        ("name", None),
        ("quantizer", 7),
        ("about", [1, 2]),
    ],
)
def test_hostile_metadata(path: Path, name: str, value: object) -> None:
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read("metadata.json"))
    rewritten(path, {"metadata.json": json.dumps(metadata | {name: value}).encode()})
    refused(path, "is damaged, or no accuracy table")
    del metadata[name]
    rewritten(path, {"metadata.json": json.dumps(metadata).encode()})
    refused(path, "is damaged, or no accuracy table")


@given(st.data())
def test_a_file_that_was_cut_or_changed(data: st.DataObject) -> None:
    path = Path(os.environ["RELEQ_CACHE"]).parent / "any.npz"
    AccuracyTable.from_records([[1], [2]], [0.5, 0.9], full_precision_accuracy=1.0).save(path)
    sound = path.read_bytes()
    place = data.draw(st.integers(0, len(sound) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(sound[:place])
    else:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ data.draw(st.integers(1, 255))]) + sound[place + 1 :])
    try:
        found = AccuracyTable.load(path)
    except ReLeQError as error:
        assert "\n" not in str(error)
    else:  # what was changed has no meaning, a date for one
        assert found.query((2,)) == 0.9


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"not a zip file at all", bytes(1000)])
def test_what_is_no_zip(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.npz").write_bytes(content)
    refused(tmp_path / "table.npz", "is damaged, or no accuracy table")


@pytest.mark.parametrize("given", ["nowhere.npz", "mnst", "", None, 7, b"x"])
def test_what_is_no_table(given: Any) -> None:
    with pytest.raises(ReLeQError, match=r"give the path of an .npz file, or one of: digits, mnist,"):
        AccuracyTable.load(given)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="there is no table"):
        AccuracyTable.load(tmp_path)


@pytest.mark.parametrize("name", TABLES)
def test_shipped_tables(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("releq_env.tables.shipped.DATA", tmp_path)
    with pytest.raises(
        ReLeQError, match=rf"build it in a checkout \(python -m benchmarks.tables.build .* {name}.npz\)"
    ):
        AccuracyTable.load(name)
    AccuracyTable.from_records([[1]], [0.5], full_precision_accuracy=1.0).save(tmp_path / f"{name}.npz")
    assert AccuracyTable.load(name).query((1,)) == 0.5


@pytest.mark.parametrize(
    "changed",
    [
        {"full_precision_accuracy": 10**400},
        {"min_relative_accuracy": 10**400},
        {"released_constants": [10**400, 1, 1]},
    ],
    ids=range(3),
)
def test_numbers_without_bound_are_refused_in_one_line(changed: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    AccuracyTable.load("digits").save(path)
    metadata, arrays = npz.read(path)
    npz.write(path, metadata | changed, arrays)
    with pytest.raises(ReLeQError) as raised:
        AccuracyTable.load(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a" * 300, "~nobodyatall/a.npz"])
def test_names_that_are_no_paths(name: str) -> None:
    with pytest.raises(ReLeQError, match="there is no table"):
        AccuracyTable.load(name)


def test_a_csv_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="cannot be written"):
        AccuracyTable.load("digits").to_csv(tmp_path / "nowhere" / "x.csv")


def test_numpys_integers_are_seeds() -> None:
    table = AccuracyTable.load("digits")
    assert table.query((2, 2, 1, 2), seed=np.int64(1)) == table.query((2, 2, 1, 2), seed=1)
    source = Problem.from_table(table, seed=np.int64(1)).evaluator.source  # type: ignore[arg-type]
    assert json.loads(json.dumps(dict(source.fingerprint or {})))["retrain_seed"] == 1
    for seed in ([0], 0.5, "0"):
        with pytest.raises(ReLeQError, match="has no seed"):
            table.query((2, 2, 1, 2), seed=seed)  # type: ignore[arg-type]
