"""Small tables for comparisons."""

import itertools
from pathlib import Path

import numpy as np

from releq_env.tables import AccuracyTable
from tests.fakes import DIGITS_LAYERS, smooth_accuracy

CHOICES = (1, 2, 4, 8)


def small_table(folder: Path, name: str = "toy", seeds: int = 2) -> Path:
    """Write a complete table of 256 assignments with noise by seed, and return its path."""
    generator = np.random.default_rng(len(name))
    assignments = list(itertools.product(CHOICES, repeat=4))
    records = [
        (bitwidths, seed, float(np.clip(smooth_accuracy(bitwidths) + generator.normal() / 200, 0.0, 1.0)))
        for bitwidths in assignments
        for seed in range(seeds)
    ]
    bitwidths, of_record, accuracy = zip(*records, strict=True)
    table = AccuracyTable.from_records(
        bitwidths, accuracy, seeds=of_record, layers=DIGITS_LAYERS, full_precision_accuracy=0.98, name=name
    )
    path = folder / f"{name}.npz"
    table.save(path)
    return path
