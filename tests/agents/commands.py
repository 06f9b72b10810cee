"""Running the training command in tests, and reading what it leaves."""

import csv
from pathlib import Path

import pytest

from agents.train import main


def error(*args: str) -> str:
    """Run the command, which must end with one line, and return it."""
    with pytest.raises(SystemExit) as ended:
        main(list(args))
    message = str(ended.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "evaluations.csv").open() as file:
        return list(csv.DictReader(file))
