"""What is recorded survives a kill at any moment."""

import json
from pathlib import Path

import pytest

from agents.run_folder import RunFolder
from agents.settings import parse_env_kwargs
from releq_env import ReLeQEnv, ReLeQError
from releq_env.evaluation import CachedEvaluator


@pytest.fixture
def env() -> ReLeQEnv:
    return ReLeQEnv("digits", retrain_images=0)


@pytest.fixture
def folder(tmp_path: Path, env: ReLeQEnv) -> RunFolder:
    folder = RunFolder(tmp_path, env)
    evaluator(env).listener = folder
    env.evaluator.evaluate_many([(2, 2, 2, 2), (8, 8, 8, 8), (1, 2, 4, 8)])
    return folder


def evaluator(env: ReLeQEnv) -> CachedEvaluator:
    assert isinstance(env.evaluator, CachedEvaluator)
    return env.evaluator


def restored(path: Path) -> tuple[RunFolder, CachedEvaluator]:
    env = ReLeQEnv("digits", retrain_images=0)
    folder = RunFolder(path, env)
    folder.restore(evaluator(env))
    return folder, evaluator(env)


def test_rows_come_back_as_they_were(folder: RunFolder) -> None:
    again, known = restored(folder.path)
    assert again.rows == folder.rows
    assert again.best == folder.best
    assert (known.distinct_evaluations, known.retrained) == (3, 3)


def test_a_line_cut_short_is_dropped_and_taken_from_the_cache(folder: RunFolder) -> None:
    table = folder.path / "evaluations.csv"
    table.write_text(table.read_text()[:-5])
    again, known = restored(folder.path)
    assert [row["bitwidths"] for row in again.rows] == [row["bitwidths"] for row in folder.rows]
    assert known.retrained == 3
    assert table.read_text().endswith("\n")


def test_finished_but_unrecorded_is_recorded(folder: RunFolder, env: ReLeQEnv) -> None:
    folder.requested([(3, 3, 3, 3), (4, 4, 4, 4)])
    evaluator(env).listener = None
    env.evaluator.evaluate((3, 3, 3, 3))  # reaches the cache, but a kill keeps it from being recorded
    again, known = restored(folder.path)
    assert [row["bitwidths"] for row in again.rows[3:]] == [(3, 3, 3, 3)]
    assert (known.distinct_evaluations, known.retrained) == (4, 4)
    assert len(restored(folder.path)[0].rows) == 4  # and only once


def test_results_need_no_cache_to_come_back(folder: RunFolder, env: ReLeQEnv) -> None:
    cache = evaluator(env).cache
    assert cache is not None
    env.close()
    cache.path.unlink()
    _, known = restored(folder.path)
    known.evaluate((1, 2, 4, 8))
    assert (known.distinct_evaluations, known.retrained) == (3, 3)


def test_ties_go_to_the_accuracy(tmp_path: Path) -> None:
    env = ReLeQEnv("digits", retrain_images=0, reward=lambda a, q: 1.0)
    folder = RunFolder(tmp_path, env)
    evaluator(env).listener = folder
    results = env.evaluator.evaluate_many([(1, 1, 1, 1), (8, 8, 8, 8), (2, 2, 2, 2)])
    best = max(results, key=lambda evaluation: evaluation.accuracy)
    assert json.loads((tmp_path / "best.json").read_text())["bitwidths"] == list(best.bitwidths)


def test_full_disk_is_one_line(folder: RunFolder, env: ReLeQEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ReLeQError, match=r"No space left on device.*--resume") as raised:
        folder.evaluated(env.evaluator.evaluate((2, 2, 2, 2)), retrained=True)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("retrain_images=0", {"retrain_images": 0}),
        ("cost:energy", {"cost": "energy"}),
        ("bitwidths=[2, 4]", {"bitwidths": [2, 4]}),
        ("cache=null", {"cache": None}),
        ("data_root=C:/data", {"data_root": "C:/data"}),
    ],
)
def test_env_kwargs(pair: str, expected: dict[str, object]) -> None:
    assert parse_env_kwargs([pair]) == expected


@pytest.mark.parametrize("pair", ["cost", "=3", "x=[1,"])
def test_env_kwargs_of_another_form(pair: str) -> None:
    with pytest.raises(ReLeQError, match="--env-kwargs got"):
        parse_env_kwargs([pair])
