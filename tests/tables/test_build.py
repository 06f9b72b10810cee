"""Building tables: interrupted, gone on with, added to."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.tables import build, constraint, verify
from benchmarks.tables.build import Growing, in_random_order, numbers
from releq_env import AccuracyTable, Problem, ReLeQError
from releq_env.retraining.short import ENGINE_VERSION
from releq_env.sensitivity import PROXIES
from releq_env.tasks import TASKS
from tests.conftest import ROOT
from tests.fakes import digits_problem
from tests.tables.measured import ASSIGNMENTS, SeededSource, accuracy, seeded_problem


def measured(
    path: Path,
    source: SeededSource | None = None,
    seeds: tuple[int, ...] = (0, 1),
    problem: Problem | None = None,
    count: int | None = None,
    command: str = "build",
) -> SeededSource:
    """Build or go on; return the source that was asked."""
    source = source or SeededSource()
    problem = problem or seeded_problem(source)
    Growing(path, problem, "mine", command, save_seconds=1e9).measure(in_random_order(problem, count), seeds)
    return source


def test_a_complete_table(tmp_path: Path) -> None:
    measured(tmp_path / "table.npz")
    table = AccuracyTable.load(tmp_path / "table.npz")
    assert (table.name, table.quantizer, table.seeds, table.coverage()) == ("mine", "lsq", (0, 1), 1.0)
    for seed in (0, 1):
        assert [table.query(each, seed) for each in ASSIGNMENTS] == [accuracy(each, seed) for each in ASSIGNMENTS]
    assert table.about["accuracy_depends_on"] == {"network": "fake", "precision": "fp32", "torch": "1"}
    assert table.about["seconds"] == 2.0 * 162
    assert {"processor", "cores", "system"} <= set(table.about["machine"])
    assert str(ROOT) not in json.dumps(table.about)


def test_interrupted_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    with pytest.raises(KeyboardInterrupt):
        measured(path, SeededSource(fails_after=100), command="first")
    table = AccuracyTable.load(path)  # of use at once
    assert (table.coverage(0), table.coverage(1)) == (1.0, 19 / 81)
    assert table.query(ASSIGNMENTS[0], 0) == accuracy(ASSIGNMENTS[0], 0)
    again = measured(path, command="second")
    assert len(again.calls) == 62
    assert AccuracyTable.load(path).about["commands"] == ["first", "second"]
    assert AccuracyTable.load(path).coverage() == 1.0
    assert measured(path, command="second").calls == []


def test_it_is_written_while_it_grows(tmp_path: Path) -> None:
    path, problem = tmp_path / "table.npz", seeded_problem()
    seen: list[int] = []

    class Watching(Growing):
        def save(self) -> None:
            super().save()
            seen.append(len(AccuracyTable.load(path)))

    Watching(path, problem, "mine", "build", save_seconds=0.0).measure(in_random_order(problem, 5), [0])
    assert seen == [1, 2, 3, 4, 5, 5]


def test_a_sample_is_the_beginning_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    sample = measured(path, seeds=(0,), count=20).calls
    assert len(measured(path, seeds=(0,)).calls) == 61
    assert measured(path, seeds=(1,), count=20).calls == sample
    assert AccuracyTable.load(path).whole_seeds == (0,)
    assert sorted(in_random_order(seeded_problem())) == ASSIGNMENTS
    assert sample != ASSIGNMENTS[:20]


def test_more_bits_are_added(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    measured(path, seeds=(0,), problem=seeded_problem(bitwidths=(1, 2)))
    assert AccuracyTable.load(path).size == 16
    source = SeededSource()
    measured(path, source, seeds=(0,), problem=seeded_problem(source, bitwidths=(2, 4)))
    table = AccuracyTable.load(path)
    assert (len(table), table.size, len(source.calls)) == (31, 81, 15)
    assert table.choices == ((1, 2, 4),) * 4


def test_another_machine_does_not_go_on(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    measured(path, count=3)
    before = path.read_bytes()
    other = SeededSource(depends={"precision": "bf16", "instructions": "AMX"})
    message = 'was measured otherwise: instructions null there and "AMX" here, precision "fp32" there and "bf16" here'
    with pytest.raises(ReLeQError, match=message):
        measured(path, other)
    assert path.read_bytes() == before


def test_what_cannot_be_told_apart_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="is not known; give its task a cache_key="):
        Growing(tmp_path / "table.npz", digits_problem(), "mine", "build", 60.0)


def test_numbers() -> None:
    assert numbers("1-8") == list(range(1, 9))
    assert numbers("8,2-3,2") == [2, 3, 8]
    for wrong in ("", "a", "3-1", "1,,2"):
        with pytest.raises(ValueError):
            numbers(wrong)


def options(path: Path, *more: str) -> list[str]:
    few = ["--retrain-images", "32", "--sensitivity-images", "8"]
    return ["--task", "digits", "--bits", "1,2", *few, "--out", str(path), *more]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "folder" / "small.npz"
    build.main(options(path, "--seeds", "0-1", "--workers", "1", "--cache", str(tmp_path / "cache.sqlite")))
    assert "16 of 16 assignments, 4 layers, seeds 0, 1" in capsys.readouterr().out
    table = AccuracyTable.load(path)
    assert table.about["commands"] == [
        "python -m benchmarks.tables.build --task digits --out small.npz --quantizer lsq --bits 1,2 --seeds 0,1 "
        "--retrain-images 32 --device cpu --precision auto --parallel processes --sensitivity-images 8"
    ]
    about = table.about
    assert (about["recipe"]["images"], about["recipe"]["distillation"]) == (32, TASKS["digits"].distilled)
    assert about["engine"] == ENGINE_VERSION
    assert about["instructions"] == about["accuracy_depends_on"]["instructions"]
    known = table.sensitivities
    assert known is not None
    assert list(known.proxies) == list(PROXIES)
    assert known.proxies["fisher"].cost.images == 8
    alone = known.proxies["alone"]
    assert alone.values[2][0] == table.query((2, 2, 2, 2), 0) - table.query((2, 2, 1, 2), 0)
    assert alone.cost.evaluations == 5
    live = Problem.from_task("digits", retrain_images=32, retrain_seed=1, cache=None, workers=1)
    assert live.evaluator.evaluate((1, 2, 2, 1)).accuracy == table.query((1, 2, 2, 1), 1)
    assert Problem.from_table(path, seed=1).layers == live.layers
    cached = AccuracyTable.from_cache(tmp_path / "cache.sqlite", live.replace(bitwidths=[1, 2]), seeds=[0, 1])
    assert cached.digest == table.digest


def test_sensitivities_are_measured_once_and_added_to_a_table_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = tmp_path / "small.npz", []
    real = build.measure_sensitivities
    monkeypatch.setattr(build, "measure_sensitivities", lambda *a, **k: calls.append(k) or real(*a, **k))
    none = options(path, "--assignments", "2", "--workers", "1", "--sensitivity-images", "0")
    build.main(none)
    assert AccuracyTable.load(path).sensitivities is None
    build.main([*none, "--sensitivity-images", "8"])
    first = AccuracyTable.load(path).sensitivities
    assert first is not None
    assert "alone" not in first.proxies  # some of its assignments are lacking
    build.main([*none, "--sensitivity-images", "8"])
    assert AccuracyTable.load(path).sensitivities == first
    build.main([*none, "--sensitivity-images", "8", "--bits", "1-3"])  # more choices: they are measured anew
    more = AccuracyTable.load(path).sensitivities
    assert more is not None
    assert more.choices == ((1, 2, 3),) * 4
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--bits", "9"], "9"), (["--quantizer", "x"], "unknown quantizer 'x'"), (["--task", "x"], "unknown task 'x'")],
)
def test_wrong_options(tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        build.main(options(tmp_path / "table.npz", *more))


@pytest.mark.parametrize(
    ("main", "count", "least"),
    [
        (build.main, ["--task", "digits", "--out", "table.npz", "--assignments", "-5"], 1),
        (build.main, ["--task", "digits", "--out", "table.npz", "--assignments", "0"], 1),
        (verify.main, ["digits", "--entries", "0"], 1),
        (verify.main, ["digits", "--seed", "-1"], 0),
        (constraint.main, ["--task", "digits", "--out", "out", "--again", "-5"], 0),
    ],
)
def test_counts_of_nothing_are_refused(
    main: Callable[[list[str]], None], count: list[str], least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(count)
    said = f"argument {count[-2]}: {count[-1]} is not accepted; give a whole number from {least}"
    assert said in capsys.readouterr().err


def test_one_process_a_file(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".table.npz.lock"), pytest.raises(SystemExit, match="is being built by another process"):
        build.main(options(tmp_path / "table.npz"))


@pytest.mark.processes
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_killed_and_gone_on_with(tmp_path: Path, sent: signal.Signals) -> None:
    path = tmp_path / "table.npz"
    command = [sys.executable, "-m", "benchmarks.tables.build"]
    arguments = options(path, "--bits", "1-4", "--workers", "1", "--save-minutes", "0.001")
    process = subprocess.Popen([*command, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sent)
    assert process.wait(60) != 0
    part = AccuracyTable.load(path)
    assert 0.0 < part.coverage() < 1.0
    build.main([*arguments, "--assignments", str(len(part) + 3)])
    whole = AccuracyTable.load(path)
    assert len(part) < len(whole)
    bitwidths, _, accuracies = part.records()
    assert [whole.query(each) for each in map(tuple, bitwidths.tolist())] == accuracies.tolist()
