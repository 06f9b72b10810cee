"""Rows a and b: the published way, in a fresh process an evaluation and in one that is already running."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import published
from benchmarks.machine import ROOT
from benchmarks.measuring import Measure, Options, child
from releq_env.paths import data_folder
from releq_env.tasks import TASKS
from releq_env.tasks.pretrained import SHIPPED

_WEIGHTS = str(SHIPPED / "mnist.safetensors")


@contextlib.contextmanager
def fresh_process(options: Options) -> Iterator[Measure]:
    """Row a: from starting Python to the accuracy."""
    root = _root(options)
    command = [sys.executable, "-m", "benchmarks.published", "--weights", _WEIGHTS]
    command += [] if root is None else ["--root", root]

    def run(images: int) -> dict[str, float]:
        begun = time.perf_counter()
        done = subprocess.run(
            [*command, "--images", str(images)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        return {"a/seconds": time.perf_counter() - begun, "a/accuracy": float(done.stdout)}

    run(min(options.images, 128))  # the files are then in the page cache
    yield lambda _: run(options.images)


@contextlib.contextmanager
def one_process(options: Options) -> Iterator[Measure]:
    """Row b: everything is imported and the data set is made; the first evaluation does not count."""
    root = _root(options)
    with child() as process:

        def run() -> dict[str, float]:
            accuracy, seconds = process.submit(published.evaluate, root, _WEIGHTS, options.images).result()
            return {"b/seconds": seconds, "b/accuracy": accuracy}

        run()
        yield lambda _: run()


def _root(options: Options) -> str | None:
    if options.random_data:
        return None
    TASKS["mnist"].dataset.load()  # downloads what is missing
    return str(data_folder().resolve())
