"""Row a: the published way in a fresh process an evaluation, from starting Python to the accuracy."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks.common.machine import ROOT
from benchmarks.speed.measuring import Measure, Options, Reading, values
from benchmarks.speed.one_process import WEIGHTS, data_root
from benchmarks.speed.table import Line, ratio
from benchmarks.speed.workers import amortised

LETTER = "a"


@contextlib.contextmanager
def measuring(options: Options) -> Iterator[Measure]:
    """Seconds and accuracy; the first evaluation does not count."""
    root = data_root(options)
    command = [sys.executable, "-m", "benchmarks.speed.published", "--weights", WEIGHTS]
    command += [] if root is None else ["--root", root]

    def run(images: int) -> list[Reading]:
        begun = time.perf_counter()
        done = subprocess.run(
            [*command, "--images", str(images)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        seconds = time.perf_counter() - begun
        return [Reading("a", "theirs", "s", seconds), Reading("a", "theirs", "accuracy", float(done.stdout))]

    run(min(options.images, 128))  # the files are then in the page cache
    yield lambda _: run(options.images)


def lines(readings: Sequence[Reading]) -> list[Line]:
    """Compare with ours."""
    theirs = values(readings, "a", "theirs")
    what = "published way, a fresh process / ours"
    return [ratio("a", what, theirs, amortised(readings), ">= 15")] if theirs else []
