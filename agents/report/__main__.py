"""Write the report of a run: one HTML file that needs nothing else.

python -m agents.report runs/mnist
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from agents.run.option import optional
from releq_env.command import ends_in_one_line
from releq_env.report import write_report


@dataclass
class Options:
    """Write the report of a run, finished or not, as one HTML file that needs nothing else."""

    folder: tyro.conf.Positional[Path]
    """The run's folder: what --log-dir was."""
    out: Annotated[Path | None, optional("FILE", "report.html in it")] = None
    """The file to write."""


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, write the report, and print where it is."""
    options = tyro.cli(Options, args=argv, prog="python -m agents.report", description=Options.__doc__)
    with ends_in_one_line():
        print(write_report(options.folder, options.out))


if __name__ == "__main__":
    main()
