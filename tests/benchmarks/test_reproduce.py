"""The paper's headline: what is chosen, when test data may be read, and what comes out."""

import csv
import itertools
import json
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from agents.run.settings import Options, new_settings
from benchmarks.reproduce import __main__ as command
from benchmarks.reproduce import choosing, levers, networks, refining, rows, testing, walking
from benchmarks.reproduce.committed import is_committed
from benchmarks.reproduce.rows import ROWS, Row, find
from benchmarks.reproduce.searching import Found, arguments, search
from benchmarks.reproduce.smoothing import smoothed
from releq_env import ReLeQError
from releq_env.quantization import QUANTIZERS
from releq_env.tasks import TASKS, Examples, Task
from releq_env.tasks.final import FinalRecipe

DIGITS = Row("digits", "lsq", tuple(range(1, 9)), 2.0, table="digits", budget=20, seeds=(0, 1))


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def commit(folder: Path) -> None:
    git(folder, "add", ".")
    git(folder, "commit", "--message", "choose")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init")
    return tmp_path


@pytest.fixture
def digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Row:
    """A row that takes seconds."""
    monkeypatch.setitem(networks.TASKS, "digits", TASKS["digits"])
    monkeypatch.setitem(ROWS, DIGITS.name, DIGITS)
    monkeypatch.setitem(networks.RECIPES, "digits", FinalRecipe(epochs=2, control_rates=(1e-3,), batch_size=64))
    monkeypatch.setenv("RELEQ_CACHE", str(tmp_path / "cache"))
    return DIGITS


