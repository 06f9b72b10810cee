"""How much the start of `lsq`'s steps matters: uniform assignments, without retraining and after a short one.

    python -m benchmarks.starts                          # CIFAR-10, seeds 0 to 4: minutes
    python -m benchmarks.starts --task fashion-mnist --seeds 3

Validation images only. What is in the cache of evaluations is not measured again.
"""

import argparse
import csv
import dataclasses
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from benchmarks.common.recording import RESULTS, positive
from releq_env.command import ends_in_one_line
from releq_env.files import replace_file
from releq_env.finalizing.result import interval
from releq_env.problem import Problem
from releq_env.quantization import QUANTIZERS, WeightQuantizer
from releq_env.quantization.least_error import living
from releq_env.quantization.lsq import LSQ, BinaryLSQ
from releq_env.report.markdown import table
from releq_env.tasks import TASKS

PUBLISHED = "published"
STARTS = ("lsq", PUBLISHED)
BITS = (2, 3, 4, 5, 6, 8)


class PublishedLSQ(LSQ):
    """`LSQ` with the start of Esser et al. 2020, section 2.1."""

    @staticmethod
    def starting_steps(rows: Tensor, n: Tensor | int) -> Tensor:
        """Return `2 mean|w| / sqrt(n)` a channel, shape `(n_channels,)`."""
        return 2.0 * living(rows.abs().mean(dim=-1)) / n**0.5


def published(weight: Tensor, bits: int) -> WeightQuantizer:
    """Return the quantizer of a weight, shape `(n, ...)`, and a bitwidth, 1 to 8."""
    return PublishedLSQ(weight, bits) if bits > 1 else BinaryLSQ(weight, bits)


class Row(NamedTuple):
    """One accuracy; `images` are those of the retraining, `seed` is its own."""

    task: str
    quantizer: str
    bits: int
    images: int
    seed: int
    accuracy: float


def measured(task: str, seeds: int) -> Iterator[Row]:
    """Yield every quantizer's uniform assignments, quantized only and retrained with each seed."""
    QUANTIZERS[PUBLISHED] = dataclasses.replace(QUANTIZERS["lsq"], build="benchmarks.starts:published", stacked=None)
    try:
        for quantizer in STARTS:
            for images, seed in [(0, 0), *((TASKS[task].retraining.images, seed) for seed in range(seeds))]:
                problem = Problem.from_task(task, quantizer=quantizer, retrain_images=images, retrain_seed=seed)
                assignments = [(bits,) * problem.num_layers for bits in BITS]
                for bits, found in zip(BITS, problem.evaluator.evaluate_many(assignments), strict=True):
                    yield Row(task, quantizer, bits, images, seed, found.accuracy)
                problem.evaluator.close()
    finally:
        del QUANTIZERS[PUBLISHED]


def report(rows: Iterable[Row]) -> str:
    """Return means and their 95 % intervals over seeds, in percent, as a table."""
    rows, lines = list(rows), []
    for images in sorted({row.images for row in rows}):
        for quantizer in STARTS:
            cells = []
            for bits in BITS:
                each = [100.0 * row.accuracy for row in rows if row[1:4] == (quantizer, bits, images)]
                found = interval(each)
                cells.append(f"{np.mean(each):.2f}" + ("" if found is None else f" ± {(found[1] - found[0]) / 2:.2f}"))
            lines.append((f"{images:,}", f"`{quantizer}`", *cells))
    return table(("images", "quantizer", *(f"{bits} bits" for bits in BITS)), lines, aligned=False)


def main(argv: list[str] | None = None) -> None:
    """Read the command line, measure, write the rows, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.starts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=list(TASKS), default="cifar10", help="(default: %(default)s)")
    parser.add_argument("--seeds", type=positive, default=5, help="of the retraining (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS / "starts", metavar="DIR", help="folder of the rows")
    args = parser.parse_args(argv)
    rows = list(measured(args.task, args.seeds))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows)
    args.output.mkdir(parents=True, exist_ok=True)
    replace_file(args.output / f"{args.task}.csv", text.getvalue())
    print(report(rows))


if __name__ == "__main__":
    with ends_in_one_line("stopped; the same command goes on from here"):
        main()
