"""Running the training command in tests, and reading what it leaves."""

import csv
from functools import partial
from pathlib import Path

from agents.train import main
from tests.failing import one_line

error = partial(one_line, main)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "evaluations.csv").open() as file:
        return list(csv.DictReader(file))
