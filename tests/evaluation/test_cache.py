import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from releq_env.errors import ReLeQError
from releq_env.evaluation import EvaluationCache, default_cache
from releq_env.evaluation.cache import SCHEMA_VERSION, Keys
from tests.conftest import ROOT

FINGERPRINT: dict[str, object] = {
    "engine": 1,
    "weights": "abc",
    "retraining": [128, 1e-3],
    "quantizer": "lsq",
    "retrain_seed": 0,
    "device": "cpu",
}


def error_of(path: object) -> str:
    with pytest.raises(ReLeQError) as raised:
        EvaluationCache(path)  # type: ignore[arg-type]
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    assert "cache=" in message
    return message


def test_put_and_get(tmp_path: Path) -> None:
    cache = EvaluationCache(tmp_path / "cache.sqlite")
    assert cache.get("key") is None
    cache.put("key", (2, 4), 0.75, 1.5)
    assert cache.get("key") == (0.75, 1.5)
    assert cache.get("other") is None
    assert len(cache) == 1


def test_other_instances_see_it_at_once(tmp_path: Path) -> None:
    first, second = (EvaluationCache(tmp_path / "cache.sqlite") for _ in range(2))
    first.put("key", (2, 4), 0.75, 1.5)
    assert second.get("key") == (0.75, 1.5)
    first.close()
    assert EvaluationCache(tmp_path / "cache.sqlite").get("key") == (0.75, 1.5)


def test_accuracies_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    EvaluationCache(tmp_path / "cache.sqlite").put("key", (2,), 0.1 + 0.2, 1 / 3)
    assert EvaluationCache(tmp_path / "cache.sqlite").get("key") == (0.1 + 0.2, 1 / 3)


def test_the_first_value_stays(tmp_path: Path) -> None:
    cache = EvaluationCache(tmp_path / "cache.sqlite")
    cache.put("key", (2,), 0.5, 1.0)
    cache.put("key", (2,), 0.6, 2.0)
    assert cache.get("key") == (0.5, 1.0)
    assert len(cache) == 1


def test_closed_twice_and_opened_again_when_needed(tmp_path: Path) -> None:
    cache = EvaluationCache(tmp_path / "cache.sqlite")
    cache.put("key", (2,), 0.5, 1.0)
    cache.close()
    cache.close()
    assert cache.get("key") == (0.5, 1.0)


def test_a_pickled_cache_reads_the_same_file(tmp_path: Path) -> None:
    cache = EvaluationCache(tmp_path / "cache.sqlite")
    copy = pickle.loads(pickle.dumps(cache))
    cache.put("key", (2,), 0.5, 1.0)
    assert copy.get("key") == (0.5, 1.0)


def test_folders_are_made(tmp_path: Path) -> None:
    EvaluationCache(tmp_path / "a" / "b" / "cache.sqlite").put("key", (2,), 0.5, 1.0)
    assert (tmp_path / "a" / "b" / "cache.sqlite").exists()


def test_the_default_is_in_the_cache_folder(tmp_path: Path) -> None:
    assert default_cache() == tmp_path / "releq-cache" / "evaluations.sqlite"


# Keys


@pytest.mark.parametrize("entry", FINGERPRINT)
def test_keys_differ_if_an_entry_does(entry: str) -> None:
    changed = FINGERPRINT | {entry: "something else"}
    assert Keys(changed)((2, 4)) != Keys(FINGERPRINT)((2, 4))


def test_keys_differ_by_assignment_and_by_its_order() -> None:
    assert len({Keys(FINGERPRINT)(bits) for bits in ((2, 4), (4, 2), (2, 4, 4), (24,))}) == 4


def test_keys_do_not_depend_on_the_order_of_entries() -> None:
    backwards = dict(reversed(FINGERPRINT.items()))
    assert Keys(backwards)((2, 4)) == Keys(FINGERPRINT)([2, 4])


# What is not a cache


@pytest.mark.parametrize("content", [b"my thesis\n" * 100, b"SQLite", b"\x00" * 4096, b"%PDF-1.7"])
def test_a_file_of_something_else_is_left_untouched(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_bytes(content)
    assert "not an SQLite database" in error_of(path)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".lock" and p.is_file()] == ["thesis.txt"]


def test_an_empty_file_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.touch()
    EvaluationCache(path).put("key", (2,), 0.5, 1.0)
    assert len(EvaluationCache(path)) == 1


