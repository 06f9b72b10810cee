"""Assignments to measure."""

import random
from collections.abc import Iterator

LARGEST = 8


def distinct(layers: int, least: int, seed: int | str) -> Iterator[tuple[int, ...]]:
    """Yield random assignments of `least` to 8 bits that have not been before, until there are no more."""
    generator = random.Random(seed)
    seen: set[tuple[int, ...]] = set()
    while len(seen) < (LARGEST - least + 1) ** layers:
        assignment = tuple(generator.randint(least, LARGEST) for _ in range(layers))
        if assignment not in seen:
            seen.add(assignment)
            yield assignment
