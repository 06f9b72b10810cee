"""`python -m agents.plot`: the pictures of one run again, or several runs on one axis."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.plot import _by_agent, main, plot
from releq_env.report import pictures, read_run
from releq_env.report.run import Row, Run
from tests.agents.reported import run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    asked = [("gp", "0"), ("random", "0"), ("random", "1")]
    return [
        run(folder / f"{algo}_{seed}", "table", "--seed", seed, "--budget", "12", algo=algo) for algo, seed in asked
    ]


def test_the_pictures_of_a_run_again(runs: list[Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs[0], tmp_path / "run"))
    before = (folder / "pareto.png").read_bytes()
    (folder / "pareto.png").unlink()
    main([str(folder)])
    assert (folder / "pareto.png").read_bytes() == before  # nothing is forgotten that the run had drawn


def test_several_runs_on_one_axis(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*map(str, runs), "--out", str(tmp_path / "all.svg")])
    assert capsys.readouterr().err == ""
    drawn = (tmp_path / "all.svg").read_text()
    assert "<svg" in drawn
    figure = pictures.rewards([("gp", [read_run(runs[0])]), ("random", [read_run(each) for each in runs[1:]])])
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["gp", "random (median of 2)"]
    with (runs[0] / "evaluations.csv").open() as file:
        rewards = [float(row["reward"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), np.maximum.accumulate(rewards))


def test_only_runs_that_differ_in_their_seeds_are_one_line(runs: list[Path], tmp_path: Path) -> None:
    gp = [run(tmp_path / "two", "table", "--budget", "12", "--n-envs", "3", algo="gp"), runs[0]]
    uneven = run(tmp_path / "uneven", "tests.agents.problems:uneven", "--budget", "4", algo="random")
    found = [read_run(each) for each in (*gp, *runs[1:], uneven)]
    labels = [(label, len(members)) for label, members in _by_agent(found)]
    default = found[1].settings["n_envs"]
    assert labels[:2] == [("gp n_envs=3", 1), (f"gp n_envs={default}", 1)]
    assert [count for _, count in labels[2:]] == [2, 1]
    assert len({label for label, _ in labels}) == 4


def test_a_line_ends_where_nobody_knows_more(runs: list[Path], tmp_path: Path) -> None:
    short = run(tmp_path / "short", "table", "--seed", "2", "--budget", "5", algo="random")
    members = [read_run(each) for each in (short, *runs[1:])]
    (axis,) = pictures.rewards([("random", members)]).axes
    known = [int((~np.isnan(line.get_ydata())).sum()) for line in axis.lines]
    assert known == [5, 12, 12, 12]
    settled = dataclasses.replace(members[0], settings=members[0].settings | {"budget": 6}, ended_by="agent")
    assert settled.settled and not members[0].settled
    assert [member.ended_by for member in members] == ["budget"] * 3
    assert not dataclasses.replace(settled, ended_by="timesteps").settled
    (axis,) = pictures.rewards([("random", [settled, members[1]])]).axes
    assert int((~np.isnan(axis.lines[0].get_ydata())).sum()) == 12


def test_the_best_so_far_keeps_max_cost_if_anything_does() -> None:
    points = [(0.9, 0.5), (0.4, -0.2), (0.8, 0.7), (0.3, float("nan")), (0.5, 0.1)]
    rows = tuple(Row((1,), 0.5, 0.5, reward, q, 1.0, 1.0, True, 0.0, 0.0) for q, reward in points)
    found = Run("run", {}, ("layer",), ((1,),), ((1.0,),), 1.0, 0.9, 0.5, None, rows)
    assert pictures.best_so_far(found).tolist() == [0.5, -0.2, -0.2, -0.2, 0.1]


def test_other_problems_are_drawn_with_a_word_of_warning(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run(tmp_path / "other", "tests.agents.problems:uneven")
    plot([runs[0], other], tmp_path / "both.png")
    assert "their rewards do not compare" in capsys.readouterr().err
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("part", "changed", "warned"),
    [
        ("problem", {"max_cost": 0.9}, True),
        ("problem", {"full_precision_accuracy": 0.9}, True),
        ("about", {"quantizer": "wrpn"}, True),
        ("accuracy_depends_on", {"task": {"data": "FashionMNIST"}}, True),
        ("accuracy_depends_on", {"retrain_seed": 7}, False),
    ],
)
def test_equal_layers_are_not_equal_problems(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, changed: Any, warned: bool
) -> None:
    other = Path(shutil.copytree(runs[1], tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    config[part] = (config[part] or {}) | changed
    (other / "config.json").write_text(json.dumps(config))
    plot([runs[0], other], tmp_path / "both.png")
    assert ("their rewards do not compare" in capsys.readouterr().err) == warned


def test_errors_are_one_line(runs: list[Path], tmp_path: Path) -> None:
    empty = Path(shutil.copytree(runs[0], tmp_path / "empty"))
    (empty / "evaluations.csv").unlink()
    (empty / "report.json").unlink()
    for arguments, said in [
        ([str(tmp_path)], "holds no run"),
        ([str(empty)], "has evaluated nothing yet"),
        ([str(runs[0]), "--out", "x.png"], "is for several runs"),
        ([*map(str, runs), "--out", str(tmp_path / "x.txt")], "ends in .png, .svg or .pdf"),
        ([*map(str, runs), "--out", str(tmp_path / "none" / "x.png")], "cannot be written"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert str(ended.value).startswith("error: ")
        assert said in str(ended.value)
        assert "\n" not in str(ended.value)
