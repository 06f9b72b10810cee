"""Row f: many assignments at once, two one-thread workers against one process with one thread.

Its LeNet with two workers is what rows a, b and c are compared with.
"""

import contextlib
import functools
import random
import time
from collections.abc import Iterator, Sequence

from benchmarks.measuring import Measure, Options, child
from benchmarks.stand_ins import real_or_random
from releq_env.evaluation import CachedEvaluator, RetrainingEvaluator

WORKERS = 2
_ASSIGNMENTS = {"lenet": 8, "simplenet": 8, "svhn8": 4}
_IMAGES = {"lenet": 10_000, "simplenet": 10_000, "svhn8": 1280}
_VALIDATION_IMAGES = {"lenet": 5000, "simplenet": 5000, "svhn8": 1000}


@contextlib.contextmanager
def workers(options: Options) -> Iterator[Measure]:
    """Row f: seconds an evaluation, amortised; new assignments in every round, the same for both sides.

    What the first call takes more than a later one (starting the workers, loading data) is in its notes.
    """
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(child())
        two = {}
        for network in options.networks:
            two[network] = CachedEvaluator(_retraining(network, options.images, options.random_data), cache=None)
            two[network].workers = WORKERS
            stack.callback(two[network].close)
        draw = {network: distinct(network, len(two[network].retraining.pretrained.layers)) for network in two}

        def measure(_: int) -> dict[str, float]:
            found = {}
            for network, evaluator in two.items():
                assignments = [next(draw[network]) for _ in range(_ASSIGNMENTS[network])]
                found[f"f/{network}/two"] = seconds_each(evaluator, assignments)
                arguments = (network, options.images, options.random_data, assignments)
                found[f"f/{network}/one"] = one.submit(one_thread, *arguments).result()
            return found

        for network, evaluator in two.items():
            assignments = [next(draw[network]) for _ in range(WORKERS)]
            first = WORKERS * seconds_each(evaluator, assignments)
            again = WORKERS * seconds_each(evaluator, [next(draw[network]) for _ in range(WORKERS)])
            options.notes[f"f/{network}"] = f"starting {WORKERS} workers and loading the data: {first - again:.1f} s"
            one.submit(one_thread, network, options.images, options.random_data, assignments[:1]).result()
        yield measure


def seconds_each(evaluator: CachedEvaluator, assignments: Sequence[tuple[int, ...]]) -> float:
    """Return the seconds an assignment that evaluating them all takes."""
    start = time.perf_counter()
    evaluator.evaluate_many(assignments)
    return (time.perf_counter() - start) / len(assignments)


def one_thread(network: str, images: int, random_data: bool, assignments: Sequence[tuple[int, ...]]) -> float:
    """Return the same of this process alone; nothing is remembered from one call to the next."""
    return seconds_each(CachedEvaluator(_retraining(network, images, random_data), cache=None), assignments)


@functools.cache
def _retraining(network: str, images: int, random_data: bool) -> RetrainingEvaluator:
    budget = min(images, _IMAGES[network])
    validation = min(_VALIDATION_IMAGES[network], budget)
    task, pretrained = real_or_random(network, random_data, training=max(budget, 256), validation=validation)
    return RetrainingEvaluator(task, pretrained, retrain_images=budget)


def distinct(network: str, layers: int) -> Iterator[tuple[int, ...]]:
    """Yield assignments of 2 to 8 bits that have not been before."""
    generator = random.Random(network)
    seen = set()
    while True:
        assignment = tuple(generator.randint(2, 8) for _ in range(layers))
        if assignment not in seen:
            seen.add(assignment)
            yield assignment
