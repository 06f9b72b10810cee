import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.compare import lottery, pictures, pool, schedule, sections, suite
from benchmarks.compare.__main__ import main
from benchmarks.compare.report import main as report
from benchmarks.compare.results import COLUMNS, Results
from benchmarks.compare.scores import Scores
from releq_env.errors import ReLeQError
from releq_env.tables import AccuracyTable
from tests.benchmarks.compared import small_table
from tests.failing import one_line
from tests.house.floors import ROOT


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return [small_table(folder, "toy"), small_table(folder, "other", seeds=1)]


def command(tables, output, *more, algos=("random", "local"), seeds=2, budget=40):
    return [
        *("--envs", *map(str, tables), "--algos", *algos, "--seeds", str(seeds), "--budget", str(budget)),
        *("--output", str(output), "--workers", "1", *more),
    ]


def lines(path):
    with path.open() as file:
        return list(csv.DictReader(file))


error = partial(one_line, main)


@pytest.fixture(scope="module")
def compared(tables, tmp_path_factory):
    output = tmp_path_factory.mktemp("results") / "comparison.csv"
    main(command(tables, output, algos=("random", "local", "evolution"), seeds=3))
    return output


def test_the_columns_are_those_of_every_comparison(compared):
    found = lines(compared)
    assert tuple(found[0]) == COLUMNS
    assert ",".join(COLUMNS) == (
        "env,algo,seed,reward,budget,distinct_evaluations,best_reward,regret,at_50,at_100,at_300,auc"
    )
    assert len(found) == len({(row["env"], row["algo"], row["seed"]) for row in found}) == 2 * 3 * 3


def test_a_row_by_brute_force(compared, tables):
    known = AccuracyTable.load(tables[0]).landscape(0)
    optimum, random = known.optimum().objective, known.objectives.mean()
    runs = {(row["env"], row["algo"], row["seed"]): row for row in lines(compared.with_suffix("") / "runs.csv")}
    for row in lines(compared):
        if row["env"] != "toy/default":
            continue
        best = float(row["best_reward"])
        bits = tuple(map(int, runs[row["env"], row["algo"], row["seed"]]["bitwidths"].split()))
        assert best == pytest.approx(known.answer(bits).objective)
        assert float(row["regret"]) == pytest.approx(optimum - best, abs=1e-6)
        assert float(row["at_50"]) == pytest.approx((best - random) / (optimum - random), abs=1e-5)
        assert row["at_50"] == row["at_100"] == row["at_300"]  # the last best counts to the end
        assert float(row["auc"]) <= float(row["at_50"])


