"""What is written in the same way everywhere."""

from collections.abc import Sequence

MONITOR = "0.monitor.csv"
PROBABILITIES = "probabilities.csv"


def spaced(bitwidths: Sequence[int]) -> str:
    """Return an assignment as it stands in tables: `"2 1 1 4"`."""
    return " ".join(map(str, bitwidths))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown, aligned."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
