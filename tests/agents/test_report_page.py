"""The report of a run: `python -m agents.report RUN_DIR`."""

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.report.__main__ import main
from agents.run.settings import Options, new_settings
from releq_env.errors import ReLeQError
from releq_env.report import read_run, render, write_report
from releq_env.report.command import commands
from releq_env.report.run import Row, Run
from tests.agents.reported import HOSTILE, Page, run, table


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run(tmp_path_factory.mktemp("finished") / "run", "table")
    main([str(folder)])
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    return Page.read(finished / "report.html")


def test_the_answer_layer_by_layer(finished: Path, page: Page) -> None:
    problem, best = table(), json.loads((finished / "best.json").read_text())
    total = problem.size_in_bytes(best["bitwidths"])
    header, *rows = page.rows["layers"]
    assert header == ["layer", "bits", "shape", "weights", "bytes", "share of size"]
    assert {row[0]: int(row[1]) for row in rows} == json.loads((finished / "assignment.json").read_text())
    assert sum(int(row[4].replace(",", "")) for row in rows) == total
    assert sum(float(row[5].removesuffix(" %")) for row in rows) == pytest.approx(100.0, abs=0.2)
    weights = sum(layer.weights for layer in problem.layers)
    for size in (f"{total:,} bytes", f"{4 * weights:,} bytes", f"{problem.size_in_bytes([8] * 4):,} bytes"):
        assert size in page.sections["layers"]
    assert f"{best['average_bits']:.2f}" in page.sections["answer"]


def test_accuracies_with_every_unseen_seed(finished: Path, page: Page) -> None:
    candidates = json.loads((finished / "report.json").read_text())["candidates"]
    header, *rows = page.rows["accuracy"]
    assert header[2:6] == ["found", "unseen 1", "unseen 2", "confirmed"]
    for row, candidate in zip(rows, candidates, strict=True):
        measured = [candidate["accuracy"], *candidate["confirmed"], candidate["confirmed_accuracy"]]
        assert row[2:6] == [f"{100 * each:.2f} %" for each in measured]
    assert "Full precision: 98.00 %. The constraint: at least 97.02 %" in page.sections["accuracy"]
    assert "beats the best uniform one" in page.sections["answer"]


def test_the_curve_has_the_best_answer_for_every_cost(finished: Path, page: Page) -> None:
    with (finished / "evaluations.csv").open() as file:
        rows = list(csv.DictReader(file))
    costs = sorted({float(row["state_of_quantization"]) for row in rows})
    best = [
        max((r for r in rows if float(r["state_of_quantization"]) <= q), key=lambda r: float(r["accuracy"]))
        for q in costs
    ]
    accuracies = sorted({float(row["accuracy"]) for row in best})
    assert [row[4] for row in page.rows["budgets"][1:]] == [f"{100 * each:.2f} %" for each in accuracies]


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(0, 8)), min_size=1, max_size=20))
def test_nothing_beats_the_curve_and_all_else_is_beaten(points: list[tuple[int, int]]) -> None:
    rows = tuple(Row((bits,), a / 8, a / 8, 0.0, bits / 8, bits, bits, True, 0.0, 0.0) for bits, a in points)
    curve = Run("run", {}, ("layer",), (tuple(range(1, 9)),), ((1.0,) * 8,), 1.0, 0.9, None, None, rows).curve

    def beats(one: Row, other: Row) -> bool:
        gains = one.state_of_quantization <= other.state_of_quantization, one.accuracy >= other.accuracy
        alike = (one.state_of_quantization, one.accuracy) == (other.state_of_quantization, other.accuracy)
        return all(gains) and not alike

    kept = {(row.state_of_quantization, row.accuracy) for row in rows if not any(beats(other, row) for other in rows)}
    assert [(row.state_of_quantization, row.accuracy) for row in curve] == sorted(kept)


def test_what_was_asked_and_how_to_repeat_it(page: Page) -> None:
    asked = page.sections["asked"]
    for said in ("measured, 4 quantizable layers", "1, 2, 3, 4: 256 assignments", "at least 99 %", "random, seed 0"):
        assert said in asked
    assert "looked up in a table, retraining seed 0" in asked
    assert "--env releq_env:ReLeQ-v0" in page.sections["repeat"]
    assert "numpy" in page.sections["repeat"]


