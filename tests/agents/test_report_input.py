"""Damaged and hostile files of a run are refused in one line, or do no harm."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.report.__main__ import main
from releq_env.errors import ReLeQError
from releq_env.report import page, write_report
from tests.agents.reported import Page, run

FILES = ("config.json", "evaluations.csv", "report.json", "0.monitor.csv", "probabilities.csv")
VALUES = (
    "NaN", "Infinity", "-1", "0", "1e999", "1" + "0" * 400, "-0.0", "null", "true", '"x"', "[]", "{}", "1.5",
    '"\\ud800"', "[" * 3000, "9" * 5000, "nan", "\x00", "8", '"<script>alert(1)</script>"',
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("whole") / "run", "table", algo="ppo")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def refused(folder: Path, name: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(folder)])
    message = str(ended.value)
    assert message.startswith(f"error: {folder / name} cannot be reported: it is damaged (")
    assert "\n" not in message
    assert len(message) < 1000
    assert not (folder / "report.html").exists()
    return message


def edit(folder: Path, name: str, change: Callable[[Any], None]) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"[" * 100_000, b"[]\n[]\n[]\n", b'{"a": 1}\n{"a": 1}\n{"a": 1}\n'],
    ids=["bytes", "deep", "list", "other"],
)
def test_files_that_are_something_else(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)
    refused(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file(name: str, folder: Path) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, name)
    (folder / name).rmdir()
    os.mkfifo(folder / name)  # reading it would wait for ever
    refused(folder, name)


def test_a_file_that_is_too_large(folder: Path) -> None:
    with (folder / "evaluations.csv").open("r+b") as file:
        file.truncate(2**40)  # a hole
    assert "larger than" in refused(folder, "evaluations.csv")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["problem"].update(full_precision_accuracy=0), "full_precision_accuracy is 0"),
        (lambda c: c["problem"].update(min_relative_accuracy=float("nan")), "nan"),
        (lambda c: c["problem"].update(layers=[]), "0 layers"),
        (lambda c: c["problem"].update(layers=["a"] * 20_000), "20000 layers"),
        (lambda c: c["problem"]["choices"].pop(), "choices has 3 entries, not 4"),
        (lambda c: c["problem"]["choices"].__setitem__(0, []), "no choices"),
        (lambda c: c["problem"]["choices"][0].append(10**100), "not a whole number from 1 to 32"),
        (lambda c: c["problem"]["costs"].__setitem__(0, [1.0]), "fewer costs"),
        (lambda c: c["problem"].update(costs=[[0.0] * 4] * 4), "nothing costs anything"),
        (lambda c: c["problem"].update(max_cost=[1]), "max_cost"),
        (lambda c: c["settings"].update(algo=3), "algo is 3, not a text"),
        (lambda c: c["settings"].update(seed=True), "seed is True"),
        (lambda c: c["settings"].update(timesteps="many"), "timesteps"),
        (lambda c: c["settings"].update(env="x" * 10**6), "1000000 characters"),
        (lambda c: c["settings"].update(env_kwargs={"a": ["\ud800"]}), "surrogates"),
        (lambda c: c["about"]["layers"][0].update(name="other"), "describes other layers"),
        (lambda c: c["about"]["layers"][0].update(weights=-1), "weights is -1"),
        (lambda c: c["about"].update(quantizer=5), "quantizer is 5"),
        (lambda c: c.pop("settings"), "KeyError"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(change: Callable[[Any], None], said: str, folder: Path) -> None:
    edit(folder, "config.json", change)
    assert said in refused(folder, "config.json")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("bitwidths", "2 1 3"), ("bitwidths", "2 1 3 99"), ("bitwidths", ""), ("accuracy", "nan"), ("accuracy", "1.5"),
        ("relative_accuracy", "inf"), ("state_of_quantization", "0"), ("average_bits", "-1"), ("retrained", "2"),
        ("seconds", "-1"), ("elapsed", "1e400"), ("reward", "good"), ("accuracy", '"'),
    ],
)  # fmt: skip
def test_evaluations_that_cannot_be(column: str, value: str, folder: Path) -> None:
    path = folder / "evaluations.csv"
    lines = path.read_text().splitlines()
    cells = lines[2].split(",")
    cells[lines[0].split(",").index(column)] = value
    path.write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]) + "\n")
    refused(folder, "evaluations.csv")


def test_a_reward_may_be_no_number(folder: Path) -> None:
    path = folder / "evaluations.csv"
    header, *lines = path.read_text().splitlines()
    index = header.split(",").index("reward")
    rows = [[*line.split(",")[:index], "nan", *line.split(",")[index + 1 :]] for line in lines]
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    main([str(folder)])
    assert "answer" in Page.read(folder / "report.html").sections


def mutated(content: bytes, random_: random.Random) -> bytes:
    """Return a file with one harm done to it."""
    at = random_.randrange(len(content))
    harm = random_.randrange(5)
    if harm == 0:
        return content[:at]
    if harm == 1:
        return content[:at] + bytes([random_.randrange(256)]) + content[at + 1 :]
    if harm == 2:
        return content[:at] + content[at + random_.randrange(1, 50) :]
    pieces = content.decode().replace(",", " , ").replace(":", " : ").split(" ")  # a value for another
    pieces[random_.randrange(len(pieces))] = random_.choice(VALUES)
    return "".join(pieces).encode() if harm == 3 else " ".join(pieces).encode()


def _fuzz(folder: Path, rounds: range) -> list[int]:
    originals = {name: (folder / name).read_bytes() for name in FILES}
    ended = [0, 0]
    for number in rounds:
        random_ = random.Random(number)
        name = FILES[number % len(FILES)]
        (folder / name).write_bytes(mutated(originals[name], random_))
        try:
            write_report(folder)
            assert "script" not in {tag for tag, _ in Page.read(folder / "report.html").tags}
            ended[0] += 1
        except ReLeQError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 1000
            ended[1] += 1
        (folder / name).write_bytes(originals[name])
    return ended


def test_a_hundred_damaged_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_pictures", lambda run: [])  # they take most of the time
    written, refused_ = _fuzz(folder, range(100))
    assert refused_ >= 50
    assert written >= 1  # a digit that is another is not seen


@pytest.mark.slow
def test_damaged_files_and_pictures(folder: Path) -> None:
    written, refused_ = _fuzz(folder, range(1000, 1100))
    assert min(written, refused_) >= 20