def searched(folder: Path, found: list[Found], least: float) -> None:
    """Write what a search leaves behind, as far as it is read."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"problem": {"min_relative_accuracy": least}}))
    (folder / "report.json").write_text("{}")
    with (folder / "evaluations.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("bitwidths", "relative_accuracy"))
        writer.writerows((" ".join(map(str, each.bitwidths)), each.relative_accuracy) for each in found)


ASSIGNMENTS = list(itertools.product((1, 2, 4), repeat=3))
ACCURACIES = st.lists(st.floats(0.5, 1.0), min_size=len(ASSIGNMENTS), max_size=len(ASSIGNMENTS))


@given(accuracies=ACCURACIES, border=st.integers(2, 13), least=st.floats(0.4, 1.0), most=st.integers(1, 12))
def test_the_walk_finds_the_border_if_it_may_go_far_enough(
    accuracies: list[float], border: int, least: float, most: int
) -> None:
    found = [Found(bits, accuracy) for bits, accuracy in zip(ASSIGNMENTS, accuracies, strict=True)]
    asked: list[tuple[int, ...]] = []

    def loss(bitwidths: tuple[int, ...]) -> float:
        asked.append(bitwidths)
        return 0.0 if sum(bitwidths) >= border else 1.0

    steps = walking.walk(found, least, max, loss, most)
    answer = walking.chosen(steps)
    best = walking.levels(found)
    assert len(asked) == len(set(asked)) == len(steps) <= most
    assert all(step.found in [max(level[: walking.SCREENED]) for level in best] for step in steps)
    keeping = [total for level in best if (total := sum(level[0].bitwidths)) >= border]
    if most >= len(best) and keeping:
        assert sum(answer.found.bitwidths) == min(keeping)
    if any(step.keeps for step in steps):
        assert answer.keeps


@given(totals=st.integers(1, 200), border=st.integers(0, 200), start=st.integers(0, 199))
def test_the_walk_takes_long_strides_and_then_halves(totals: int, border: int, start: int) -> None:
    found = [Found((total,), total / 1000.0) for total in range(totals)]
    steps = walking.walk(found, start / 1000.0, max, lambda bits: float(bits[0] < border), most=1000)
    assert len(steps) <= 2 * np.log2(totals) + 3
    if border < totals:
        assert walking.chosen(steps).found.bitwidths == (border,)


@given(accuracies=ACCURACIES)
def test_more_bits_count_only_where_they_are_more_accurate_or_the_most_accurate_has_fewer(
    accuracies: list[float],
) -> None:
    found = [Found(bits, accuracy) for bits, accuracy in zip(ASSIGNMENTS, accuracies, strict=True)]
    levels = walking.levels(found)
    highest = max(accuracies)
    beyond = min(sum(each.bitwidths) for each in found if each.relative_accuracy == highest)
    for level in levels:
        best = level[0]
        assert all(a.relative_accuracy >= b.relative_accuracy for a, b in itertools.pairwise(level))
        fewer = [each for each in found if sum(each.bitwidths) < sum(best.bitwidths)]
        if sum(best.bitwidths) <= beyond:
            assert all(each.relative_accuracy < best.relative_accuracy for each in fewer)
    assert {sum(each.bitwidths) for each in found if sum(each.bitwidths) >= beyond} <= {
        sum(level[0].bitwidths) for level in levels
    }


def test_no_more_are_screened_of_as_many_bits_than_planned() -> None:
    found = [Found(bits, 1.0 - index / 100.0) for index, bits in enumerate(ASSIGNMENTS)]
    asked: list[int] = []

    def best(level: list[Found]) -> Found:
        asked.append(len(level))
        return level[0]

    walking.walk([Found((*each.bitwidths, more), each.relative_accuracy) for each in found for more in (1, 2, 3)],
                 0.5, best, lambda bits: 1.0, most=100)  # fmt: skip
    assert max(asked) == walking.SCREENED


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((0.0, 0.1, 9.0, 9.0), 0.05),
        ((0.1, 0.2, 0.3, 0.4), 0.25),
        ((0.2, 0.3, 0.1, 0.0), 0.15),
        ((0.4, 0.5, 9, 9), 0.45),
    ],
)
def test_a_loss_close_to_the_allowed_one_is_of_more_seeds(
    losses: tuple[float, ...], expected: float, tmp_path: Path, digits: Row
) -> None:
    recipe, path = FinalRecipe(), tmp_path / "validated.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(choosing._COLUMNS)
        for seeds in (choosing.SEEDS, choosing.SEEDS + choosing.MORE_SEEDS):
            for seed, loss in zip(seeds, losses, strict=False):
                of_all = " ".join(map(str, seeds))
                writer.writerow(
                    ("2 2 2 2", choosing.digest(recipe, digits.quantizer), 30, of_all, seed, 0.9, 0.9, loss)
                )
    validated = choosing.Validated(digits, recipe, path, tmp_path)
    assert validated.decisive((2, 2, 2, 2)) == pytest.approx(expected)
    assert validated.loss((2, 2, 2, 2)) == pytest.approx(np.mean(losses[:2]))


def test_what_was_lucky_is_expected_to_be_less_accurate() -> None:
    draws = np.random.default_rng(0)
    every = list(itertools.product((1, 2, 3, 4, 6, 8), repeat=3))
    true = {bits: 1.0 - 0.05 * sum(2.0**-b for b in bits) for bits in every}
    paid = [every[index] for index in draws.permutation(len(every))[:60]]
    found = [Found(bits, true[bits] + 0.003 * draws.normal()) for bits in paid]
    expected = smoothed([*found, found[0]], 0.98)
    assert [each.bitwidths for each in expected] == paid
    errors = [
        np.sqrt(np.mean([(each.relative_accuracy - true[each.bitwidths]) ** 2 for each in some]))
        for some in (found, expected)
    ]
    assert errors[1] < 0.7 * errors[0]
    assert smoothed(found[:1], 0.98) == found[:1]
    assert smoothed([], 0.98) == []


class Additive:
    """Losses after a third of a retraining: of each layer its own, more with fewer bits; counts what is asked for."""

    def __init__(self) -> None:
        self.asked: set[tuple[int, ...]] = set()

    def loss(self, bitwidths: tuple[int, ...]) -> float:
        self.asked.add(bitwidths)
        return sum(weight * 4.0**-bits for weight, bits in zip((40.0, 20.0, 2.0, 4.0), bitwidths, strict=True))


def test_a_refined_search_finds_what_loses_little_after_a_third_of_the_final_retraining() -> None:
    row = Row("digits", "lsq", tuple(range(1, 9)), 2.0, refining_budget=30)
    # What was retrained in full loses 0.1 points less at last: 0.2 are allowed there, so 0.3 here.
    uniform = [(bits,) * 4 for bits in (3, 4, 5)]
    steps = [walking.Step(Found(bits, 0.99), Additive().loss(bits) - 0.1) for bits in uniform]
    screened = Additive()
    found, least = refining.refine(row, steps, screened)
    assert least == pytest.approx(1.0 - 0.003, abs=1e-4)
    assert screened.asked == {each.bitwidths for each in found} >= set(uniform)
    assert len(found) == row.refining_budget + len(steps)
    again, _ = refining.refine(row, steps, Additive())
    assert again == found
    fewest = min(sum(bits) for bits in itertools.product(row.bitwidths, repeat=4) if Additive().loss(bits) <= 0.3)
    keeping = [each.bitwidths for each in found if Additive().loss(each.bitwidths) <= 0.3]
    assert min(map(sum, keeping)) <= fewest + 1


def test_nothing_can_be_chosen_from_nothing() -> None:
    with pytest.raises(ReLeQError, match="found no assignment"):
        walking.walk([], 0.9, max, lambda bits: 0.0)


@given(slope=st.floats(0.001, 0.02), seed=st.integers(0, 100))
def test_the_constraint_is_read_off_where_the_loss_is_the_allowed_one(slope: float, seed: int) -> None:
    losses = np.sort(np.random.default_rng(seed).uniform(-0.5, 1.5, 5))
    steps = [walking.Step(Found((n,), 0.98 - slope * loss), loss) for n, loss in enumerate(losses)]
    expected = np.clip(walking.LIMIT - walking.MARGIN, losses.min(), losses.max())
    assert walking.calibrated(steps, 0.5) == pytest.approx(0.98 - slope * expected, abs=1e-4)


def test_a_constraint_is_never_above_one() -> None:
    steps = [walking.Step(Found((1,), 1.002), 0.1), walking.Step(Found((2,), 1.001), 0.5)]
    assert walking.calibrated(steps, 0.99) == 1.0


def test_a_search_with_another_constraint_is_not_taken(tmp_path: Path) -> None:
    searched(tmp_path / "search", [Found((1, 1, 1, 1), 0.9)], 0.99)
    assert search(DIGITS, tmp_path / "search", 0.99)
    with pytest.raises(ReLeQError, match="delete it"):
        search(DIGITS, tmp_path / "search", 0.98)


def test_the_constraint_stays_where_nothing_can_be_read_off() -> None:
    one = walking.Step(Found((1,), 0.9), 0.5)
    assert walking.calibrated([one, one], 0.97) == 0.97
    better = walking.Step(Found((2,), 0.8), 0.1)  # less accurate for a start, and better at last
    assert walking.calibrated([one, better], 0.97) == 0.97


def test_only_what_is_committed_as_it_is_counts(repository: Path) -> None:
    path = repository / "chosen.json"
    path.write_text("{}")
    assert not is_committed(path)
    commit(repository)
    assert is_committed(path)
    path.write_text("{ }")
    assert not is_committed(path)
    git(repository, "add", ".")
    assert not is_committed(path)  # staged is not committed
    assert not is_committed(repository / "missing" / "chosen.json")


def test_a_row_is_made_once_its_choice_is_committed(
    digits: Row, repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = repository / "reproduction"
    found = [Found((3, 3, 3, 3), 1.0), Found((2, 3, 3, 4), 0.99), Found((1, 1, 1, 1), 0.97), Found((4, 4, 4, 4), 1.0)]
    searched(results / digits.name / "search", found, 0.99)
    searched(results / digits.name / "search-calibrated", found, 0.995)
    monkeypatch.setattr(walking, "calibrated", lambda steps, least: 0.995)
    read: list[int] = []
    load_test = type(TASKS["digits"].dataset).load_test

    def listened(dataset: object, root: object = None) -> Examples:
        read.append(1)
        return load_test(dataset, root)  # type: ignore[arg-type]

    monkeypatch.setattr(type(TASKS["digits"].dataset), "load_test", listened)
    arguments = ["--only", digits.name, "--output", str(results)]
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "chosen.json, then start again" in capsys.readouterr().err
    assert not read
    chosen = json.loads((results / digits.name / "chosen.json").read_text())
    validated = list(csv.DictReader((results / digits.name / "validated.csv").open()))
    assert " ".join(map(str, chosen["bitwidths"])) in {row["bitwidths"] for row in validated}
    screened = list(csv.DictReader((results / digits.name / "screened.csv").open()))
    assert {row["bitwidths"] for row in screened} == {"3 3 3 3", "2 3 3 4"}  # a single one of its bits is not
    assert {row["seed"] for row in screened} == {"100"}
    assert {row["seed"] for row in validated} in ({"100", "101"}, {"100", "101", "102", "103"})
    assert {row["seeds"] for row in validated} <= {"100 101", "100 101 102 103"}

    commit(repository)
    command.main(arguments)
    assert read
    (row,) = json.loads((repository / "reproduction.json").read_text())["rows"]
    assert (row["task"], row["bitwidths"], row["seeds"]) == ("digits", chosen["bitwidths"], [0, 1])
    assert row["loss"] == pytest.approx(np.mean(row["losses"]))
    of_both = np.var(row["accuracies"], ddof=1) + np.var(row["control_accuracies"], ddof=1)
    assert row["loss_std"] == pytest.approx(100 * of_both**0.5)
    assert (row["distinct_evaluations"], row["screened"]) == (len(found), 2)  # both searches found the same
    assert row["command"].endswith(f"--only {digits.name}")
    page = (results / "report.md").read_text()
    assert f"{row['loss']:.2f}" in page
    for picture in ("losses.png", f"{digits.name}-enumeration.png"):
        assert (results / picture).stat().st_size > 1000
        assert picture in page

    before = (results / digits.name / "result.json").read_bytes()
    changed = chosen | {"recipe": chosen["recipe"] | {"epochs": 3}}
    (results / digits.name / "chosen.json").write_text(json.dumps(changed))
    commit(repository)
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "is of another assignment or recipe" in capsys.readouterr().err
    (results / digits.name / "chosen.json").write_text(json.dumps(chosen))
    commit(repository)
    read.clear()
    command.main(arguments)
    assert (results / digits.name / "result.json").read_bytes() == before
    assert not read  # what is finished is not made again


def test_a_row_may_search_by_the_final_loss(
    digits: Row, repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(digits, refining_budget=3)
    monkeypatch.setitem(ROWS, row.name, row)
    results = repository / "reproduction"
    searched(results / row.name / "search", [Found((3, 3, 3, 3), 1.0), Found((2, 3, 3, 3), 0.99)], 0.99)
    arguments = ["--only", row.name, "--output", str(results)]
    with pytest.raises(SystemExit):
        command.main(arguments)
    screened = list(csv.DictReader((results / row.name / "screened.csv").open()))
    validated = {each["bitwidths"] for each in csv.DictReader((results / row.name / "validated.csv").open())}
    of_both = {each["bitwidths"] for each in screened if each["seeds"] == "100 101"}
    assert 3 + 1 <= len(of_both) <= 3 + 2  # and the one or two of the first walk, which calibrate the constraint
    assert validated <= of_both
    chosen = results / row.name / "chosen.json"
    content = json.loads(chosen.read_text())
    assert set(content["constraints"]) == {"first", "refined"}
    chosen.unlink()
    monkeypatch.setattr(choosing, "finalize", lambda *_, **__: pytest.fail("it is known"))
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert json.loads(chosen.read_text()) == content
    assert "after a third of the final retraining" in (results / "report.md").read_text()
    capsys.readouterr()


def test_what_was_chosen_elsewhere_is_not_chosen_again(
    digits: Row, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "chosen").mkdir()
    with pytest.raises(SystemExit):
        command.main(["--only", digits.name, "--chosen", str(repository / "chosen"), "--output", str(repository / "o")])
    assert "nothing is chosen in" in capsys.readouterr().err


def test_without_names_what_is_chosen_elsewhere_is_made(
    digits: Row, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--chosen", str(repository / "chosen"), "--output", str(repository / "o"), "--estimate"]
    with pytest.raises(ReLeQError, match="nothing is chosen there; leave it out"):
        command.main(arguments)
    (repository / "chosen" / digits.name).mkdir(parents=True)
    recipe = asdict(FinalRecipe(epochs=1))
    content = json.dumps({"bitwidths": [2, 2, 2, 2], "recipe": recipe})
    (repository / "chosen" / digits.name / "chosen.json").write_text(content)
    command.main(arguments)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{digits.name}: ")


def test_a_loss_does_not_depend_on_what_was_asked_before(
    digits: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control is chosen over the seeds of a question: at the first rate the first seed's is the better one."""
    controls = {100: (0.95, 0.93), 101: (0.90, 0.93), 102: (0.90, 0.93), 103: (0.90, 0.93)}
    asked = []

    def finalized(task: Task, bitwidths: tuple[int, ...], **arguments: Any) -> Any:
        seeds = arguments["seeds"]
        asked.append(seeds)
        best = max(range(2), key=lambda rate: sum(controls[seed][rate] for seed in seeds))
        return SimpleNamespace(
            bitwidths=bitwidths, seeds=seeds, validation_accuracies=(0.92,) * len(seeds),
            control_validation_accuracies=tuple(controls[seed][best] for seed in seeds),
        )  # fmt: skip

    monkeypatch.setattr(choosing, "finalize", finalized)
    questions = [(100,), (100, 101), (100, 101, 102, 103)]
    found = {}
    for order in itertools.permutations(questions):
        validated = choosing.Validated(digits, FinalRecipe(), tmp_path / f"{order}.csv", tmp_path)
        for seeds in order * 2:
            loss = validated.loss((2, 2, 2, 2), seeds)
            assert found.setdefault(seeds, loss) == loss
    assert found == {
        questions[0]: pytest.approx(3.0),
        questions[1]: pytest.approx(1.0),
        questions[2]: pytest.approx(1.0),
    }
    assert len(asked) == 6 * 3  # nothing is measured twice
    digest = choosing.digest(FinalRecipe(), "lsq")
    assert choosing.measured(tmp_path / f"{tuple(questions)}.csv", digest) == [(2, 2, 2, 2)]


