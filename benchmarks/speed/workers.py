"""Row f: many assignments at once, two one-thread workers against one process with one thread.

Its LeNet with two workers is what rows a, b and c are compared with.
"""

import contextlib
import functools
import itertools
import time
from collections.abc import Iterator, Sequence

from benchmarks.common.assignments import distinct
from benchmarks.common.stand_ins import real_or_random
from benchmarks.speed.measuring import Measure, Note, Options, Reading, child, networks, values
from benchmarks.speed.table import Line, ratio
from releq_env.evaluation import Evaluator
from releq_env.evaluation.live import LiveSource
from releq_env.retraining.short import ShortRetraining

LETTER = "f"
WORKERS = 2
_ASSIGNMENTS = {"lenet": 8, "simplenet": 8, "svhn8": 4}
_IMAGES = {"lenet": 10_000, "simplenet": 10_000, "svhn8": 1280}
_VALIDATION_IMAGES = {"lenet": 5000, "simplenet": 5000, "svhn8": 1000}


@contextlib.contextmanager
def measuring(options: Options) -> Iterator[Measure]:
    """Seconds an evaluation, amortised; new assignments in every round, the same for both sides.

    What the first call takes more than a later one (starting the workers, loading data) is in its notes.
    """
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(child())
        two, draw = {}, {}
        for network in options.networks:
            retraining = _retraining(network, options.images, options.random_data)
            two[network] = Evaluator(LiveSource(retraining, workers=WORKERS))
            stack.callback(two[network].close)
            draw[network] = distinct(len(retraining.pretrained.layers), least=2, seed=network)

        def new(network: str, count: int) -> list[tuple[int, ...]]:
            return list(itertools.islice(draw[network], count))

        def run(network: str, assignments: list[tuple[int, ...]]) -> list[Reading]:
            seconds = seconds_each(two[network], assignments)
            arguments = (network, options.images, options.random_data, assignments)
            alone = one.submit(one_thread, *arguments).result()
            return [Reading("f", "two", "s", seconds, network), Reading("f", "one", "s", alone, network)]

        for network in two:
            first, again = (WORKERS * run(network, new(network, WORKERS))[0].value for _ in range(2))
            text = f"starting {WORKERS} workers and loading the data: {first - again:.1f} s"
            options.notes.append(Note("f", network, text))
        yield lambda _: [reading for network in two for reading in run(network, new(network, _ASSIGNMENTS[network]))]


def lines(readings: Sequence[Reading]) -> list[Line]:
    """Compare the two."""
    return [
        ratio("f", f"{network}: 2 one-thread workers, throughput of one", one, two, ">= 1.8")
        for network in networks(readings, "f")
        for one, two in [[values(readings, "f", side, network) for side in ("one", "two")]]
    ]


def amortised(readings: Sequence[Reading]) -> list[float]:
    """Return what others are compared with: seconds an evaluation of LeNet on MNIST, one value a round."""
    return values(readings, "f", "two", "lenet")


def seconds_each(evaluator: Evaluator, assignments: Sequence[tuple[int, ...]]) -> float:
    """Return the seconds an assignment that evaluating them all takes."""
    start = time.perf_counter()
    evaluator.evaluate_many(assignments)
    return (time.perf_counter() - start) / len(assignments)


def one_thread(network: str, images: int, random_data: bool, assignments: Sequence[tuple[int, ...]]) -> float:
    """Return the same of this process alone; nothing is remembered from one call to the next."""
    retraining = _retraining(network, images, random_data)
    return seconds_each(Evaluator(LiveSource(retraining, workers=1)), assignments)


@functools.cache
def _retraining(network: str, images: int, random_data: bool) -> ShortRetraining:
    budget = min(images, _IMAGES[network])
    validation = min(_VALIDATION_IMAGES[network], budget)
    task, pretrained = real_or_random(network, random_data, training=max(budget, 256), validation=validation)
    return ShortRetraining(task, pretrained, retrain_images=budget)
