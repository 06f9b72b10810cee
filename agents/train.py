"""Search for the bitwidths of a network: one entry for every agent.

python -m agents.train --algo ppo --env releq_env:ReLeQ-MNIST-v0 --timesteps 4000 --seed 7 --log-dir runs/mnist
python -m agents.train --resume runs/mnist
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import tyro

from releq_env import ReLeQError


def _option(metavar: str, default: str) -> Any:
    """Say in the help what `None` stands for."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


@dataclass
class Args:
    """Search for the bitwidths of a network's layers with a reinforcement learning agent."""

    algo: Annotated[Literal["ppo", "recurrent_ppo", "random"] | None, _option("{ppo,recurrent_ppo,random}", "ppo")] = (
        None
    )
    """The agent."""
    env: Annotated[str | None, _option("ID", "releq_env:ReLeQ-Digits-v0")] = None
    """Id of the environment."""
    timesteps: Annotated[int | None, _option("N", "4000")] = None
    """Steps over all environments; a step is one layer."""
    budget: Annotated[int | None, _option("M", "none")] = None
    """Stop at that many distinct evaluations."""
    seed: Annotated[int | None, _option("S", "0")] = None
    """Seeds the agent; no accuracy depends on it."""
    n_envs: Annotated[int | None, _option("K", "the agent's")] = None
    """Environments side by side."""
    workers: Annotated[int | None, _option("W", "one a core, where that is faster")] = None
    """Processes (or Ray actors) that retrain; changes no result."""
    log_dir: Annotated[Path | None, _option("DIR", "runs/ALGO/ID_1, _2, ...")] = None
    """The run's folder."""
    env_kwargs: Annotated[list[str], _option("NAME=VALUE", "none")] = field(default_factory=list)
    """Arguments of gym.make, e.g. retrain_images=5000 cost=energy bitwidths='[2, 4, 8]'."""
    resume: Annotated[Path | None, _option("DIR", "a new run")] = None
    """Go on with the run in this folder; of the other options only --timesteps, --budget and --workers may differ."""


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, search, and print the result."""
    args = tyro.cli(Args, args=argv, prog="python -m agents.train", description=Args.__doc__)
    # Imported only now: worker processes import this module, and need none of the agents' libraries.
    from agents.search import train

    try:
        train(args)
    except (ReLeQError, gym.error.Error, OSError) as error:  # OSError: a full disk, a folder that cannot be written
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
