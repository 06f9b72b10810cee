"""The settings of a run, complete: what `config.json` keeps and `--resume` takes up."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from releq_env import ReLeQError

HYPERPARAMS = Path(__file__).parent / "hyperparams"


@dataclass(frozen=True)
class Settings:
    """What a run was asked for.

    Attributes:
        algo: Name of the agent.
        env: Id of the environment, as for `gym.make`.
        env_kwargs: Further arguments of `gym.make`.
        timesteps: Steps over all environments.
        budget: Distinct evaluations at which to stop, or `None`.
        seed: Of the agent and `np_random`.
        n_envs: Environments side by side.
        hyperparams: Of the agent.
    """

    algo: str
    env: str
    env_kwargs: dict[str, Any]
    timesteps: int
    budget: int | None
    seed: int
    n_envs: int
    hyperparams: dict[str, Any] = field(default_factory=dict)

    @property
    def env_name(self) -> str:
        """The id without the module before it."""
        return self.env.rpartition(":")[2]


def read_hyperparams(algo: str) -> dict[str, Any]:
    """Return an agent's settings from `agents/hyperparams/<algo>.yml`; `n_envs` is among them."""
    path = HYPERPARAMS / f"{algo}.yml"
    return yaml.safe_load(path.read_text()) or {}


def parse_env_kwargs(pairs: list[str]) -> dict[str, Any]:
    """Return `["retrain_images=0", "cost:energy"]` as a dictionary; values are read as YAML.

    Raises:
        ReLeQError: If a pair is not of that form.
    """
    kwargs = {}
    for pair in pairs:
        cut = min((i for i in (pair.find("="), pair.find(":")) if i > 0), default=None)
        if cut is None:
            raise ReLeQError(f"--env-kwargs got {pair!r}; give NAME=VALUE pairs, e.g. retrain_images=5000 cost=energy")
        try:
            kwargs[pair[:cut]] = yaml.safe_load(pair[cut + 1 :])
        except yaml.YAMLError as error:
            raise ReLeQError(
                f"--env-kwargs got {pair!r}, whose value is not YAML; e.g. bitwidths='[2, 4, 8]'"
            ) from error
    return kwargs
