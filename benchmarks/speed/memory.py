"""Row m: the memory of the CIFAR-10 environment after an evaluation, and of each of its workers.

    python -m benchmarks.speed.memory

Read from the kernel (Linux): resident set for the environment; for a worker what it shares with no other
process (private), and its resident set with what is shared divided among the sharers (Pss).
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import gymnasium as gym

from benchmarks.common.machine import ROOT
from benchmarks.common.stand_ins import real_or_random
from benchmarks.speed.measuring import Measure, Note, Options, Reading
from benchmarks.speed.table import Line, plain
from benchmarks.speed.workers import WORKERS
from releq_env import Problem
from releq_env.evaluation import Evaluator
from releq_env.evaluation.live import LiveSource
from releq_env.quantization import QUANTIZERS
from releq_env.retraining.short import ShortRetraining

LETTER = "m"
_WANTED = {"env": "<= 1.5", "worker private": "<= 0.6"}
_GB = 1e9


@contextlib.contextmanager
def measuring(options: Options) -> Iterator[Measure]:
    """Gigabytes, in a fresh process, in the first round only (it does not change)."""
    command = [sys.executable, "-m", "benchmarks.speed.memory", "--images", str(options.images)]
    command += ["--random-data"] if options.random_data else []

    def measure(number: int) -> list[Reading]:
        if number > 0:
            return []
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return [Reading("m", side, "GB", value) for side, value in json.loads(done.stdout).items()]

    if Path("/proc/self/smaps_rollup").exists():
        yield measure
    else:
        options.notes.append(Note("m", "memory", "needs Linux's /proc"))
        yield lambda _: []


def lines(readings: Sequence[Reading]) -> list[Line]:
    """Judge each number by itself."""
    return [
        plain("m", f"CIFAR-10, {each.side}, GB", [each.value], _WANTED.get(each.side, ""))
        for each in readings
        if each.row == "m"
    ]


def holding(images: int, random_data: bool) -> dict[str, float]:
    """Return the gigabytes of this process holding the environment, and of the workers it starts."""
    task, pretrained = real_or_random("simplenet", random_data, training=1000, validation=100)
    source = LiveSource(ShortRetraining(task, pretrained, retrain_images=images), workers=WORKERS)
    every = (QUANTIZERS["lsq"].bitwidths,) * len(source.layers)
    problem = Problem(task.name, source.layers, every, every, Evaluator(source), quantizer="lsq")
    env = gym.make("releq_env:ReLeQ-v0", problem=problem)
    env.reset(seed=0)
    problem.evaluator.evaluate((8, 8, 8, 8, 8))  # a single one is measured in this process
    own = rollup(os.getpid())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    problem.evaluator.evaluate_many([(bits,) * 5 for bits in range(2, 2 + 2 * WORKERS)])
    children = [rollup(pid) for pid in _workers()]
    sharing = rollup(os.getpid())
    env.close()
    return {
        "env": own["Rss"] / _GB,
        "env at its peak": peak / _GB,
        "env with workers": sharing["Rss"] / _GB,
        "worker private": max(c["Private_Clean"] + c["Private_Dirty"] for c in children) / _GB,
        "worker Pss": max(c["Pss"] for c in children) / _GB,
    }


def rollup(pid: int | str) -> dict[str, int]:
    """Return the sums of a process's memory map, in bytes; `"self"` is this one."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: 1024 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def _workers() -> list[int]:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the gigabytes as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.memory", description=main.__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="images to retrain on")
    parser.add_argument("--random-data", action="store_true", help="a few random images instead of CIFAR-10")
    args = parser.parse_args(argv)
    print(json.dumps(holding(args.images, args.random_data)))


if __name__ == "__main__":
    main()
