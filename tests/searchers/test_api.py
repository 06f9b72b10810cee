"""`releq_env.search`: one call, its result, its folder."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import releq_env
from releq_env import Problem, ReLeQError, SearchResult, search
from releq_env.evaluation import Evaluation, Evaluator
from releq_env.searchers import SEARCHERS
from releq_env.searchers.rows import COLUMNS, described
from tests.conftest import ROOT
from tests.fakes import FakeSource, digits_problem


def searched(problem: Problem | None = None, **arguments: Any) -> SearchResult:
    return search(problem or digits_problem(), **({"budget": 12, "progress": False} | arguments))


@pytest.mark.parametrize("method", SEARCHERS)
def test_every_method_finds_an_answer_within_the_budget(method: str) -> None:
    source: Any = FakeSource()
    source.sensitivities = [[4.0**-bits for bits in range(1, 9)]] * 4  # of those that go by them
    problem = digits_problem(source, bitwidths=[2, 4, 8])
    result = searched(problem, method=method, budget=8)
    assert len(source.calls) == len(set(source.calls)) == len(result.evaluations) <= 8
    assert result.best == max(result.evaluations, key=problem.merit)
    assert result.assignment == dict(zip(("conv1", "conv2", "fc1", "fc2"), result.bitwidths, strict=True))


def test_a_search_is_a_function_of_its_seed() -> None:
    first, again, other = (searched(seed=seed, method="random").evaluations for seed in (1, 1, 2))
    assert first == again != other


def test_the_curve_is_made_of_what_was_paid() -> None:
    source = FakeSource()
    result = searched(digits_problem(source), budget=40, method="random")
    paid, problem = len(source.calls), result.problem
    costs = [problem.state_of_quantization(each.bitwidths) for each in result.curve]
    accuracies = [each.accuracy for each in result.curve]
    assert costs == sorted(set(costs))
    assert accuracies == sorted(set(accuracies))
    for each in result.evaluations:
        cost = problem.state_of_quantization(each.bitwidths)
        assert max(a for a, c in zip(accuracies, costs, strict=True) if c <= cost) >= each.accuracy
    assert len(source.calls) == paid == 40


def test_the_objective_is_the_callers_or_the_problems_own() -> None:
    assert searched().problem.cost == "mean_bits"
    given = searched(cost="size", max_cost=0.5, min_relative_accuracy=0.5)
    assert (given.problem.cost, given.problem.max_cost, given.problem.min_relative_accuracy) == ("size", 0.5, 0.5)
    assert given.success
    assert not searched(min_relative_accuracy=1.0, budget=1, method="exhaustive").success


def test_what_a_problem_knows_is_not_paid_for_again() -> None:
    source = FakeSource()
    problem = digits_problem(source)
    first = searched(problem)
    second = searched(problem)
    assert first.evaluations == second.evaluations
    assert len(source.calls) == 12


def test_the_folder_has_a_row_an_evaluation(tmp_path: Path) -> None:
    result = searched(folder=tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "evaluations.csv").open()))
    assert list(rows[0]) == list(COLUMNS)
    assert [tuple(map(int, row["bitwidths"].split())) for row in rows] == [
        each.bitwidths for each in result.evaluations
    ]
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert tuple(best["bitwidths"]) == result.bitwidths
    assert best["distinct_evaluations"] == 12
    assert json.loads((tmp_path / "run" / "assignment.json").read_text()) == result.assignment


def test_agents_read_the_folder(tmp_path: Path) -> None:
    from agents.run.folder import RunFolder

    problem = digits_problem()
    result = searched(problem, folder=tmp_path)
    config = RunFolder.read_config(tmp_path)
    assert (config.settings.algo, config.settings.budget) == ("gp", 12)
    assert config.problem == json.loads(json.dumps(described(problem)))
    folder = RunFolder(tmp_path, problem)
    assert folder.restore() == list(result.evaluations)
    assert folder.best is not None
    assert folder.best["bitwidths"] == result.bitwidths


def test_a_search_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    class Stops(FakeSource):
        def measure(self, waiting: Any) -> Any:
            for number, each in enumerate(super().measure(waiting)):
                if len(self.batches) == 3 and number == 1:
                    raise KeyboardInterrupt
                yield each

    stopped = Stops()
    with pytest.raises(KeyboardInterrupt):
        searched(digits_problem(stopped), folder=tmp_path)
    kept = (tmp_path / "evaluations.csv").read_text()
    assert len(kept.splitlines()) == 1 + 9
    (tmp_path / "evaluations.csv").write_text(kept + "1 1 1")  # as a kill leaves it
    rest = FakeSource()
    result = searched(digits_problem(rest), folder=tmp_path)
    assert len(rest.calls) == 3
    assert {each.bitwidths for each in result.evaluations} == {each.bitwidths for each in searched().evaluations}
    more = FakeSource()
    assert len(searched(digits_problem(more), folder=tmp_path, budget=15).evaluations) == 15
    assert len(more.calls) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 1}, "holds a search with another seed; give another folder"),
        ({"method": "random"}, "holds a search with another algo"),
        ({"cost": "energy"}, "holds a search with another costs"),
        ({"min_relative_accuracy": 0.5}, "holds a search with another min_relative_accuracy"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_folder_holds_one_search(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    searched(folder=tmp_path)
    with pytest.raises(ReLeQError, match=message):
        searched(folder=tmp_path, **arguments)


@pytest.mark.parametrize("file", ["config.json", "evaluations.csv"])
@pytest.mark.parametrize("content", ["", "{}", "[1]", "null", "bitwidths,accuracy\n1 1,2\n", "\x00\x01"])
def test_damaged_files_are_refused_in_one_line(file: str, content: str, tmp_path: Path) -> None:
    searched(folder=tmp_path)
    (tmp_path / file).write_text(content)
    if file == "evaluations.csv" and "\n" not in content:  # no line is whole
        for _ in range(2):
            assert len(searched(folder=tmp_path).evaluations) == 12
            assert (tmp_path / file).read_text().startswith("bitwidths,accuracy,")
        return
    with pytest.raises(ReLeQError, match=file) as raised:
        searched(folder=tmp_path)
    assert "\n" not in str(raised.value)


def test_two_searches_in_one_folder(tmp_path: Path) -> None:
    inner: list[str] = []

    def nested(bitwidths: Sequence[int]) -> float:
        if not inner:
            with pytest.raises(ReLeQError) as raised:
                searched(folder=tmp_path)
            inner.append(str(raised.value))
        return 0.5

    searched(digits_problem(FakeSource(nested)), folder=tmp_path)
    assert "another process searches in" in inner[0]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_method_that_repeats_itself_comes_to_an_end(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """Of 16 assignments 60 are wanted; a budget within the space is reached, however often it repeats itself."""

    class Draws:
        def __init__(self, problem: Problem, seed: int) -> None:
            self._problem, self._generator = problem, random.Random(seed)

        def ask(self, n: int) -> list[tuple[int, ...]]:
            return [tuple(map(self._generator.choice, self._problem.choices)) for _ in range(n)]

        def tell(self, evaluations: Sequence[Evaluation]) -> None: ...

    monkeypatch.setitem(SEARCHERS, "draws", Draws)
    source = FakeSource()
    assert (
        len(searched(digits_problem(source, bitwidths=[2, 8]), method="draws", budget=60, batch=batch).evaluations)
        == 16
    )
    assert len(source.calls) == 16
    assert len(searched(digits_problem(bitwidths=[2, 8]), method="draws", budget=16, batch=batch).evaluations) == 16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: searched(budget=0), "budget=0 is not accepted"),
        (lambda: searched(seed=-1), "seed=-1"),
        (lambda: searched(batch=0), "batch=0"),
        (lambda: searched(method="none"), "unknown method 'none'"),
        (lambda: searched(cost="none"), "unknown cost 'none'"),
        (lambda: searched(folder=3), "folder=3 is not a path"),
        (lambda: searched(train_data=3), "train_data= was given beside a problem"),
        (lambda: searched(skip=["a"]), "skip= was given beside a problem"),
        (lambda: search("nonsense"), "unknown task 'nonsense'"),
        (lambda: search("digits", 3, 4), "train_data= was given beside a task"),
        (lambda: search("tests.nowhere:problem"), "cannot be found"),
        (lambda: search(object()), "train_data= is missing"),
        (lambda: search(object(), 1, 2), "no network; give a torch.nn.Module"),
        (lambda: search(object(), 1, 2, nonsense=3), "got an unexpected keyword argument 'nonsense'"),
        (lambda: searched().network, "digits has no network"),
        (lambda: searched().save("somewhere"), "digits has no network"),
    ],
    ids=range(16),
)
def test_what_is_not_accepted_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_a_task_by_its_name() -> None:
    result = search("digits", budget=2, retrain_images=0, progress=False, workers=1)
    assert result.problem.cost == "size"
    assert result.recipe is not None
    assert result.recipe.images == 1600


def of_digits(**arguments: Any) -> SearchResult:
    fixed: dict[str, Any] = {"budget": 2, "retrain_images": 0, "workers": 1, "method": "random", "progress": False}
    return search("digits", **fixed | arguments)


def test_two_searches_are_not_saved_in_one_folder(tmp_path: Path) -> None:
    first = of_digits(folder=tmp_path / "run")
    first.save(tmp_path / "run")  # beside its own evaluations
    first.save(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.suffix != ".html"}
    with pytest.raises(ReLeQError, match="run holds a search with another seed; give another folder"):
        of_digits(seed=1).save(tmp_path / "run")
    assert all((tmp_path / "run" / name).read_bytes() == content for name, content in before.items())
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(ReLeQError, match=r"evaluations.csv is of a search that is not known; give another folder"):
        first.save(tmp_path / "run")


def test_what_is_saved_of_a_task_says_so(tmp_path: Path) -> None:
    from releq_env.export.__main__ import main
    from releq_env.finalizing.subject import understood

    result = of_digits(bitwidths=[2, 4], quantizer="dorefa", retrain_seed=(1, 2))
    result.save(tmp_path)
    main([str(tmp_path), "--output", str(tmp_path / "again.safetensors")])
    subject = understood(str(tmp_path))
    assert subject.bitwidths == result.bitwidths
    engine: Any = result.problem.evaluator.source
    assert subject.engine.fingerprint == engine.retraining.fingerprint


def test_listeners_and_budgets_stay_as_they_were(tmp_path: Path) -> None:
    problem = digits_problem()
    problem.evaluator.budget = 100
    searched(problem, folder=tmp_path)
    assert problem.evaluator.listener is None
    assert problem.evaluator.budget == 100
    assert isinstance(problem.evaluator, Evaluator)


SLOW = """
import sys, time
from pathlib import Path
from releq_env import Problem, search

