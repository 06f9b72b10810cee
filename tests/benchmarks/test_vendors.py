import csv
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as some

from benchmarks.vendors import __main__ as command
from benchmarks.vendors import finals, ours
from benchmarks.vendors.choosing import choose
from benchmarks.vendors.networks import NETWORKS, Plan, engine_of, given, make_problem
from benchmarks.vendors.registry import OURS, VENDORS
from benchmarks.vendors.report import beside, difference, report, wins
from benchmarks.vendors.rows import Chosen, Key, Retrained, Rows
from benchmarks.vendors.vendor import Choice, Given, Vendor
from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluator
from releq_env.evaluation.live import LiveSource
from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem

TINY = Plan("digits", (4.0, 2.0), 160, 0, 2, 32, 1, (0, 1))


class Uniform:
    """A stand-in: the budget everywhere, as a whole number."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, given: Given, weighted_bits: float, folder: Path) -> Choice:
        self.asked.append(weighted_bits)
        print("what a tool prints")
        (folder / "file").write_bytes(b"x" * 123)
        return Choice({layer.name: int(weighted_bits) for layer in given.problem.layers}, 1.5, folder / "file")


class Mixed(Uniform):
    """A stand-in: the budget everywhere but in the last layer."""

    def __call__(self, given: Given, weighted_bits: float, folder: Path) -> Choice:
        choice = super().__call__(given, weighted_bits, folder)
        return choice._replace(bitwidths=choice.bitwidths | {given.problem.layers[-1].name: 1})


@pytest.fixture(scope="module")
def problem() -> Problem:
    return make_problem("lenet", TINY)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The stand-ins, registered; retraining happens in this process, and the network is made once."""
    made = {"uniform": Uniform(), "same": Uniform(), "mixed": Mixed()}
    for name, tool in made.items():
        monkeypatch.setitem(VENDORS, name, Vendor(f"Tool {name}", tool, tuple(range(1, 9)), "a file"))
    monkeypatch.setattr(command, "QUICK", TINY)
    monkeypatch.setattr(command, "cores", lambda: 1)
    monkeypatch.setattr(command, "make_problem", finals._problem)
    monkeypatch.setattr(finals, "_onnx_bytes", lambda *_: 321)  # a test of its own has the real one
    return made


def run(folder: Path, *arguments: str, vendors: tuple[str, ...] = ("uniform", "same", "mixed")) -> Path:
    where = ["--results", str(folder / "results"), "--work", str(folder / "work")]
    command.main(["--quick", "--networks", "lenet", "--vendors", *vendors, *where, *arguments])
    return folder / "results"


