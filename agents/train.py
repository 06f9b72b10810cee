"""Search for the bitwidths of a network: one entry for every agent.

python -m agents.train --algo ppo --env releq_env:ReLeQ-MNIST-v0 --timesteps 4000 --seed 7 --log-dir runs/mnist
python -m agents.train --resume runs/mnist
"""

from typing import TYPE_CHECKING

import tyro

from agents.run.settings import Options
from releq_env.command import ends_in_one_line

if TYPE_CHECKING:
    from agents.run.folder import RunFolder


def train(options: Options) -> "RunFolder":
    """Run a search, print its result and return its folder; the same as the command does.

    Raises:
        ReLeQError: In one line, if an option is not accepted, or a file of the run cannot be written.
    """
    # Imported only now: worker processes import this module, and need none of the agents' libraries.
    from agents.run.runner import run

    return run(options)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, search, and print the result."""
    options = tyro.cli(Options, args=argv, prog="python -m agents.train", description=Options.__doc__)
    with ends_in_one_line():
        train(options)


if __name__ == "__main__":
    main()