def test_the_same_command_does_nothing_twice_and_goes_on(compared, tables, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(pool, "run", lambda job: done.append(job.key))
    before = (compared.with_suffix("") / "runs.csv").read_bytes()
    main(command(tables, compared, algos=("random", "local", "evolution"), seeds=3))
    assert not done
    assert (compared.with_suffix("") / "runs.csv").read_bytes() == before
    assert "18 of 18 runs" in capsys.readouterr().out


def test_what_was_interrupted_goes_on(tables, tmp_path, monkeypatch):
    output, begun, run = tmp_path / "x.csv", [], pool.run

    def interrupted(job):
        begun.append(job.key)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return run(job)

    monkeypatch.setattr(pool, "run", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(command(tables, output))
    assert ended.value.code == 130
    assert len(lines(output)) == 2
    with (tmp_path / "x/runs.csv").open("a") as file:
        file.write("toy/default,random,0,constr")  # as a kill leaves it
    main(command(tables, output))
    assert len(lines(output)) == 8
    assert len(begun) == 3 + 6  # the one that was under way anew
    assert (tmp_path / "x/runs.csv").read_text().count("\n") == 9


def test_results_do_not_depend_on_how_they_were_made(compared, tables, tmp_path):
    output = tmp_path / "y.csv"
    main([*command(tables[:1], output, algos=("local",), seeds=3)[:-1], "2"])  # processes
    expected = [row for row in lines(compared) if (row["env"], row["algo"]) == ("toy/default", "local")]
    assert lines(output) == expected


def test_a_run_belongs_to_one_process_at_a_time(compared):
    first, second = Results(compared), Results(compared)
    key = ("toy/default", "random", 99)
    lock = first.claim(key)
    assert lock is not None
    assert second.claim(key) is None
    row = next(iter(first.rows.values()))._replace(seed=99)
    first.append(row)
    first.release(lock)
    again = second.claim(key)
    second.refresh()
    assert key in second.rows
    second.release(again)
    path = first.folder / "runs.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if ",99,constrained" not in line))


def test_an_agent_that_fails_does_not_stop_the_others(tables, tmp_path, monkeypatch, capsys):
    run = pool.run

    def failing(job):
        if job.variant.algo == "local":
            raise ReLeQError("it cannot") if "toy" in job.entry.name else ZeroDivisionError("oh")
        return run(job)

    monkeypatch.setattr(pool, "run", failing)
    message = error(*command(tables, tmp_path / "x.csv"))
    assert "3 runs failed" in message  # what is refused is asked once, what breaks with each seed
    assert "it cannot" in capsys.readouterr().err
    assert {row["algo"] for row in lines(tmp_path / "x.csv")} == {"random"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--budget", "41"], "other settings .budget, timesteps."),
        (["--hyperparams", "random:n_envs=2"], "random with other settings .n_envs."),
        (["--algos", "nobody"], "no agent"),
        (["--envs", "nowhere.npz"], "neither a problem nor a table"),
        (["--envs", "cifar10/bounded", "--tables", "/nowhere"], "no table cifar10 here"),
        (["--output", "x.txt"], "not a .csv file"),
        (["--imports", "no.such.module"], "can be imported"),
        (["--first-seed", "-1"], "--first-seed"),
        (["--hyperparams", "random:colour=red"], "random with other settings .hyperparams."),
    ],
)
def test_mistakes_are_told_in_one_line(more, told, compared, tables, monkeypatch):
    monkeypatch.setattr("releq_env.tables.shipped.DATA", ROOT / "nowhere")
    assert re.search(told, error(*command(tables, compared), *more))


def test_another_table_of_that_name_is_refused(compared, tmp_path):
    assert "another table" in error(*command([small_table(tmp_path, "toy", seeds=3)], compared))


def test_files_that_are_lost_or_damaged(tables, tmp_path):
    output = tmp_path / "x.csv"
    main(command(tables[:1], output, algos=("random",), seeds=1))
    runs = tmp_path / "x/runs.csv"
    text = runs.read_text()
    runs.write_text(text.replace(",random,0", ",random,zero"))
    assert "cannot be read" in error(*command(tables, output))
    runs.write_text("a,b\n1,2\n")
    assert "other columns" in error(*command(tables, output))
    runs.unlink()
    assert "restore it" in error(*command(tables, output))


def test_missing_tables_are_named_and_the_others_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("releq_env.tables.shipped.DATA", tmp_path / "nowhere")
    small_table(tmp_path, "cifar10-wrpn")
    main(["--check", "--tables", str(tmp_path)])
    out, err = capsys.readouterr()
    assert err == "no table cifar10, fashion-mnist, mnist-wrpn here: 6 of 8 problems are left out\n"
    assert "| cifar10-wrpn/size" in out


def test_partial_tables_are_named_and_left_out(tables, tmp_path, capsys):
    whole = AccuracyTable.load(tables[0])
    some = AccuracyTable.from_records(
        whole.bitwidths[:200], whole.values(0)[:200], full_precision_accuracy=0.98, choices=(1, 2, 4, 8), name="part"
    )
    some.save(tmp_path / "part.npz")
    main(command([tables[0], tmp_path / "part.npz"], tmp_path / "x.csv", algos=("random",), seeds=1))
    assert "not measured completely: part (78.1 %); 1 problems are left out" in capsys.readouterr().err
    assert [row["env"] for row in lines(tmp_path / "x.csv")] == ["toy/default"]
    assert "none remains" in error(*command([tmp_path / "part.npz"], tmp_path / "y.csv"))


@pytest.mark.parametrize(
    "more",
    [
        ["--budget", "30"],
        ["--algos", "mine=random"],
        ["--hyperparams", "random:n_envs=1"],
        ["--imports", "tests.agents.problems"],
    ],
)
def test_the_comparisons_own_file_holds_nothing_else(more, tables, tmp_path):
    small_table(tmp_path, "cifar10-wrpn")
    on_suite = ["--envs", "cifar10-wrpn/size", "--tables", str(tmp_path), "--algos", "random"]
    assert "--output is missing" in error(*on_suite, *more)
    assert "--output is missing" in error("--envs", str(tables[0]), "--algos", "random")


def test_the_estimate_keeps_what_it_ran(tables, tmp_path, capsys):
    main(command(tables, tmp_path / "x.csv", "--estimate"))
    assert "hours left" in capsys.readouterr().out
    assert len(lines(tmp_path / "x.csv")) == 2


def test_agents_of_ones_own(tables, tmp_path, monkeypatch):
    (tmp_path / "my_agents.py").write_text(
        "from agents.algorithms.registry import ALGORITHMS\n"
        "ALGORITHMS['mine'] = 'releq_env.searchers.random_search:RandomSearch'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    main(command(tables[:1], tmp_path / "x.csv", "--imports", "my_agents", algos=("mine", "again=mine"), seeds=1))
    mine, again = sorted(lines(tmp_path / "x.csv"), key=lambda row: row["algo"], reverse=True)
    assert (mine.pop("algo"), again.pop("algo")) == ("mine", "again")
    assert mine == again


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([7, 3, 20], "7 / 20 (3 of 3)"),
        ([7, 3, 20, 10], "8.5 / 20 (4 of 4)"),
        ([7, 3, None, 10], "8.5 / - (3 of 4)"),
        ([7, None, None, 10], "- / - (2 of 4)"),
        ([4], "4 / 4 (1 of 1)"),
    ],
)
def test_the_median_of_an_even_number_is_between_the_middle_two(found, said):
    """A run that has not found the optimum counts as one that needs for ever."""
    scores = SimpleNamespace(
        algos=["gp"],
        envs=["toy"],
        until_optimum=lambda algo, env: found,
        rows=lambda algo, env: [SimpleNamespace(own_seconds=0.25)],
    )
    assert f"| gp | {said} | 0.2 |" in sections.until_optimum(scores)