def test_it_needs_nothing_else(page: Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert str(value).startswith(("#", "data:image/png")), (tag, name)
            assert "http:" not in str(value)
            assert "https:" not in str(value)
    policy = next(each["content"] for _, each in page.tags if each.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_pictures_say_what_they_show(page: Page) -> None:
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 2
    assert all(len(each["aria-label"]) > 20 and each["role"] == "img" for each in pictures)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for tag, attributes in page.tags if tag == "use"}
    assert targets <= {f"#{each}" for each in ids}


@pytest.mark.parametrize("problem", ["tests.agents.problems:four_layers", "tests.agents.problems:uneven"])
def test_of_a_function_there_is_no_talk_of_bytes(problem: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", problem)
    main([str(folder)])
    page = Page.read(folder / "report.html")
    for text in (page.text, (folder / "report.md").read_text()):
        assert not [word for word in ("byte", "kB", "fp32", "int8", "smaller") if word in text]
    assert "returned by a function" in page.sections["asked"]
    assert "these accuracies have no other retraining seed" in page.sections["accuracy"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of an agent that learns, on layers with hostile names, in a folder with one."""
    folder = tmp_path_factory.mktemp("learned") / "<img src=x onerror=alert(1)>"
    run(folder, "hostile", algo="ppo")
    main([str(folder)])
    return Page.read(folder / "report.html")


def test_hostile_names_are_names(learned: Page) -> None:
    assert [row[0] for row in learned.rows["layers"][1:]] == HOSTILE
    assert "alert" not in str([(tag, names) for tag, names in learned.tags if "title" not in names])
    assert not {tag for tag, _ in learned.tags} & {"script", "img"}
    assert learned.text.count("{{ 7 * 7 }}") >= 2  # by layer, and above the picture of its policy


def test_an_agent_that_learns_shows_episodes_and_policy(learned: Page) -> None:
    labels = [attributes["aria-label"].partition(".")[0] for tag, attributes in learned.tags if tag == "svg"]
    assert labels == ["Cost against accuracy", "Best so far", "Episodes", "The policy"]
    assert re.search(r"48 episodes, \d+ distinct evaluations; ", learned.sections["search"])
    assert "2 bits" in learned.sections["search"]


@pytest.mark.parametrize("name", ["algo", "env"])
def test_hostile_settings_are_text(name: str, copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["settings"][name] = "<script>alert(1)</script>"
    config["settings"]["env_kwargs"] = {"<script>": ["</pre><script>", {"a'b": "$(rm -rf /)"}]}
    config["accuracy_depends_on"]["<script>"] = "<script>"
    config["versions"]["<script>"] = "<script>"
    (copied / "config.json").write_text(json.dumps(config))
    write_report(copied)
    assert "script" not in {tag for tag, _ in Page.read(copied / "report.html").tags}


def test_a_run_that_was_interrupted_says_so(copied: Path) -> None:
    (copied / "report.json").unlink()
    lines = (copied / "evaluations.csv").read_text().splitlines(keepends=True)
    (copied / "evaluations.csv").write_text("".join(lines[:11]) + lines[11][:9])  # cut short by a kill
    main([str(copied)])
    page = Page.read(copied / "report.html")
    assert "This run is not finished. What follows is the best of 10 distinct evaluations so far" in page.text
    assert "--resume RUN_DIR" in page.text
    assert "confirmed" not in page.text.lower()
    best = max(csv.DictReader(lines[:11]), key=lambda row: float(row["reward"]))
    assert [int(row[1]) for row in page.rows["layers"][1:]] == list(map(int, best["bitwidths"].split()))


@pytest.mark.parametrize("rows", [None, 0])
def test_a_run_that_has_evaluated_nothing(rows: int | None, copied: Path) -> None:
    (copied / "report.json").unlink()
    header = (copied / "evaluations.csv").read_text().splitlines()[0]
    (copied / "evaluations.csv").unlink() if rows is None else (copied / "evaluations.csv").write_text(header + "\n")
    main([str(copied)])
    page = Page.read(copied / "report.html")
    assert "Nothing has been evaluated yet." in page.text
    assert set(page.sections) >= {"asked", "repeat"}
    assert "answer" not in page.sections


def test_final_retraining_is_reported(copied: Path) -> None:
    found = {
        "layers": ["a", "b", "c", "d", "e"],  # of which the search has decided two as one
        "bitwidths": [2, 1, 3, 2, 8],  # and 8 is none of its choices
        "measured_on": "test",
        "seeds": [0, 1],
        "accuracies": [0.97, 0.972],
        "control": "retrained",
        "control_accuracies": [0.97, 0.98],
        "control_accuracy": 0.975,
        "loss": 0.4,
        "loss_interval": [-0.87, 1.67],
        "file_bytes": 10_000,
        "full_precision_bytes": 152_000,
    }
    result = copied / "final" / "2-1-3-2-8" / "result.json"
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps(found))
    write_report(copied)
    (row,) = Page.read(copied / "report.html").rows["finals"][1:]
    assert row[0] == "2 1 3 2 8"
    assert row[2] == "97.00 %, 98.00 % retrained"
    assert row[3:] == ["97.00 %, 97.20 %", "0.40", "-0.87 to 1.67", "10,000", "15.2×"]  # noqa: RUF001
    del found["control_accuracies"]  # of an earlier version
    result.write_text(json.dumps(found))
    write_report(copied)
    (row,) = Page.read(copied / "report.html").rows["finals"][1:]
    assert row[2] == "97.50 % retrained, one for all seeds"
    wrongs: list[dict[str, list[float]]] = [{"accuracies": [0.97]}, {"control_accuracies": [0.9]}]
    for wrong in (*wrongs, {"bitwidths": [2, 1, 3, 2]}, {"bitwidths": [2, 1, 3, 2, 33]}):
        result.write_text(json.dumps(found | wrong))
        with pytest.raises(ReLeQError, match="result.json cannot be reported"):
            write_report(copied)


_SETTINGS = [
    ("random", [], []),
    ("ppo", ["cost=energy", "bitwidths=[2, 4, 8]"], ["learning_rate=1e-3", "n_envs=4"]),
    ("ppo", ["max_cost=0.5"], ["policy_kwargs={net_arch: [8, 8], lr: 1.0e-05}", "ent_coef=0.0", "n_steps=16"]),
    ("gp", ["data_root='a b'", "cache=null", "evaluate='yes'", "x='1e-3'"], []),
    ("random", ["problem=tests.agents.problems:four_layers", 'x="it\'s $HOME; `ls`"'], []),
]


@pytest.mark.parametrize(("algo", "env_kwargs", "hyperparams"), _SETTINGS)
def test_the_command_makes_the_same_settings(
    algo: str, env_kwargs: list[str], hyperparams: list[str], copied: Path
) -> None:
    asked = Options(algo=algo, seed=3, budget=50, minutes=1.5, env_kwargs=env_kwargs, hyperparams=hyperparams)
    _check_command(copied, vars(new_settings(asked)))


@settings(max_examples=40, deadline=None)  # the command line is parsed each time
@given(
    st.dictionaries(
        st.from_regex(r"x_[a-z]{1,8}", fullmatch=True),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(10**9), 10**9)
            | st.floats(-1e9, 1e9)
            | st.text("ab '\"$\\:=,[]{}#-eE.01\n", max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text("abc:'", max_size=4), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_any_setting_comes_back_from_the_command(values: dict[str, Any]) -> None:
    asked = vars(new_settings(Options(algo="random"))) | {"env_kwargs": values}
    run = Run("run", asked, ("layer",), ((1,),), ((1.0,),), 1.0, 0.9, None, None, ())
    assert _parsed(commands(run)[0])["env_kwargs"] == values


def _check_command(folder: Path, settings: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"settings": settings}))
    (command,) = commands(read_run(folder))
    assert _parsed(command) == settings


def _parsed(command: str) -> dict[str, Any]:
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["python", "-m", "agents.train"]
    return vars(new_settings(tyro.cli(Options, args=words[3:])))


def test_a_run_that_went_on_has_two_commands(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    config["settings"]["timesteps"] = 320
    (copied / "config.json").write_text(json.dumps(config))
    first, second = commands(read_run(copied))
    assert "--timesteps 160" in first
    assert second == "python -m agents.train --resume RUN_DIR --timesteps 320"


def test_a_run_of_earlier_days_is_reported_without_sizes(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    del config["about"]
    (copied / "config.json").write_text(json.dumps(config))
    write_report(copied)
    page = Page.read(copied / "report.html")
    assert page.rows["layers"][0] == ["layer", "bits"]
    assert "byte" not in page.text


def test_reading_needs_neither_torch_nor_an_agent(finished: Path, python: Callable[..., str]) -> None:
    code = """
import sys
for name in "torch", "torchvision", "stable_baselines3", "sb3_contrib", "yaml", "tensorboard":
    sys.modules[name] = None  # importing it raises
import agents.report.__main__
from releq_env.report import write_report
print(write_report(sys.argv[1], sys.argv[2]))
"""
    target = finished / "again.html"
    assert python(code, str(finished), str(target)).strip() == str(target)
    assert target.read_text() == (finished / "report.html").read_text()


def test_without_matplotlib_there_is_a_report_without_pictures(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    write_report(copied)
    page = Page.read(copied / "report.html")
    assert "Pictures need matplotlib" in page.text
    assert "svg" not in {tag for tag, _ in page.tags}


def test_other_pages_have_the_same_style(tmp_path: Path) -> None:
    blocks = "{% block title %}{{ name }}{% endblock %}{% block body %}<h1>{{ name }}</h1>{% endblock %}"
    (tmp_path / "mine.html.j2").write_text('{% extends "base.html.j2" %}' + blocks)
    text = render("mine.html.j2", tmp_path, name="<b>mine</b>")
    assert "<h1>&lt;b&gt;mine&lt;/b&gt;</h1>" in text
    assert "prefers-color-scheme" in text


def test_errors_are_one_line(tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    for arguments, said in [
        ([str(tmp_path)], "holds no run: it has no config.json; give the --log-dir of a run"),
        ([str(blocked)], "holds no run"),
        ([str(finished), "--out", str(tmp_path / "none" / "x.html")], "cannot be written"),
    ]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert str(ended.value).startswith("error: ")
        assert said in str(ended.value)
        assert "\n" not in str(ended.value)
