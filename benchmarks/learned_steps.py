"""What `lsq` owes to its levels and to the start of its steps: uniform assignments, quantized only and retrained.

    python -m benchmarks.learned_steps                          # CIFAR-10, seeds 0 to 4: minutes
    python -m benchmarks.learned_steps --task fashion-mnist --seeds 3

Variants, with the same retraining: `published`, levels and start of Esser et al. 2020, in torch's own arithmetic;
`with_zero` and `without_zero`, symmetric levels of one kind at all bitwidths, and steps that start near the least
error; and `lsq`, which is without zero up to 3 bits. Validation images only. What is in the cache of evaluations is not
measured again.
"""

import argparse
import contextlib
import csv
import dataclasses
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.recording import RESULTS, positive
from releq_env.command import ends_in_one_line
from releq_env.files import replace_file
from releq_env.finalizing.result import interval
from releq_env.problem import Problem
from releq_env.quantization import QUANTIZERS
from releq_env.quantization.base import SMALLEST_STEP
from releq_env.quantization.lsq import LSQ, Grid
from releq_env.report.markdown import table
from releq_env.tasks import TASKS

BITS = (2, 3, 4, 5, 6, 8)


class WithZero(LSQ):
    """`LSQ` with zero among the levels at all bitwidths, 2 to 8."""

    levels = staticmethod(Grid.whole)


class WithoutZero(LSQ):
    """`LSQ` without zero among the levels at all bitwidths."""

    levels = staticmethod(Grid.halves)


class Published(WithZero):
    """`LSQ` with the levels of the paper, `-2**(bits-1)` to `2**(bits-1) - 1`, and its start, section 2.1."""

    @staticmethod
    def starting_steps(rows: Tensor, top: Tensor | float, shift: Tensor | float) -> Tensor:
        """Return `2 mean|w| / sqrt(top)` a channel, shape `(n_channels,)`."""
        return (2.0 * rows.abs().mean(dim=-1) / top**0.5).clamp(min=SMALLEST_STEP)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the dequantized weight."""
        top = int(self.grid.top)
        zeros = torch.zeros_like(self.start)
        quantized: Tensor = torch._fake_quantize_learnable_per_channel_affine(
            weight, self.step, zeros, 0, -top - 1, top, self.gradient_scale
        )
        return quantized


VARIANTS = {"published": "Published", "with_zero": "WithZero", "without_zero": "WithoutZero", "lsq": None}


class Row(NamedTuple):
    """One accuracy; `images` are those of the retraining, `seed` is its own."""

    task: str
    variant: str
    bits: int
    images: int
    seed: int
    accuracy: float


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Have the variants among the quantizers."""
    others = {variant: name for variant, name in VARIANTS.items() if name is not None}
    for variant, name in others.items():
        QUANTIZERS[variant] = dataclasses.replace(
            QUANTIZERS["lsq"], bitwidths=BITS, build=f"benchmarks.learned_steps:{name}", stacked=None
        )
    try:
        yield
    finally:
        for variant in others:
            del QUANTIZERS[variant]


def measured(task: str, seeds: int) -> Iterator[Row]:
    """Yield every variant's uniform assignments, quantized only and retrained with each seed."""
    for variant in VARIANTS:
        for images, seed in [(0, 0), *((TASKS[task].retraining.images, seed) for seed in range(seeds))]:
            problem = Problem.from_task(task, quantizer=variant, retrain_images=images, retrain_seed=seed)
            assignments = [(bits,) * problem.num_layers for bits in BITS]
            for bits, found in zip(BITS, problem.evaluator.evaluate_many(assignments), strict=True):
                yield Row(task, variant, bits, images, seed, found.accuracy)
            problem.evaluator.close()


def report(rows: Iterable[Row]) -> str:
    """Return means and their 95 % intervals over seeds, in percent, as a table."""
    rows, lines = list(rows), []
    for images in sorted({row.images for row in rows}):
        for variant in VARIANTS:
            cells = []
            for bits in BITS:
                wanted = (variant, bits, images)
                each = [100.0 * row.accuracy for row in rows if (row.variant, row.bits, row.images) == wanted]
                found = interval(each)
                cells.append(f"{np.mean(each):.2f}" + ("" if found is None else f" ± {(found[1] - found[0]) / 2:.2f}"))
            lines.append((f"{images:,}", f"`{variant}`", *cells))
    return table(("images", "variant", *(f"{bits} bits" for bits in BITS)), lines, aligned=False)


def main(argv: list[str] | None = None) -> None:
    """Read the command line, measure, write the rows, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learned_steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", choices=list(TASKS), default="cifar10", help="(default: %(default)s)")
    parser.add_argument("--seeds", type=positive, default=5, help="of the retraining (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=RESULTS / "learned_steps", metavar="DIR", help="folder of the rows"
    )
    args = parser.parse_args(argv)
    with registered():
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
