"""A run that is killed and resumed ends like one that never was."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Writes down every evaluation that is finished (kept in the cache), and every one that is begun.
SCRIPT = """
import sys
from pathlib import Path
from releq_env.evaluation import EvaluationCache, RetrainingEvaluator
from agents.train import main

log = Path(sys.argv.pop(1))

def note(kind, seed, bitwidths):
    with log.open("a") as file:
        file.write(f"{kind} {seed} {' '.join(map(str, bitwidths))}\\n")

measure, put = RetrainingEvaluator.measure, EvaluationCache.put

def noted_measure(self, bitwidths, retrain_seed=None):
    note("begun", self.retrain_seed, bitwidths)
    return measure(self, bitwidths, retrain_seed)

def noted_put(self, key, bitwidths, accuracy, seconds):
    put(self, key, bitwidths, accuracy, seconds)
    note("finished", key[:8], bitwidths)

RetrainingEvaluator.measure, EvaluationCache.put = noted_measure, noted_put
main(sys.argv[1:])
"""


def start(folder: Path, *args: str) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"RELEQ_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(folder / "log.txt"), *args]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def workers_of(pid: int) -> list[int]:
    """Return the processes that a process has started, by the kernel's account."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in children.read_text().split()] if children.exists() else []


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "evaluations.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def arguments(run: Path, algo: str) -> list[str]:
    # One environment: the script's notes do not reach worker processes.
    settings = ["--algo", algo, "--timesteps", "128", "--seed", "3", "--n-envs", "1", "--log-dir", str(run)]
    return [*settings, "--env-kwargs", "retrain_images=256", "bitwidths=[1, 2]"]


@pytest.mark.parametrize(
    "algo",
    ["ppo", pytest.param("recurrent_ppo", marks=pytest.mark.slow), pytest.param("random", marks=pytest.mark.slow)],
)
def test_killed_three_times_ends_like_an_uninterrupted_run(algo: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    finish(start(whole, *arguments(whole / "run", algo)))

    moments = random.Random(algo)
    process = start(killed, *arguments(killed / "run", algo))
    for _ in range(3):
        table = killed / "run" / "evaluations.csv"
        before = len(table.read_bytes()) if table.exists() else 0
        while process.poll() is None and (not table.exists() or len(table.read_bytes()) == before):
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        process = start(killed, "--resume", str(killed / "run"))
    finish(process)

    assert sorted(map(str, rows(killed / "run"))) == sorted(map(str, rows(whole / "run")))
    best = json.loads((killed / "run" / "best.json").read_text())
    assert best == json.loads((whole / "run" / "best.json").read_text())
    monitor = [(run / "run" / "0.monitor.csv").read_text().splitlines()[1:] for run in (whole, killed)]
    assert len(monitor[0]) == len(monitor[1])

    log = [line.split(" ", 2) for line in (killed / "log.txt").read_text().splitlines()]
    finished = Counter((seed, bits) for kind, seed, bits in log if kind == "finished")
    begun = [bits for kind, _, bits in log if kind == "begun"]
    assert max(finished.values()) == 1  # none paid twice
    assert len(begun) <= len(finished) + 3  # a kill loses at most the evaluation under way
    recorded = Counter(row["bitwidths"] for row in rows(killed / "run"))
    assert max(recorded.values()) == 1
    assert sum(row["retrained"] == "1" for row in rows(killed / "run")) == len(recorded)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_killed_with_worker_processes_loses_nothing_and_leaves_none_behind(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ["--timesteps", "384", "--seed", "3", "--n-envs", "8", "--workers", "2", "--log-dir", str(run)]
    process = start(tmp_path, *settings, "--env-kwargs", "retrain_images=1600")
    table = run / "evaluations.csv"
    for _ in range(3):
        before = len(table.read_bytes()) if table.exists() else 0
        while process.poll() is None and (not table.exists() or len(table.read_bytes()) < before + 300):
            time.sleep(0.01)
        workers = workers_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        deadline = time.monotonic() + 20.0
        while any(map(alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(alive, workers))
        process = start(tmp_path, "--resume", str(run), "--workers", "2")
    finish(process)
    recorded = Counter(row["bitwidths"] for row in rows(run))
    assert max(recorded.values()) == 1
    # Keys begin alike for one retraining seed and assignment: each was kept in the cache once.
    finished = Counter((tmp_path / "log.txt").read_text().splitlines())
    assert max(count for line, count in finished.items() if line.startswith("finished")) == 1
    assert {row["retrained"] for row in rows(run)} == {"1"}
