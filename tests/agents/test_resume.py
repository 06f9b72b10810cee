"""A run that is killed and resumed ends like one that never was."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.algorithms.registry import ALGORITHMS
from agents.enjoy import main as play
from agents.train import main
from tests.agents import problems
from tests.agents.commands import error
from tests.agents.problems import arguments

ROOT = Path(__file__).parents[2]

# A child of a background job inherits that SIGINT is ignored.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from agents.train import main
main(sys.argv[1:])
"""
# Writes down every evaluation that is paid for.
LOGGING = """
import sys
from pathlib import Path
from agents.run.folder import RunFolder
log, evaluated = Path(sys.argv.pop(1)), RunFolder.evaluated
def noted(self, evaluation, retrained):
    with log.open("a") as file:
        file.write(f"{retrained} {evaluation.bitwidths}\\n")
    evaluated(self, evaluation, retrained)
RunFolder.evaluated = noted
"""


@contextmanager
def running(folder: Path, *args: str, code: str = SCRIPT) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the training command in a process group of its own, which has ended at the end."""
    environment = os.environ | {
        "RELEQ_CACHE": str(folder / "cache"),
        "RELEQ_TEST_LOG": str(folder / "log.txt"),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finish(process: "subprocess.Popen[bytes]") -> str:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()
    return errors.decode()


def wait_for_more(path: Path, process: "subprocess.Popen[bytes]", characters: int = 1) -> None:
    before = path.stat().st_size if path.exists() else 0
    while process.poll() is None and (not path.exists() or path.stat().st_size < before + characters):
        time.sleep(0.005)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "evaluations.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "elapsed")} for row in csv.DictReader(file)]


def episodes(run: Path) -> list[dict[str, str]]:
    if not (run / "0.monitor.csv").exists():
        return []
    with (run / "0.monitor.csv").open() as file:
        file.readline()
        return [{k: v for k, v in row.items() if k != "t"} for row in csv.DictReader(file)]


def text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


@pytest.mark.processes
@pytest.mark.parametrize(
    ("algo", "kills"),
    [("ppo", 1), *(pytest.param(algo, 10, marks=pytest.mark.slow) for algo in ALGORITHMS)],
)
def test_killed_at_any_moment_ends_like_an_uninterrupted_run(
    algo: str, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["--algo", algo, "--timesteps", "320", "--seed", "3"]
    settings += [*problems.needed(algo, "logged"), *arguments("logged")]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    killed.mkdir()
    monkeypatch.setenv("RELEQ_TEST_LOG", str(tmp_path / "whole.txt"))
    main([*settings, "--log-dir", str(whole / "run")])

    moments = random.Random(algo)
    arguments_of_next = [*settings, "--log-dir", str(killed / "run")]
    for _ in range(kills):
        with running(killed, *arguments_of_next) as process:
            wait_for_more(killed / "log.txt", process)
            time.sleep(moments.uniform(0.0, 0.08))
            process.send_signal(signal.SIGKILL)
        if (killed / "run" / "config.json").exists():
            arguments_of_next = ["--resume", str(killed / "run")]
    with running(killed, *arguments_of_next) as process:
        errors = finish(process)

    assert "other assignments" not in errors
    assert rows(killed / "run") == rows(whole / "run")
    assert episodes(killed / "run") == episodes(whole / "run")
    for name in ("best.json", "assignment.json", "probabilities.csv"):
        assert text(killed / "run" / name) == text(whole / "run" / name)
    # Uniform ones are looked at once more at the end.
    uniform = {f"{(bits,) * 4}" for bits in (1, 2, 4, 8)}
    log = [line.split(" ", 1) for line in (killed / "log.txt").read_text().splitlines()]
    begun = [assignment for what, assignment in log if what == "begun" and assignment not in uniform]
    assert len(begun) <= len(set(begun)) + kills  # a kill loses at most the evaluation under way


@pytest.mark.processes
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(tmp_path, "--algo", "random", "--log-dir", str(run), *arguments("logged")) as process:
        wait_for_more(tmp_path / "log.txt", process, 400)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--resume {run}" in errors.decode()
    before = rows(run)
    with running(tmp_path, "--resume", str(run)) as process:
        finish(process)
    assert rows(run)[: len(before)] == before
    assert len(rows(run)) == 4**4


@pytest.mark.slow
def test_two_runs_begun_with_one_folder_do_not_mix(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    with (
        running(tmp_path, "--algo", "random", "--seed", "1", "--log-dir", run, *arguments("logged")) as first,
        running(tmp_path, "--algo", "local", "--seed", "2", "--log-dir", run, *arguments("logged")) as second,
    ):
        said = [process.communicate(timeout=120)[1].decode() for process in (first, second)]
        codes = [first.returncode, second.returncode]
    assert sorted(codes) == [0, 1]
    # The other one may have been so quick that it has finished.
    assert re.search("under way in another process|already holds a run", said[codes.index(1)])
    settings = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    assert (settings["algo"], settings["seed"]) == [("random", 1), ("local", 2)][codes.index(0)]


DIGITS = ["--seed", "2", "--n-envs", "2", "--workers", "1", "--env-kwargs", "retrain_images=64", "bitwidths=[1, 2, 4]"]


IN_SHORT = ("ppo", "dyna_ppo", "local")
"""One of each form; the others take longer than they are likely to find something."""


@pytest.mark.parametrize(
    "algo", [algo if algo in IN_SHORT else pytest.param(algo, marks=pytest.mark.slow) for algo in ALGORITHMS]
)
def test_what_is_remembered_leaves_the_agent_as_what_is_retrained(algo: str, tmp_path: Path) -> None:
    """Retraining in this process must not touch the generators that the agent draws from."""
    main(["--algo", algo, "--budget", "12", "--log-dir", str(tmp_path / "whole"), *DIGITS, "cache=null"])
    main(["--algo", algo, "--budget", "5", "--log-dir", str(tmp_path / "parts"), *DIGITS, "cache=null"])
    main(["--resume", str(tmp_path / "parts"), "--budget", "12", "--workers", "1"])
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_more_time_steps_keep_the_schedules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    main(["--algo", "ppo", "--timesteps", "320", "--log-dir", str(run), *arguments("like_digits")])
    before, watched = rows(run), text(run / "probabilities.csv")
    main(["--resume", str(run), "--timesteps", "640"])
    assert rows(run)[: len(before)] == before
    assert len(episodes(run)) == 160
    assert str(text(run / "probabilities.csv")).startswith(str(watched))
    assert "other assignments" not in capsys.readouterr().err
    config = json.loads((run / "config.json").read_text())["settings"]
    assert (config["timesteps"], config["schedule_timesteps"]) == (640, 320)
    main(["--resume", str(run)])  # now a finished run of that length
    assert len(episodes(run)) == 160


@pytest.mark.parametrize("algo", ["ppo", "local"])
def test_another_course_is_told_once_and_goes_on(algo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    main(["--algo", algo, "--budget", "10", "--log-dir", str(run), *arguments("like_digits")])
    table = run / "evaluations.csv"
    lines = table.read_text().splitlines(keepends=True)
    lines[5] = "8 8 8 7," + lines[5].split(",", 1)[1]  # as if the agent had asked for something else
    table.write_text("".join(lines))
    capsys.readouterr()
    main(["--resume", str(run), "--budget", "20"])
    assert capsys.readouterr().err.count("asks for other assignments than were recorded") == 1
    recorded = [row["bitwidths"] for row in rows(run)]
    assert len(recorded) == len(set(recorded)) == 20
    assert "8 8 8 7" in recorded


def test_minutes_end_a_run_and_those_before_a_resume_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv("RELEQ_TEST_LOG", str(tmp_path / "log.txt"))
    settings = ["--algo", "random", "--n-envs", "1", *arguments("logged")]
    main(["--minutes", "0.008", "--log-dir", str(run), *settings])
    first = len(rows(run))
    assert 3 < first < 4**4
    main(["--resume", str(run), "--minutes", "0.012"])
    with (run / "evaluations.csv").open() as file:
        elapsed = [float(row["elapsed"]) for row in csv.DictReader(file)]
    assert len(elapsed) > first
    assert elapsed == sorted(elapsed)
    assert elapsed[-1] < 0.012 * 60 + 0.2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_killed_with_worker_processes_loses_nothing_and_leaves_none_behind(tmp_path: Path) -> None:
    def children(pid: int) -> list[int]:
        path = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(child) for child in path.read_text().split()] if path.exists() else []

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    run, log = tmp_path / "run", tmp_path / "log.txt"
    settings = ["--timesteps", "384", "--seed", "3", "--n-envs", "8", "--workers", "2", "--log-dir", str(run)]
    settings += ["--env-kwargs", "retrain_images=1600"]
    for _ in range(3):
        with running(tmp_path, str(log), *settings, code=LOGGING + SCRIPT) as process:
            wait_for_more(log, process, 100)
            workers = children(process.pid)
            process.send_signal(signal.SIGKILL)
            process.wait()
            deadline = time.monotonic() + 20.0
            while any(map(alive, workers)) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not any(map(alive, workers))
        settings = ["--resume", str(run), "--workers", "2"]
    with running(tmp_path, str(log), *settings, code=LOGGING + SCRIPT) as process:
        finish(process)
    recorded = [row["bitwidths"] for row in rows(run)]
    assert len(recorded) == len(set(recorded))
    assert max(Counter(log.read_text().splitlines()).values()) == 1  # none paid twice
    assert {row["retrained"] for row in rows(run)} == {"1"}


def test_what_would_throw_away_what_was_learned_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--algo", "ppo", "--budget", "16", "--timesteps", "320", "--log-dir", str(run), *arguments("like_digits")])
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert "--budget 5 is less than the 16 distinct evaluations" in error("--resume", str(run), "--budget", "5")
    assert "--timesteps 64 is less than the 320" in error("--resume", str(run), "--timesteps", "64")
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_row_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--algo", "random", "--budget", "6", "--log-dir", str(run), *arguments("like_digits")])
    with (run / "evaluations.csv").open("a") as file:
        file.write((run / "evaluations.csv").read_text().splitlines(keepends=True)[3])
    main(["--resume", str(run), "--budget", "8"])
    assert json.loads((run / "report.json").read_text())["counts"]["distinct_evaluations"] == 8


def test_an_agent_of_ones_own_goes_on_from_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_agents.py").write_text(
        "from agents.algorithms.registry import ALGORITHMS\n"
        "ALGORITHMS['mine'] = 'releq_env.searchers.local:LocalSearch'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(ALGORITHMS, "maps", [dict(ALGORITHMS.maps[0]), *ALGORITHMS.maps[1:]])
    run, asked = tmp_path / "run", arguments("like_digits")
    assert "--imports nowhere" in error("--imports", "nowhere", "--log-dir", str(run))
    main(["--imports", "my_agents", "--algo", "mine", "--budget", "6", "--log-dir", str(run), *asked])
    del ALGORITHMS["mine"]
    sys.modules.pop("my_agents")
    main(["--resume", str(run), "--budget", "9"])
    assert len(rows(run)) == 9
    del ALGORITHMS["mine"]
    sys.modules.pop("my_agents")
    play([str(run)])
    assert "it has no policy to play" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("releq_env.searchers.local:Nope", "cannot be found"),
        (lambda problem, seed: object(), "has no method learn"),
    ],
)
def test_what_is_no_agent_gets_one_line(entry: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ALGORITHMS, "maps", [{**ALGORITHMS.maps[0], "odd": entry}, *ALGORITHMS.maps[1:]])
    assert said in error("--algo", "odd", "--log-dir", str(tmp_path / "run"), *arguments("like_digits"))


@pytest.mark.parametrize(("given", "ended"), [("--budget", "budget"), ("--timesteps", "timesteps")])
def test_what_has_ended_a_run_is_said(given: str, ended: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["--algo", "random", given, "8", "--log-dir", str(run), *arguments("like_digits")])
    assert json.loads((run / "report.json").read_text())["counts"]["ended_by"] == ended
    assert ("ended by --timesteps" in (run / "report.md").read_text()) == (ended == "timesteps")


def test_an_agent_that_has_not_begun_to_learn_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for budget, said in ((8, True), (80, False)):
        run = tmp_path / str(budget)
        main(["--algo", "dqn", "--budget", str(budget), "--log-dir", str(run), *arguments("like_digits")])
        assert ("the agent has not begun to learn" in capsys.readouterr().err) == said