def test_rows_against_one_control_for_all_seeds_do_not_count(digits: Row, tmp_path: Path) -> None:
    recipe, path = FinalRecipe(), tmp_path / "validated.csv"
    digest = choosing.digest(recipe, digits.quantizer)
    before = (
        f"bitwidths,recipe,epochs,seed,validation_accuracy,control_accuracy,loss\n2 2 2 2,{digest},30,100,0.9,0.9,0\n"
    )
    path.write_text(before)
    assert not choosing.Validated(digits, recipe, path, tmp_path).rows((2, 2, 2, 2), (100,))
    assert not choosing.measured(path, digest)


def test_a_result_of_another_version_of_the_quantizer_is_refused(tmp_path: Path) -> None:
    same = {"bitwidths": [2, 2], "recipe": asdict(FinalRecipe()), "quantizer": "lsq"}
    result, chosen = tmp_path / "result.json", tmp_path / "chosen.json"
    chosen.write_text(json.dumps(same))
    version = QUANTIZERS["lsq"].version
    result.write_text(json.dumps(same | {"quantizer_version": version}))
    testing.check_result(result, chosen)
    result.write_text(json.dumps(same | {"quantizer_version": version - 1}))
    with pytest.raises(ReLeQError, match=f"is of version {version - 1} of lsq, which is {version} today; delete it"):
        testing.check_result(result, chosen)