def lines(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def chosen(vendor: str, bitwidths: str, budget: float = 4.0, **changes: Any) -> Chosen:
    row = Chosen("residual", "abc", vendor, budget, bitwidths, 3.0, 3.5, 12.0, 1000, "", "1.0", "a machine")
    return row._replace(**changes)


def retrained(bitwidths: str, packed_bytes: int, accuracies: str = "0.90 0.91 0.92") -> Retrained:
    return Retrained(
        "residual",
        "abc",
        bitwidths,
        "data",
        5,
        "0 1 2",
        accuracies,
        "pre-trained",
        "0.92 0.92 0.92",
        packed_bytes,
        0,
        4000,
        "here",
    )


def test_every_answer_is_retrained_once_and_reported(tmp_path, tools, capsys):
    results = run(tmp_path)
    choices, rows = lines(results / "choices.csv"), lines(results / "finals.csv")
    assert [(row["vendor"], row["budget"], row["bitwidths"]) for row in choices] == [
        ("uniform", "4.0", "4 4 4 4"),
        ("same", "4.0", "4 4 4 4"),
        ("mixed", "4.0", "4 4 4 1"),
        ("uniform", "2.0", "2 2 2 2"),
        ("same", "2.0", "2 2 2 2"),
        ("mixed", "2.0", "2 2 2 1"),
    ]
    assert {(row["seconds"], row["file_bytes"]) for row in choices} == {("1.5", "123")}
    assert choices[2]["average_bits"] == "3.25"
    assert 3.9 < float(choices[2]["weighted_bits"]) < 4.0
    assert sorted(row["bitwidths"] for row in rows) == ["2 2 2 1", "2 2 2 2", "4 4 4 1", "4 4 4 4"]
    for row in rows:
        assert len(row["accuracies"].split()) == len(TINY.seeds)
        (file,) = (tmp_path / "work").glob(f"*/{row['bitwidths'].replace(' ', '-')}/network.safetensors")
        assert abs(int(row["packed_bytes"]) - file.stat().st_size) < 100  # the largest of the seeds' files
    page = (results / "report.md").read_text()
    assert page.count("| Tool uniform |") == 2
    assert page in capsys.readouterr().out


def test_a_stopped_run_goes_on(tmp_path, tools):
    results = run(tmp_path)
    before = {path.name: path.read_text() for path in results.iterdir()}
    cut = before["choices.csv"].rindex(",")
    (results / "choices.csv").write_text(before["choices.csv"][:cut])  # as a kill leaves it
    (results / "finals.csv").write_text("".join(before["finals.csv"].splitlines(keepends=True)[:2]))
    asked = {name: list(tool.asked) for name, tool in tools.items()}
    run(tmp_path)
    assert {path.name: path.read_text() for path in results.iterdir()} == before
    assert {name: tool.asked[len(asked[name]) :] for name, tool in tools.items()} == {
        "uniform": [],
        "same": [],
        "mixed": [2.0],
    }


def test_what_a_tool_prints_goes_to_its_log(tmp_path, tools, problem, capfd):
    choose(Key("lenet", "abc", "uniform", 4.0), problem, TINY, tmp_path / "folder")
    assert "what a tool prints" in (tmp_path / "folder" / "log.txt").read_text()
    assert "what a tool prints" not in "".join(capfd.readouterr())


def test_a_tool_that_is_not_installed_is_said_and_left_out(tmp_path, tools, capsys, monkeypatch):
    absent = Vendor("Absent", "no.such:thing", (4, 8), "a file", ("no_such_module",), "absent other")
    monkeypatch.setitem(VENDORS, "absent", absent)
    results = run(tmp_path, "--budgets", "4", vendors=("absent", "uniform"))
    said = "Absent is left out: no_such_module is not installed; python -m pip install absent other"
    assert said in capsys.readouterr().err.splitlines()
    assert [row["vendor"] for row in lines(results / "choices.csv")] == ["uniform"]


def test_a_tool_that_fails_leaves_the_others_alone(tmp_path, tools, capsys, monkeypatch):
    def fails(*_: object) -> Choice:
        raise KeyError("what\nis this")

    monkeypatch.setitem(VENDORS, "fails", Vendor("Fails", fails, (4, 8), "a file"))
    results = run(tmp_path, "--budgets", "4", vendors=("fails", "uniform"))
    assert "Fails fails at 4 bits (KeyError" in capsys.readouterr().err
    assert [row["vendor"] for row in lines(results / "choices.csv")] == ["uniform"]


def test_a_budget_below_its_bitwidths_is_no_answer(tmp_path, tools, monkeypatch):
    monkeypatch.setitem(VENDORS, "coarse", Vendor("Coarse", "no.such:thing", (4, 8), "a file"))
    results = run(tmp_path, "--budgets", "2", vendors=("coarse",))
    (row,) = lines(results / "choices.csv")
    assert (row["bitwidths"], row["note"]) == ("", "no layer has fewer than 4 bits")
    assert lines(results / "finals.csv") == [] if (results / "finals.csv").exists() else True
    assert "none: no layer has fewer than 4 bits" in (results / "report.md").read_text()


@pytest.mark.parametrize(
    ("bitwidths", "said"),
    [
        ({"conv1": 2, "conv2": 2, "fc1": 2}, "the layers are"),
        ({"conv1": 2, "conv2": 2, "fc1": 2, "fc2": 9}, "does not fit"),
        ({"conv1": 2, "conv2": 2, "fc1": 3, "fc2": 2}, "gives 2.859 bits a weight for 2"),
    ],
)
def test_wrong_answers_are_refused(tmp_path, problem, monkeypatch, bitwidths, said):
    answer = Vendor("Wrong", lambda given, bits, folder: Choice(bitwidths, 1.0, folder / "log.txt"), (1, 8), "a file")
    monkeypatch.setitem(VENDORS, "wrong", answer)
    with pytest.raises(ReLeQError, match=said):
        choose(Key("lenet", "abc", "wrong", 2.0), problem, TINY, tmp_path / "folder")


def test_every_tool_has_its_function_without_its_package():
    assert set(VENDORS) >= {OURS, "modelopt", "mct", "aimet"}
    for vendor in VENDORS.values():
        assert callable(pkgutil.resolve_name(vendor.choose))


def test_tools_see_the_same_data_and_may_spoil_their_network(problem):
    first, second = given(problem, TINY), given(problem, TINY)
    for parameter in first.network.parameters():
        parameter.data.zero_()
    assert first.accuracy(first.network, 100) < 0.5 < second.accuracy(second.network, 100)
    assert len(first.training.targets) == TINY.images
    assert sum(len(targets) for _, targets in first.batches(100)) == TINY.images


def test_the_residual_network_is_seeded_and_learns(tmp_path):
    plan = TINY._replace(pretraining=4, images=640)
    networks = [NETWORKS["residual"](plan)[0].state_dict() for _ in range(2)]
    assert all((networks[0][name] == networks[1][name]).all() for name in networks[0])
    problem = make_problem("residual", plan)
    assert sum(layer.weights for layer in problem.layers) == 77_072
    assert problem.full_precision_accuracy > 0.7


def test_our_search_keeps_the_budget_and_measures_what_it_may(tmp_path, problem):
    alone = problem.sharing(Evaluator(LiveSource(engine_of(problem), workers=1)))
    asked = given(alone, TINY)
    choice = ours.choose(asked, 2.5, tmp_path)
    bitwidths = [choice.bitwidths[layer.name] for layer in problem.layers]
    assert problem.terms(bitwidths)["weighted_bits"] <= 2.5
    assert choice.file.stat().st_size < 20_000
    with pytest.raises(ReLeQError, match="cannot be met"):
        ours.choose(asked, 0.5, tmp_path)


@for_all(
    some.lists(some.tuples(some.integers(1, 5000), some.integers(1, 8)), min_size=1, max_size=5),
    some.floats(1.0, 8.0),
)
def test_the_bound_on_size_is_the_budget_of_bits(layers, budget):
    described = [
        LayerInfo(f"layer{index}", 1, 1, 1, weights, weights, 0.1, scales=3)
        for index, (weights, _) in enumerate(layers)
    ]
    problem = Problem.from_function(len(layers), list(range(1, 9)), lambda bits: 0.5, 1.0, described, cost="size")
    share = problem.state_of_quantization([bits for _, bits in layers])
    total = sum(weights for weights, _ in layers)
    weighted = sum(weights * bits for weights, bits in layers) / total
    bound = ours.bound(problem, budget)
    if share <= bound:
        assert weighted <= budget + 1e-9
    if weighted <= budget - 8 * len(layers) / total:  # a layer ends in a whole byte
        assert share <= bound + 1e-12


def test_the_report_needs_nothing_but_rows(tmp_path):
    choices, found = Rows(tmp_path / "choices.csv", Chosen), Rows(tmp_path / "finals.csv", Retrained)
    for row in (chosen(OURS, "2 3"), chosen("modelopt", "4 4"), chosen("mct", "2 3"), chosen("aimet", "", note="why")):
        choices.append(row)
    for final in (retrained("2 3", 1000), retrained("4 4", 2000)):
        found.append(final)
    command.main(["--report", "--results", str(tmp_path)])
    page = (tmp_path / "report.md").read_text()
    assert "| 91.00 ± 1.00 | 1.00 (-1.48 to 3.48) | 12 | 2.00 times smaller, equally accurate, +0.00" in page
    assert "than 1 of 2 answers, and the same as 1." in page
    assert "none: why" in page
    assert "Not so" not in page


def test_where_ours_is_not_smaller_is_said():
    rows = [chosen(OURS, "8 8"), chosen("modelopt", "4 4"), chosen("mct", "2 2")]
    found = [retrained("8 8", 3000), retrained("4 4", 2000), retrained("2 2", 4000, "0.95 0.95 0.95")]
    page = report(rows, {row.key: row for row in found})
    assert "than 0 of 2 answers" in page
    assert "- 4 bits, NVIDIA ModelOpt auto_quantize: 1.50 times larger, equally accurate" in page
    assert "- 4 bits, Sony MCT mixed precision: 1.33 times smaller, -4.00" in page


def test_differences_have_an_interval():
    found = difference([90.0, 91.0, 92.0], [88.0, 89.0, 90.0])
    assert found.points == pytest.approx(2.0)
    assert found.low < 0.0 < found.points < found.high  # three seeds a side say little
    assert difference([90.0], [88.0]) == (2.0, 2.0, 2.0)
    assert difference([90.0, 90.0], [88.0, 88.0]) == (2.0, 2.0, 2.0)


def test_the_same_answer_is_no_win():
    one = retrained("2 3", 1000)
    assert beside(one, one) == "the same answer"
    assert not wins(one, one)
    assert wins(one, retrained("4 4", 1001))
    assert not wins(one, retrained("4 4", 1001, "0.94 0.94 0.94"))


@pytest.mark.parametrize("text", ["network,weights\nlenet,abc\n", ",".join(Chosen._fields) + "\n" + "a," * 11 + "\n"])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "choices.csv").write_text(text)
    with pytest.raises(SystemExit, match="choices.csv is damaged"):
        command.main(["--report", "--results", str(tmp_path)])


