"""The folder of a search: what is refused, what is written, and whose fault it is where that fails."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from releq_env import Problem, ReLeQError, SearchResult, search
from releq_env.report import read_run
from releq_env.searchers import search_loop
from releq_env.searchers.folder import SearchFolder
from releq_env.searchers.registry import make_searcher
from tests.fakes import FakeSource, digits_problem


def searched(problem: Problem | None = None, **arguments: Any) -> SearchResult:
    return search(problem or digits_problem(), **({"budget": 6, "method": "random", "progress": False} | arguments))


def of_digits(**arguments: Any) -> SearchResult:
    fixed: dict[str, Any] = {"budget": 2, "retrain_images": 0, "workers": 1, "method": "random", "progress": False}
    return search("digits", **fixed | arguments)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "evaluations.csv").open()))


def test_a_reward_that_was_edited_is_another_search(tmp_path: Path) -> None:
    searched(digits_problem(reward=lambda a, q: a - q), folder=tmp_path)
    before = content(tmp_path)
    with pytest.raises(ReLeQError, match=r"holds a search with another reward: that of \(.*; give another") as raised:
        searched(digits_problem(reward=lambda a, q: a - 2 * q), folder=tmp_path, budget=9)
    assert "\n" not in str(raised.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("low", [math.nan, -math.inf, -1.0])
def test_the_same_reward_goes_on(low: float, tmp_path: Path) -> None:
    def problem(source: FakeSource | None = None) -> Problem:
        return digits_problem(source, reward=lambda a, q: low if q < 0.6 else a - q / 3)

    searched(problem(), folder=tmp_path)
    more = FakeSource()
    assert len(searched(problem(more), folder=tmp_path, budget=9).evaluations) == 9
    assert len(more.calls) == 3
    rewards = [float(row["reward"]) for row in rows(tmp_path)]
    assert any(each == low or math.isnan(each) for each in rewards)


def missing(bitwidths: object) -> float:
    raise FileNotFoundError(2, "No such file or directory", "labels.txt")


def test_what_an_accuracy_raises_is_not_the_folders_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"labels\.txt"):
        searched(digits_problem(FakeSource(missing)), folder=tmp_path)
    assert len(searched(folder=tmp_path).evaluations) == 6  # nobody holds it any more


@pytest.mark.parametrize("file", ["config.json", "evaluations.csv", "best.json"])
def test_a_full_disk_is_said_in_one_line(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(method: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Path, *given: Any, **more: Any) -> Any:
            if any(file in str(each) for each in (path, *given)):
                raise OSError(28, "No space left on device")
            return method(path, *given, **more)

        return called

    with monkeypatch.context() as patched:
        for name in ("replace", "open"):
            patched.setattr(Path, name, full(getattr(Path, name)))
        with pytest.raises(ReLeQError, match=r"cannot be written \(No space left on device\)") as raised:
            searched(folder=tmp_path)
    assert "\n" not in str(raised.value)
    assert len(searched(folder=tmp_path).evaluations) == 6


def test_an_older_result_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    older = of_digits(folder=tmp_path)
    newer = of_digits(folder=tmp_path, budget=6)
    before = content(tmp_path)
    with pytest.raises(ReLeQError, match="has gone on since: of its 6 evaluations this result lacks 4") as raised:
        older.save(tmp_path)
    assert "\n" not in str(raised.value)
    assert content(tmp_path) == before
    newer.save(tmp_path)
    assert json.loads((tmp_path / "best.json").read_text())["distinct_evaluations"] == 6
    assert (tmp_path / "network.safetensors").exists()


def test_a_newer_result_completes_an_older_one(tmp_path: Path) -> None:
    of_digits(folder=tmp_path)
    newer = of_digits(budget=6)
    newer.save(tmp_path)
    assert [tuple(map(int, row["bitwidths"].split())) for row in rows(tmp_path)] == [
        each.bitwidths for each in newer.evaluations
    ]
    assert json.loads((tmp_path / "best.json").read_text())["bitwidths"] == list(newer.bitwidths)
    assert json.loads((tmp_path / "config.json").read_text())["settings"]["budget"] == 6


def test_the_report_knows_a_search_that_ended_before_its_budget(tmp_path: Path) -> None:
    few = digits_problem(bitwidths=[[2, 3], [4], [4], [4]])
    searched(few, folder=tmp_path, method="exhaustive")
    assert read_run(tmp_path).finished
    assert len(rows(tmp_path)) == 2


def test_the_report_knows_a_search_that_was_stopped(tmp_path: Path) -> None:
    def interrupted(bitwidths: tuple[int, ...]) -> float:
        if len(source.calls) > 4:
            raise KeyboardInterrupt
        return 0.9

    source = FakeSource(interrupted)
    with pytest.raises(KeyboardInterrupt):
        searched(digits_problem(source), folder=tmp_path, batch=1)
    assert not read_run(tmp_path).finished
    searched(digits_problem(FakeSource(lambda bitwidths: 0.9)), folder=tmp_path, batch=1)
    assert read_run(tmp_path).finished


def test_nothing_is_saved_while_the_search_goes_on(tmp_path: Path) -> None:
    result = of_digits(folder=tmp_path)
    with SearchFolder(tmp_path, result.problem).held(), pytest.raises(ReLeQError, match="another process searches in"):
        result.save(tmp_path)


def test_what_was_in_the_cache_is_not_said_to_be_retrained(tmp_path: Path) -> None:
    cache = tmp_path / "cache.sqlite"
    of_digits(cache=cache)
    of_digits(cache=cache, budget=3).save(tmp_path / "run")
    assert [row["retrained"] for row in rows(tmp_path / "run")] == ["0", "0", "1"]


def test_a_folder_with_more_than_is_asked_for_answers_with_all_of_it(tmp_path: Path) -> None:
    more = of_digits(folder=tmp_path, budget=5)
    again = of_digits(folder=tmp_path, budget=2)
    assert {each.bitwidths for each in again.evaluations} == {each.bitwidths for each in more.evaluations}
    assert again.bitwidths == more.bitwidths
    again.save(tmp_path)
    assert json.loads((tmp_path / "best.json").read_text())["bitwidths"] == list(more.bitwidths)


def test_what_a_folder_had_left_over_costs_the_next_search_nothing(tmp_path: Path) -> None:
    searched(folder=tmp_path, budget=12)
    problem = digits_problem()
    searched(problem, folder=tmp_path, budget=4)
    before = problem.evaluator.distinct_evaluations
    assert before == 4
    for _ in search_loop(problem, make_searcher("random", problem, 7), budget=20):
        pass
    assert problem.evaluator.distinct_evaluations == before + 20


def test_a_method_that_refuses_begins_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ReLeQError, match="sensitivities"):
        searched(folder=tmp_path / "run", method="fisher_lp")
    assert not (tmp_path / "run").exists()
    assert searched(folder=tmp_path / "run").evaluations


def test_a_network_that_is_called_task_is_a_network() -> None:
    class Task(nn.Module):
        pass

    with pytest.raises(ReLeQError, match="train_data= is missing"):
        search(Task())