def test_time_left_is_by_agent():
    found = [schedule.Estimate("quick", 1.0, 1.0, 5, 10), schedule.Estimate("slow", 9.0, 9.0, 1, 2)]
    assert schedule.seconds_left(found, 2) == pytest.approx((10 + 18) / 2)
    unknown = schedule.Estimate("unknown", float("nan"), float("nan"), 0, 4)
    assert schedule.seconds_left([*found, unknown], 1) == pytest.approx(28 + 4 * 5.0)


def test_the_report_is_made_of_the_files_alone(compared, tables, tmp_path):
    folder = compared.parent
    main([*command(tables, compared, "--rerun", algos=("random", "local")), "--seeds", "1"])
    more = command(tables, folder / "defaults.csv", algos=("random", "local"), seeds=1)
    main([*more, "--hyperparams", "local:n_envs=1"])
    main(command(tables, folder / "optimum.csv", algos=("random", "gp"), seeds=1))
    (folder / "lottery.csv").write_text("algo,trial,score\nrandom,0,0.5\nrandom,1,0.6\nlocal,0,0.9\n")
    begin = command(tables, folder / "apart.csv", algos=("random",), seeds=1)
    main([*begin[:2], *begin[3:]])  # of one problem, as a comparison leaves it that was just begun
    main([*begin[:1], *begin[2:], "--algos", "local"])
    report(["--results", str(folder)])
    page = (folder / "comparison/README.md").read_text()
    assert "since no agent has a run on every problem of it yet: apart.csv." in page
    assert "## Problems that stand apart" not in page
    assert "of the suite" not in page  # what is compared is of one's own
    for said in ("## All agents", "| random | bounds | 3 |", "toy/default", "## A rerun", "## Untuned defaults", "own"):
        assert said in page
    drawn = {path.stem for path in (folder / "comparison").glob("*.png")}
    assert "The best uniform assignment, the same bits in all layers, is worth " in page
    assert drawn == {"headline", "curves", "profiles", "improvement", "fronts", "overhead", "lottery"}
    assert all(f"({name}.png)" in page for name in drawn)
    csv_before = compared.read_bytes()
    report(["--results", str(folder)])
    assert (folder / "comparison/README.md").read_text() == page
    assert compared.read_bytes() == csv_before


def test_a_run_that_took_no_time_is_not_unknown(compared):
    results = Results(compared)
    key, row = next(iter(results.rows.items()))
    results.rows[key] = row._replace(own_seconds=0.0, unseen_passing="")
    scores = Scores(results, [row.env])
    assert not np.isnan(scores.raw(row.algo, "own_seconds")).any()
    assert np.isnan(scores.raw(row.algo, "unseen_passing")).any()


