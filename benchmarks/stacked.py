"""Many retrainings as one stacked model against one at a time, on one device.

    python -m benchmarks.stacked

LeNet on random images of MNIST's shape: a timing does not depend on what is to be seen. Both sides are
measured once a round, in turn, each on assignments that it has not had before; the table has medians. The
raw numbers go to a JSON file.
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import machine
from benchmarks.common.assignments import distinct
from benchmarks.common.recording import RESULTS, command, positive, write
from benchmarks.common.stand_ins import NETWORKS, random_task
from releq_env.report.markdown import table
from releq_env.retraining.short import ShortRetraining
from releq_env.workers.stacked import StackedPool
from releq_env.workers.waiting import Waiting

MEANT_FOR_GPUS = "stacking is meant for GPUs; there is none here, so this measures it on the CPU"


@dataclass(frozen=True)
class Settings:
    """What a run measures.

    Attributes:
        network: Out of `NETWORKS`.
        images: Of the training part.
        epochs: Passes over them, an evaluation.
        validation_images: How many each evaluation is measured on.
        most: The largest K; `None` for what fits into memory.
        stacked: How many assignments are evaluated stacked, a round; `None` for one full stack.
        single: How many one at a time, a round.
        rounds: Repetitions.
        device: Where.
        precision: See `ShortRetraining`.
    """

    network: str = "lenet"
    images: int = 55_000
    epochs: int = 5
    validation_images: int = 5000
    most: int | None = None
    stacked: int | None = None
    single: int = 2
    rounds: int = 3
    device: str = "auto"
    precision: str = "auto"


def run(settings: Settings) -> dict[str, object]:
    """Measure.

    Returns:
        The stacks' K, and by side ("stacked", "single") the rounds' seconds, images a second over all
        candidates and evaluations a minute; JSON-able.
    """
    task, pretrained = random_task(settings.network, settings.images, settings.validation_images)
    how: dict[str, Any] = {"device": settings.device, "precision": settings.precision}
    retraining = ShortRetraining(task, pretrained, retrain_images=settings.epochs * settings.images, **how)
    pool = StackedPool(retraining, settings.most)
    draw = distinct(len(pretrained.layers), least=2, seed=settings.network)
    count = settings.stacked or pool.size

    def stacked(pool: StackedPool, assignments: Sequence[tuple[int, ...]]) -> None:
        list(pool.measure(Waiting(assignments), 0))

    def single(retraining: ShortRetraining, assignments: Sequence[tuple[int, ...]]) -> None:
        for bits in assignments:
            retraining.measure(bits)

    warm = ShortRetraining(task, pretrained, retrain_images=256, **how)
    single(warm, [next(draw)])
    stacked(StackedPool(warm, pool.size), list(itertools.islice(draw, min(count, pool.size))))
    sides: dict[str, tuple[int, Callable[[Sequence[tuple[int, ...]]], None]]] = {
        "stacked": (count, partial(stacked, pool)),
        "single": (settings.single, partial(single, retraining)),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(settings.rounds):
        for side, (assignments, measure) in sides.items():
            chosen = list(itertools.islice(draw, assignments))
            start = time.perf_counter()
            measure(chosen)  # ends with numbers in Python, and so when the device has ended
            seconds[side].append(time.perf_counter() - start)
    found: dict[str, object] = {
        "device": _device(retraining.device),
        "cuda": torch.version.cuda,
        "precision": str(retraining.dtype).removeprefix("torch."),
        "K": min(pool.size, count),
    }
    for side, (assignments, _) in sides.items():
        found[side] = {
            "evaluations": assignments,
            "seconds": seconds[side],
            "images_a_second": [retraining.retrain_images * assignments / value for value in seconds[side]],
            "evaluations_a_minute": [60 * assignments / value for value in seconds[side]],
        }
    return found


def markdown(found: Mapping[str, object]) -> str:
    """Return the medians as a table."""
    rows, rates = [], {}
    for side, label in (("stacked", f"stacked, K = {found['K']}"), ("single", "one at a time")):
        measured = found[side]
        assert isinstance(measured, Mapping)
        images, evaluations = (
            statistics.median(measured[name]) for name in ("images_a_second", "evaluations_a_minute")
        )
        rates[side] = images
        rows.append((label, f"{images:,.0f}", f"{evaluations:,.2f}"))
    rows.append(("ratio", f"{rates['stacked'] / rates['single']:.2f}", ""))
    return table(("", "images a second", "evaluations a minute"), rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the JSON."""
    default = Settings()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stacked", description=main.__doc__)
    parser.add_argument("--network", choices=NETWORKS, default=default.network)
    parser.add_argument("--images", type=positive, default=default.images, help="of the training part (%(default)s)")
    parser.add_argument("--epochs", type=positive, default=default.epochs, help="an evaluation (%(default)s)")
    parser.add_argument("--validation-images", type=positive, default=default.validation_images, help="(%(default)s)")
    parser.add_argument("--most", type=positive, metavar="K", help="the largest stack (default: what fits)")
    parser.add_argument("--stacked", type=positive, help="assignments stacked, a round (default: one full stack)")
    parser.add_argument("--single", type=positive, default=default.single, help="one at a time (%(default)s)")
    parser.add_argument("--rounds", type=positive, default=default.rounds, help="repetitions (%(default)s)")
    parser.add_argument("--device", default=default.device, help="(default: CUDA where there is one)")
    parser.add_argument("--precision", default=default.precision, help="fp32, bf16 or auto (%(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS / "stacked.json", help="the JSON file")
    arguments = vars(parser.parse_args(argv))
    output = arguments.pop("output")
    settings = Settings(**arguments)
    if settings.device == "auto" and not torch.cuda.is_available():
        print(MEANT_FOR_GPUS, file=sys.stderr)
    found = run(settings)
    asked = asdict(settings)
    how = command("benchmarks.stacked", asked)
    write(output, {"command": how, "machine": machine.describe(), "settings": asked, **found})
    print(f"{found['device']}, {settings.network}, {settings.epochs} epochs of {settings.images} images\n")
    print(markdown(found))
    print(f"written: {output}", file=sys.stderr)


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor()


if __name__ == "__main__":
    main()