def test_losses_of_another_version_of_the_quantizer_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = choosing.digest(FinalRecipe(), "lsq")
    monkeypatch.setitem(QUANTIZERS, "lsq", replace(QUANTIZERS["lsq"], version=99))
    assert choosing.digest(FinalRecipe(), "lsq") != before


def test_a_warm_start_is_another_recipe_since_the_control_is_as_long() -> None:
    digests = {choosing.digest(FinalRecipe(warm_start=epochs), "wrpn") for epochs in (0, 5, 10)}
    assert len(digests) == 3
    assert "24b7e832" not in digests  # of 10, when the control had none of it


def test_a_damaged_choice_is_refused(digits: Row, repository: Path) -> None:
    folder = repository / "reproduction" / digits.name
    folder.mkdir(parents=True)
    (folder / "chosen.json").write_text('{"bitwidths": [2, 2')
    commit(repository)
    with pytest.raises(ReLeQError, match=r"chosen.json cannot be read .*; delete it"):
        command.main(["--only", digits.name, "--output", str(folder.parent)])


def test_rows_without_data_say_so_and_stop_no_other(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RELEQ_DATA", str(repository / "nothing"))
    monkeypatch.setattr(
        rows, "TASKS", {name: replace(task, dataset=replace(task.dataset, downloads=False))
                        for name, task in networks.TASKS.items()}
    )  # fmt: skip
    with pytest.raises(SystemExit):
        command.main(["--output", str(repository / "reproduction")])
    said = capsys.readouterr().err
    assert all(f"{name}: " in said for name in ROWS)
    assert "street-digits-grey.npz is missing" in said


def test_a_lever_is_values_of_the_recipe_and_bad_ones_are_refused_before_work(digits: Row, tmp_path: Path) -> None:
    plain = FinalRecipe()
    assert all(levers.recipe_of(lever, plain) for lever in levers.LEVERS)
    assert len({levers.recipe_of(lever, plain) for lever in levers.LEVERS}) == len(levers.LEVERS)
    assert levers.recipe_of("average=0.9+learning_rate=3e-3", plain) == replace(plain, average=0.9, learning_rate=3e-3)
    for lever in ("rate=1", "average", "average=2", "learning_rate=fast"):
        with pytest.raises(ReLeQError):
            levers.main([digits.name, "--bits", "2,2,2,2", "--levers", "plain", lever, "--output", str(tmp_path)])
    assert not list(tmp_path.glob("*.csv"))


def test_levers_are_compared_on_validation(digits: Row, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [digits.name, "--bits", "2,2,2,2", "--levers", "plain", "average=0.9", "--epochs", "1"]
    levers.main([*arguments, "--output", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / f"{digits.name}.csv").open()))
    assert len(rows) == 2 * len(choosing.SEEDS)
    assert len({row["recipe"] for row in rows}) == 2
    said = capsys.readouterr().out
    levers.main([*arguments, "--output", str(tmp_path)])
    assert capsys.readouterr().out == said  # nothing is measured twice
    assert "average=0.9" in said


def test_street_digits_are_a_task_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = np.repeat(np.array([0, 1, 2], np.uint8), (8, 2248, 4))
    images = np.zeros((len(split), 32, 32), np.uint8)
    np.savez(tmp_path / "street-digits-grey.npz", images=images, labels=(split * 3), split=split)
    training, validation = networks.STREET_DIGITS.load(tmp_path)
    assert training.inputs.shape == (8, 3, 32, 32)
    assert set(training.targets.tolist()) == {0}
    assert set(validation.targets.tolist()) == {3}
    assert set(networks.STREET_DIGITS.load_test(tmp_path).targets.tolist()) == {6}
    monkeypatch.setenv("RELEQ_DATA", str(tmp_path))
    assert networks.RECIPES["street-digits"] is not networks.RECIPES["svhn"]


def test_rows_are_found_by_name_and_by_task() -> None:
    assert [row.name for row in find(["cifar10", "mnist-lsq"])] == [
        *(name for name in ROWS if name.startswith("cifar10")), "mnist-lsq",
    ]  # fmt: skip
    assert len(find([])) == len(ROWS)
    with pytest.raises(ReLeQError, match="mnist-lsq"):
        find(["mnist-lq"])


@pytest.mark.parametrize("name", ROWS)
def test_searches_are_what_the_training_command_takes(name: str) -> None:
    row = ROWS[name]
    settings = new_settings(tyro.cli(Options, args=arguments(row, 0.985)))
    assert settings.algo == ("gp" if name.endswith("-gp") else "ppo")
    assert settings.budget == row.budget
    assert settings.env_kwargs["min_relative_accuracy"] == 0.985
    if row.table is None:
        assert settings.env_kwargs["quantizer"] == row.quantizer
        assert settings.env_kwargs["bitwidths"] == list(row.bitwidths)