def test_the_report_says_what_is_not_measured_of_the_suite(compared, tables, monkeypatch):
    there = suite.find([str(table) for table in tables])
    monkeypatch.setattr("benchmarks.compare.report.MAIN", (*there, suite.MAIN[0]))
    report(["--results", str(compared.parent)])
    page = (compared.parent / "comparison/README.md").read_text()
    assert f"of the suite's {1 + len(there)} problems: {suite.MAIN[0].name}." in page


def test_many_agents_have_two_panels_and_few_have_one():
    algos = [*pictures.FAMILIES["model-free RL"], "gp", "random", "mine"]
    shades = pictures.colours(algos)
    learning = [shades[algo] for algo in algos if pictures.learns(algo)]
    assert len(set(learning)) == len(learning) == 11
    assert len({shades[algo] for algo in ("gp", "random", "mine")}) == 3


def test_arguments_from_a_file(tables, tmp_path):
    (tmp_path / "settings.txt").write_text("random:n_envs=1\nlocal:n_envs=1\n")
    main([*command(tables[:1], tmp_path / "x.csv", seeds=1), "--hyperparams", f"@{tmp_path / 'settings.txt'}"])
    agents = json.loads((tmp_path / "x/settings.json").read_text())["agents"]
    assert [agents[name]["n_envs"] for name in ("random", "local")] == [1, 1]


def test_the_lottery_is_what_tuning_has_left(tmp_path):
    (tmp_path / "ppo.jsonl").write_text(
        '{"tuning": 1}\n{"number": 0, "values": {}, "score": 0.5}\n{"number": 1, "values": {}, "score": 0.7}\n{"num'
    )
    lottery.main([str(tmp_path), "--output", str(tmp_path / "lottery.csv")])
    found = [(row["algo"], row["trial"], row["score"]) for row in lines(tmp_path / "lottery.csv")]
    assert found == [("ppo", "0", "0.5"), ("ppo", "1", "0.7")]
    with pytest.raises(SystemExit, match="error: .*holds no trials"):
        lottery.main([str(tmp_path / "nowhere")])


@pytest.mark.slow
def test_ray_gives_the_same(compared, tables, tmp_path):
    pytest.importorskip("ray")
    main([*command(tables[:1], tmp_path / "x.csv", "--parallel", "ray", algos=("local",), seeds=2)])
    expected = [row for row in lines(compared) if row["env"] == "toy/default" and row["algo"] == "local"]
    assert lines(tmp_path / "x.csv") == [row for row in expected if int(row["seed"]) < 2]


def test_a_report_of_nothing(tables, tmp_path):
    with pytest.raises(SystemExit, match="error: .*comparison.csv is not there"):
        report(["--results", str(tmp_path)])
    begin = command(tables, tmp_path / "comparison.csv", algos=("random",), seeds=1)
    main([*begin[:2], *begin[3:]])
    main([*begin[:1], *begin[2:], "--algos", "local"])
    with pytest.raises(SystemExit, match="error: in .*comparison.csv no agent has a run on every problem yet"):
        report(["--results", str(tmp_path)])


@pytest.mark.slow
def test_two_at_once_killed_and_begun_again_pay_nothing_twice(tables, tmp_path):
    output = tmp_path / "x.csv"
    algos = ("random", "evolution", "local", "gp")
    arguments = [sys.executable, "-m", "benchmarks.compare", *command(tables, output, algos=algos, seeds=6, budget=60)]
    arguments[-1] = "2"

    def begin():
        return subprocess.Popen(
            arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    runs = tmp_path / "x/runs.csv"
    both = [begin(), begin()]
    deadline = time.monotonic() + 120
    while not runs.exists() or runs.read_text().count("\n") < 5:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for process in both:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = runs.read_text().rpartition("\n")[0].splitlines()
    both = [begin(), begin()]
    assert [process.wait(300) for process in both] == [0, 0]
    found = runs.read_text().splitlines()
    assert found[: len(kept)] == kept
    assert len(found) == 1 + 2 * 4 * 6
    assert len({tuple(line.split(",")[:3]) for line in found}) == len(found)
    assert json.loads((tmp_path / "x/settings.json").read_text())["agents"]["gp"]["algo"] == "gp"
