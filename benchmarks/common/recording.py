"""What the commands have in common: numbers on the command line, and JSON files of what was measured."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from releq_env.files import replace_file

RESULTS = Path(__file__).parents[1] / "results"


def write(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file in one step, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(content, indent=2) + "\n")


def command(program: str, arguments: Mapping[str, object]) -> str:
    """Return the command that measures the same.

    Args:
        program: E.g. `"benchmarks.speed"`.
        arguments: By the name of their option, with underscores; what is `None` or `False` is left out.
    """
    parts = [f"python -m {program}"]
    for name, value in arguments.items():
        if value is not None and value is not False:
            values = value if isinstance(value, list | tuple) else [value] * (value is not True)
            parts.append(" ".join([f"--{name.replace('_', '-')}", *map(str, values)]))
    return " ".join(parts)


def from_zero(text: str) -> int:
    """Read a whole number from 0 from the command line."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """Read a whole number from 1 from the command line."""
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not accepted; give a whole number from {least}")
    return int(text)
