"""The agents by name."""

import importlib
import inspect
import pkgutil
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from releq_env.errors import ReLeQError, check_choice
from releq_env.searchers import SEARCHERS

ALGORITHMS: ChainMap[str, Any] = ChainMap(
    {
        "ppo": "stable_baselines3:PPO",
        "recurrent_ppo": "sb3_contrib:RecurrentPPO",
        "maskable_ppo": "sb3_contrib:MaskablePPO",
        "a2c": "stable_baselines3:A2C",
        "trpo": "sb3_contrib:TRPO",
        "dqn": "stable_baselines3:DQN",
        "qrdqn": "sb3_contrib:QRDQN",
        "ddpg": "stable_baselines3:DDPG",
        "td3": "stable_baselines3:TD3",
        "sac": "stable_baselines3:SAC",
        "dyna_ppo": "agents.algorithms.dyna_ppo:DynaPPO",
        "transfer": "agents.algorithms.transfer.search:TransferSearch",
    },
    SEARCHERS,
)
"""Name -> agent, or `"module:name"` of it. Add one of your own and its name is accepted as `--algo`.

An agent is an algorithm of Stable-Baselines3 or derived from one; or it makes an `EnvAgent`; or it is a searcher
(`releq_env.searchers.Searcher`; all in `SEARCHERS` are in here).
"""

FAMILIES = {
    "TD3": "agents.algorithms.off_policy:ContinuousAgent",  # and DDPG, which is derived from it
    "SAC": "agents.algorithms.off_policy:ContinuousAgent",
    "TQC": "agents.algorithms.off_policy:ContinuousAgent",
    "CrossQ": "agents.algorithms.off_policy:ContinuousAgent",
    "OnPolicyAlgorithm": "agents.algorithms.on_policy:OnPolicyAgent",
    "OffPolicyAlgorithm": "agents.algorithms.off_policy:OffPolicyAgent",
}
"""Class of Stable-Baselines3 or sb3-contrib -> what makes an `EnvAgent` of it and of what is derived from it."""

HYPERPARAMS = Path(__file__).parents[1] / "hyperparams"


class Agent(NamedTuple):
    """How an agent is made.

    Attributes:
        make: Makes it: a searcher of problem and seed, another of environments and seed; and hyperparameters.
        searches: Whether it is a searcher.
        masks: Whether it keeps `max_cost` by itself.
        fits: Whether it fits its hyperparameters, and takes `written_for`: how many environments they are written for.
        continuous: Whether its actions are numbers: its environments are wrapped in `ContinuousAction`.
    """

    make: Callable[..., Any]
    searches: bool
    masks: bool
    fits: bool = False
    continuous: bool = False


def import_all(modules: Sequence[str]) -> None:
    """Import modules that register agents.

    Raises:
        ReLeQError: If one cannot be found.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ReLeQError(f"--imports {module}: {error}; give a module that can be imported from here") from error


def find_agent(algo: str) -> Agent:
    """Return how an agent is made.

    Raises:
        ReLeQError: If there is none of that name, it is of an unknown family, or a library that it needs is missing.
    """
    check_choice("algo", algo, ALGORITHMS)
    factory = ALGORITHMS[algo]
    try:
        if isinstance(factory, str):
            factory = _resolved(algo, factory)
        if algo in SEARCHERS or hasattr(factory, "ask"):
            return Agent(factory, searches=True, masks=True)
        bases = inspect.getmro(factory) if inspect.isclass(factory) else ()
        of_sb3 = [base.__name__ for base in bases if base.__module__.startswith(("stable_baselines3.", "sb3_contrib."))]
        for name in of_sb3:
            if name in FAMILIES:
                masks = "action_masks" in inspect.signature(factory.predict).parameters
                adapter = pkgutil.resolve_name(FAMILIES[name])
                return Agent(partial(adapter, factory), False, masks, fits=True, continuous=adapter.continuous)
    except ModuleNotFoundError as error:
        raise ReLeQError(f'--algo {algo} needs {error.name}; pip install "releq_env[agents]"') from error
    if "BaseAlgorithm" in of_sb3:
        raise ReLeQError(
            f"--algo {algo} is an algorithm of Stable-Baselines3 that is derived from none of {', '.join(FAMILIES)}; "
            "add its family to FAMILIES, or take another one"
        )
    continuous = getattr(factory, "continuous", False)
    return Agent(factory, searches=False, masks=getattr(factory, "masks", False), continuous=continuous)


def _resolved(algo: str, name: str) -> Any:
    try:
        return pkgutil.resolve_name(name)
    except (AttributeError, ValueError) as error:
        raise ReLeQError(f"--algo {algo} is {name!r}, which cannot be found ({error}); give module:name") from error


def read_hyperparams(algo: str, env_name: str) -> dict[str, Any]:
    """Return an agent's settings out of `agents/hyperparams/<algo>.yml`, a file in rl-baselines3-zoo's form.

    Args:
        algo: A name in `ALGORITHMS`; one without a file has no settings.
        env_name: Id of the environment, without a module; one that the file does not list has the settings
            of `default`, which the adapters fit to its number of layers.
    """
    path = HYPERPARAMS / f"{algo}.yml"
    by_id: Mapping[str, dict[str, Any]] = yaml.safe_load(path.read_text()) if path.exists() else {}
    return dict(by_id.get(env_name) or by_id.get("default") or {})
