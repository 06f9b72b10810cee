"""What is written in the same way everywhere."""

from collections.abc import Sequence

from releq_env.report.verdict import spaced

__all__ = ["MONITOR", "PROBABILITIES", "markdown_table", "spaced"]

MONITOR = "0.monitor.csv"
PROBABILITIES = "probabilities.csv"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown, aligned."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
