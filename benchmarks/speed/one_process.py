"""Row b: the published way in a process that is already running."""

import contextlib
from collections.abc import Iterator, Sequence

from benchmarks.speed import published
from benchmarks.speed.measuring import Measure, Options, Reading, child, values
from benchmarks.speed.table import Line, ratio
from benchmarks.speed.workers import amortised
from releq_env.paths import data_folder
from releq_env.tasks import TASKS
from releq_env.tasks.pretrained import SHIPPED

LETTER = "b"
WEIGHTS = str(SHIPPED / "mnist.safetensors")


@contextlib.contextmanager
def measuring(options: Options) -> Iterator[Measure]:
    """Seconds and accuracy; everything is imported, the data set is made, the first evaluation does not count."""
    root = data_root(options)
    with child() as process:

        def run(_: int = 0) -> list[Reading]:
            accuracy, seconds = process.submit(published.evaluate, root, WEIGHTS, options.images).result()
            return [Reading("b", "theirs", "s", seconds), Reading("b", "theirs", "accuracy", accuracy)]

        run()
        yield run


def lines(readings: Sequence[Reading]) -> list[Line]:
    """Compare with ours."""
    theirs = values(readings, "b", "theirs")
    return [ratio("b", "the same in one process / ours", theirs, amortised(readings), ">= 8")] if theirs else []


def data_root(options: Options) -> str | None:
    """Return the folder with torchvision's MNIST, `None` where images are random."""
    if options.random_data:
        return None
    TASKS["mnist"].dataset.load()  # downloads what is missing
    return str(data_folder().resolve())