def accuracy(bits):
    with Path(sys.argv[2]).open("a") as file:
        file.write(" ".join(map(str, bits)) + "\\n")
    time.sleep(0.02)
    return 1.0 - sum(0.02 * 4.0 ** -b for b in bits)

problem = Problem.from_function(4, [1, 2, 4, 8], accuracy)
found = search(problem, budget=30, method="evolution", folder=sys.argv[1], progress=False)
print(len(found.evaluations))
"""


@pytest.mark.processes
@pytest.mark.parametrize("moments", [(7,), pytest.param(range(1, 21, 2), marks=pytest.mark.slow)], ids=["one", "ten"])
def test_kill_9_loses_what_is_under_way_at_most(moments: Sequence[int], tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "run"
    command = [sys.executable, "-c", SLOW, str(folder), str(log)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    kills = 0
    for wanted in moments:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120.0
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and len(log.read_text().splitlines()) >= wanted + kills:
                break
            time.sleep(0.002)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "30", done.stderr
    asked = log.read_text().splitlines()
    assert len(set(asked)) == 30
    assert len(asked) <= 30 + kills  # only what was under way is paid twice


def test_names_are_public() -> None:
    assert releq_env.search is search


def test_a_smaller_budget_is_not_written_down(tmp_path: Path) -> None:
    searched(budget=9, method="random", folder=tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())["settings"]
    assert len(searched(budget=4, method="random", folder=tmp_path).evaluations) == 9
    assert json.loads((tmp_path / "config.json").read_text())["settings"] == before


@pytest.mark.parametrize("method", SEARCHERS)
@pytest.mark.parametrize("parts", [(1, 8), (2, 8), (3, 5, 8)])
def test_a_search_in_parts_is_that_in_one(method: str, parts: tuple[int, ...], tmp_path: Path) -> None:
    def part(folder: str, budget: int) -> SearchResult:
        problem = Problem.from_table("mnist-wrpn", min_relative_accuracy=0.999)  # with an evaluator of its own
        return searched(problem, budget=budget, method=method, folder=tmp_path / folder)

    whole = part("whole", parts[-1])
    for budget in parts:
        last = part("parts", budget)
    assert [each.bitwidths for each in last.evaluations] == [each.bitwidths for each in whole.evaluations]
    assert len(last.evaluations) <= parts[-1]