@pytest.mark.parametrize("text", ["0.5", "9", "many", "nan"])
def test_a_budget_is_a_number_of_bits(text, capsys):
    with pytest.raises(SystemExit):
        command.main(["--report", "--budgets", text])
    assert f"{text} is not accepted; give bits a weight, a number from 1 to 8" in capsys.readouterr().err


def test_an_estimate_measures_and_writes_nothing(tmp_path, tools, capsys):
    run(tmp_path, "--estimate")
    said = capsys.readouterr().out
    assert "at most 6 assignments with 2 seeds of 1 epochs" in said
    assert not (tmp_path / "results").exists()
    assert tools["uniform"].asked == []


@pytest.mark.slow
def test_an_assignment_is_written_as_onnx_too(tmp_path, problem):
    pytest.importorskip("onnxscript")
    row = finals.retrain(("lenet", finals.weights_of(problem), "8 8 8 8"), TINY._replace(seeds=(0,)), tmp_path)
    assert 38_000 < row.packed_bytes < row.onnx_bytes < 45_000


@pytest.mark.slow
@pytest.mark.parametrize("network", ["lenet", "residual"])
@pytest.mark.parametrize("name", [name for name in VENDORS if name != OURS])
def test_the_tools_themselves(tmp_path, name, network):
    pytest.importorskip(VENDORS[name].needs[0])
    plan = TINY._replace(pretraining=4, images=640)
    problem = make_problem(network, plan)
    row = choose(Key(network, "abc", name, 3.0), problem, plan, tmp_path / "folder")
    bitwidths = [int(bits) for bits in row.bitwidths.split()]
    assert row.weighted_bits <= 3.0
    assert set(bitwidths) <= set(VENDORS[name].bits)
    assert row.file_bytes > 1000