def filled(path: Path, rows: int = 500) -> None:
    cache = EvaluationCache(path)
    for index in range(rows):
        cache.put(f"{index:064d}", (2, 4), 0.5, 1.0)
    cache.close()


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_a_damaged_database_is_set_aside(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    filled(path)
    payload = path.read_bytes()
    payload = payload[: len(payload) // 2] if damage == "truncated" else payload[:1000] + b"x" * (len(payload) - 1000)
    path.write_bytes(payload)
    with pytest.warns(UserWarning, match="is damaged") as warned:
        cache = EvaluationCache(path)
    (aside,) = tmp_path.glob("cache.sqlite.damaged-*")
    assert aside.read_bytes() == payload
    message = str(warned[0].message)
    assert str(path) in message
    assert str(aside) in message
    assert "\n" not in message
    assert len(cache) == 0
    cache.put("key", (2,), 0.5, 1.0)
    cache.close()
    assert EvaluationCache(path).get("key") == (0.5, 1.0)


def test_a_newer_schema_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    filled(path, 3)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    message = error_of(path)
    assert f"schema {SCHEMA_VERSION + 1}" in message
    assert "upgrade releq_env" in message
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM evaluations").fetchone() == (3,)
    connection.close()


def test_a_file_in_place_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert "cannot be written" in error_of(tmp_path / "file" / "cache.sqlite")


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    assert "is not a file's path" in error_of(tmp_path)


@pytest.mark.parametrize("path", [5, 1.5, True, "", ".", "..", b"", Path()])
def test_what_is_no_path(path: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "is not a file's path" in error_of(path)
    assert list(tmp_path.iterdir()) == []


def test_a_dangling_link_is_followed(tmp_path: Path) -> None:
    link, target = tmp_path / "link.sqlite", tmp_path / "other" / "file.sqlite"
    link.symlink_to(target)
    cache = EvaluationCache(link)
    cache.put("key", (2,), 0.5, 1.0)
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"link.sqlite", "other"}  # its companions stand beside it
    cache.close()
    assert EvaluationCache(target).get("key") == (0.5, 1.0)


def test_a_circle_of_links_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ReLeQError, match="cannot be written") as raised:
        EvaluationCache(tmp_path / "a")
    assert "\n" not in str(raised.value)


def test_another_programs_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (address TEXT)")
    connection.close()
    before = path.read_bytes()
    assert "another program's database" in error_of(path)
    assert path.read_bytes() == before


# Damaged rows


@pytest.mark.parametrize("column", ["accuracy", "seconds"])
@pytest.mark.parametrize("value", [None, "0.5 or so", b"\x00", 7.5, -0.1, float("nan"), float("inf")], ids=repr)
def test_a_row_that_holds_no_accuracy_is_not_there_and_is_mended(tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "cache.sqlite"
    cache = EvaluationCache(path)
    cache.put("key", (2, 4), 0.5, 1.0)
    cache.put("other", (4, 2), 0.75, 1.0)
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE evaluations SET {column} = ? WHERE key = 'key'", (value,))
    connection.close()
    if column == "seconds" and isinstance(value, float) and value == value:  # noqa: PLR0124  # NaN is kept as NULL
        assert cache.get("key") == (0.5, value)  # nothing hangs on it
        return
    assert cache.get("key") is None
    cache.put("key", (2, 4), 0.6, 2.0)
    assert cache.get("key") == (0.6, 2.0)
    assert EvaluationCache(path).get("key") == (0.6, 2.0)
    cache.put("key", (2, 4), 0.7, 3.0)
    assert cache.get("key") == (0.6, 2.0)  # whole again, it stays
    assert cache.get("other") == (0.75, 1.0)


@pytest.mark.parametrize(("value", "accuracy"), [(1, 1.0), (0, 0.0), ("0.5", 0.5)])
def test_what_sqlite_takes_for_a_number_is_one(tmp_path: Path, value: object, accuracy: float) -> None:
    path = tmp_path / "cache.sqlite"
    cache = EvaluationCache(path)
    cache.put("key", (2, 4), 0.25, 1.0)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE evaluations SET accuracy = ? WHERE key = 'key'", (value,))
    connection.close()
    assert cache.get("key") == (accuracy, 1.0)


def test_a_full_disk_says_which_file_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    filled(path, 3)
    code = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
cache = EvaluationCache(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the disk is full from here on
try:
    cache.put("key", (2, 4), 0.5, 1.0)
except Exception as error:
    print(type(error).__name__, error)
"""
    output, errors = start(code, path).communicate(timeout=60)
    assert output.count("\n") == 1, errors
    assert output.startswith(f"ReLeQError cache {path} failed (")
    assert "free the disk or name another file with cache=" in output
    assert len(EvaluationCache(path)) == 3


# Many processes

LOAD = f"""
import importlib.util, sys, types
sys.path.insert(0, {str(ROOT)!r})
# The module alone: importing the package of evaluators would take seconds for torch.
package = types.ModuleType("releq_env.evaluation")
package.__path__ = [{str(ROOT / "releq_env" / "evaluation")!r}]
sys.modules["releq_env.evaluation"] = package
from releq_env.evaluation.cache import EvaluationCache
"""


def start(code: str, *args: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LOAD + code, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.processes
def test_four_processes_with_overlapping_keys_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    code = """
path, worker = sys.argv[1], int(sys.argv[2])
cache = EvaluationCache(path)
for index in range(150):
    shared, own = f"shared-{index}", f"own-{worker}-{index}"
    for key in (shared, own):
        if cache.get(key) is None:
            cache.put(key, (index,), index / 1000, 1.0)
    assert cache.get(shared) == (index / 1000, 1.0)
cache.close()
"""
    workers = [start(code, path, worker) for worker in range(4)]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    cache = EvaluationCache(path)
    assert len(cache) == 150 + 4 * 150
    assert all(cache.get(f"own-{worker}-149") == (0.149, 1.0) for worker in range(4))


def test_kill_9_loses_nothing_that_put_returned_from(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    code = """
import itertools
cache = EvaluationCache(sys.argv[1])
for index in itertools.count():
    cache.put(f"key-{index}", (index,), 0.5, float(index))
    print(index, flush=True)
"""
    writer = start(code, path)
    assert writer.stdout is not None
    returned = [int(writer.stdout.readline()) for _ in range(200)]
    os.kill(writer.pid, signal.SIGKILL)
    # Not communicate(), which would miss what readline() has buffered.
    rest = writer.stdout.read()
    returned += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    writer.wait()
    cache = EvaluationCache(path)
    assert writer.returncode == -signal.SIGKILL
    assert all(cache.get(f"key-{index}") == (0.5, float(index)) for index in returned)


def test_threads_share_a_cache(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    cache = EvaluationCache(tmp_path / "cache.sqlite")
    put: Callable[[int], None] = lambda index: cache.put(f"key-{index % 50}", (index,), 0.5, 1.0)  # noqa: E731
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(200)))
    assert len(cache) == 50


@pytest.mark.processes
def test_a_second_cache_in_the_process_does_not_cost_the_first_its_rows(tmp_path: Path) -> None:
    # SQLite's locks are the process's: whoever opens and closes the file beside SQLite drops them all.
    path = tmp_path / "evaluations.sqlite"
    writer = f"""
import os, signal
from releq_env.evaluation import EvaluationCache
import subprocess, sys
first = EvaluationCache({str(path)!r})
first.put("before", (1,), 0.5, 1.0)
EvaluationCache({str(path)!r}).close()
code = "from releq_env.evaluation import EvaluationCache; c = EvaluationCache({str(path)!r}); len(c); c.close()"
subprocess.run([sys.executable, "-c", code], check=True)
first.put("after", (2,), 0.6, 1.0)
print("put", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", writer],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert "put" in done.stdout, done.stderr
    cache = EvaluationCache(path)
    assert cache.get("before") == (0.5, 1.0)
    assert cache.get("after") == (0.6, 1.0)


def test_closing_while_another_thread_reads(tmp_path: Path) -> None:
    cache = EvaluationCache(tmp_path / "cache.sqlite")
    cache.put("key", (2, 4), 0.5, 1.0)
    found: list[object] = []
    reader = threading.Thread(target=lambda: found.extend(cache.get("key") for _ in range(500)))
    reader.start()
    while reader.is_alive():
        cache.close()
    reader.join()
    assert found == [(0.5, 1.0)] * 500


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_leaves_its_parents_connection_alone(tmp_path: Path) -> None:
    cache = EvaluationCache(tmp_path / "cache.sqlite")
    cache.put("before", (2, 4), 0.5, 1.0)
    child = os.fork()
    if child == 0:
        try:
            cache.put("in the child", (2, 4), 0.25, 1.0)
            cache.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    cache.put("after", (2, 4), 0.75, 1.0)
    cache.close()
    again = EvaluationCache(tmp_path / "cache.sqlite")
    assert [again.get(key) for key in ("before", "in the child", "after")] == [(0.5, 1.0), (0.25, 1.0), (0.75, 1.0)]
    again.close()


def test_a_file_that_is_removed_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    cache = EvaluationCache(folder / "cache.sqlite")
    cache.put("before", (2, 4), 0.5, 1.0)
    shutil.rmtree(folder)
    cache.put("after", (2, 4), 0.75, 1.0)
    other = EvaluationCache(folder / "cache.sqlite")
    assert [other.get(key) for key in ("before", "after")] == [None, (0.75, 1.0)]


def test_two_go_on_after_their_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    first, second = EvaluationCache(path), EvaluationCache(path)
    first.put("before", (2, 4), 0.5, 1.0)
    assert second.get("before") == (0.5, 1.0)
    path.unlink()  # what SQLite keeps beside it stays
    first.put("one", (2, 4), 0.25, 1.0)
    second.put("two", (2, 4), 0.75, 1.0)
    assert [each.get(key) for each in (first, second) for key in ("one", "two")] == [(0.25, 1.0), (0.75, 1.0)] * 2


def test_it_stays_where_it_is_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = EvaluationCache("cache.sqlite")
    cache.put("key", (2, 4), 0.5, 1.0)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    cache.close()
    assert cache.get("key") == (0.5, 1.0)
    assert not list((tmp_path / "other").iterdir())
