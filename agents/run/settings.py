"""What a run is asked for on the command line, and its settings in full: what `config.json` keeps."""

import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import yaml

from agents.algorithms.registry import ALGORITHMS, import_all, read_hyperparams
from agents.run.option import optional
from releq_env.errors import ReLeQError, check_choice
from releq_env.registration import OWN_TABLE
from releq_env.tables.shipped import TABLES

_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")  # of which YAML 1.1 takes 1e-3 for text


@dataclass
class Options:
    """Search for the bitwidths of a network's layers."""

    algo: Annotated[str | None, optional("{" + ",".join(ALGORITHMS) + "}", "ppo")] = None
    """The agent."""
    env: Annotated[str | None, optional("ID", "releq_env:ReLeQ-Digits-v0")] = None
    """Id of the environment."""
    from_table: Annotated[str | None, optional("NAME", "none")] = None
    """Search an accuracy table instead, by its name or path; --env-kwargs are then of a table, e.g. seed=1."""
    timesteps: Annotated[int | None, optional("N", "the agent's for that id")] = None
    """Steps over all environments; a step is one layer."""
    budget: Annotated[int | None, optional("M", "none")] = None
    """Stop at that many distinct evaluations."""
    minutes: Annotated[float | None, optional("T", "none")] = None
    """Stop after that many minutes; those before a resume count."""
    seed: Annotated[int | None, optional("S", "0")] = None
    """Seeds the agent; no accuracy depends on it."""
    n_envs: Annotated[int | None, optional("K", "the agent's")] = None
    """Environments side by side; of a searcher, assignments asked for at once."""
    workers: Annotated[int | None, optional("W", "one a core, where that is faster")] = None
    """Processes (or Ray actors) that retrain; changes no result."""
    log_dir: Annotated[Path | None, optional("DIR", "runs/ALGO/ID_1, _2, ...")] = None
    """The run's folder."""
    env_kwargs: Annotated[list[str], optional("NAME=VALUE", "none")] = field(default_factory=list)
    """Arguments of gym.make, e.g. retrain_images=5000 cost=energy bitwidths='[2, 4, 8]'."""
    hyperparams: Annotated[list[str], optional("NAME=VALUE", "agents/hyperparams/ALGO.yml")] = field(
        default_factory=list
    )
    """Settings of the agent, e.g. learning_rate=0.001."""
    imports: Annotated[list[str], optional("MODULE", "none")] = field(default_factory=list)
    """Modules that register agents of one's own."""
    resume: Annotated[Path | None, optional("DIR", "a new run")] = None
    """Go on with the run in this folder; only --timesteps, --budget, --minutes and --workers may differ."""


@dataclass(frozen=True)
class Settings:
    """What a run was asked for.

    Attributes:
        algo: Name of the agent.
        env: Id of the environment, as for `gym.make`.
        env_kwargs: Further arguments of `gym.make`.
        timesteps: Steps over all environments at which to end.
        schedule_timesteps: What `timesteps` was when the run was begun: the length of the agent's schedules.
        budget: Distinct evaluations at which to end, or `None`.
        minutes: How long the run may take, or `None`.
        seed: Of the agent and `np_random`.
        n_envs: Environments side by side; of a searcher, assignments asked for at once.
        hyperparams: Of the agent.
        written_for: Environments side by side that the hyperparameters are written for.
        imports: Modules that register the agent, where it is one of one's own.
    """

    algo: str
    env: str
    env_kwargs: dict[str, Any]
    timesteps: int
    schedule_timesteps: int
    budget: int | None
    minutes: float | None
    seed: int
    n_envs: int
    hyperparams: dict[str, Any]
    written_for: int
    imports: Sequence[str] = ()

    @property
    def env_name(self) -> str:
        """The id without the module before it."""
        return self.env.rpartition(":")[2]


def new_settings(options: Options) -> Settings:
    """Return the settings of a new run.

    Raises:
        ReLeQError: If an option is not accepted.
    """
    import_all(options.imports)
    algo, (env, env_kwargs) = options.algo or "ppo", _env(options)
    check_choice("algo", algo, ALGORITHMS)
    hyperparams = read_hyperparams(algo, env.rpartition(":")[2])
    hyperparams |= parse_pairs(options.hyperparams, "--hyperparams", "learning_rate=0.001 n_epochs=5")
    timesteps, written_for = hyperparams.pop("n_timesteps", 4000), hyperparams.pop("n_envs", 1)
    timesteps = timesteps if options.timesteps is None else options.timesteps
    n_envs = written_for if options.n_envs is None else options.n_envs
    settings = Settings(
        algo=algo,
        env=env,
        env_kwargs=env_kwargs,
        timesteps=timesteps,
        schedule_timesteps=timesteps,
        budget=options.budget,
        minutes=options.minutes,
        seed=options.seed or 0,
        n_envs=n_envs,
        hyperparams=hyperparams,
        written_for=written_for,
        imports=list(options.imports),
    )
    return _checked(settings, options)


def resumed_settings(options: Options, earlier: Settings) -> Settings:
    """Return the settings of a run that goes on.

    Raises:
        ReLeQError: If an option is not accepted, or not that of the run.
    """
    kwargs = parse_pairs(options.env_kwargs, "--env-kwargs", "cost=energy") or None
    env = options.env
    if options.from_table is not None:
        env, of_table = _env(options)
        kwargs = of_table if kwargs else earlier.env_kwargs | {"table": of_table["table"]}
    given = {
        "algo": options.algo,
        "env": env,
        "seed": options.seed,
        "n_envs": options.n_envs,
        "env_kwargs": kwargs,
    }
    for name, value in given.items():
        if value is not None and value != getattr(earlier, name):
            raise ReLeQError(
                f"--resume {options.resume} is a run with {name}={getattr(earlier, name)!r}, not {value!r}; "
                f"leave --{name.replace('_', '-')} out, or begin a new run with --log-dir"
            )
    if options.hyperparams:
        raise ReLeQError(f"--resume {options.resume} keeps its hyperparameters; leave --hyperparams out")
    if options.log_dir is not None and options.resume and options.log_dir.resolve() != options.resume.resolve():
        raise ReLeQError(f"--log-dir {options.log_dir} and --resume {options.resume} are two folders; give one of them")
    if options.imports and earlier.imports and list(options.imports) != list(earlier.imports):
        raise ReLeQError(f"--resume {options.resume} keeps its --imports; leave them out")
    if options.timesteps is not None and options.timesteps < earlier.timesteps:  # what was learned would be lost
        raise ReLeQError(
            f"--timesteps {options.timesteps} is less than the {earlier.timesteps} of the run in {options.resume}; "
            "give more, or leave it out"
        )
    more: dict[str, Any] = {name: getattr(options, name) for name in ("timesteps", "budget", "minutes")}
    more["imports"] = options.imports or None
    return _checked(replace(earlier, **{name: value for name, value in more.items() if value is not None}), options)


def _env(options: Options) -> tuple[str, dict[str, Any]]:
    """Return the id of the environment, and its arguments."""
    kwargs = parse_pairs(options.env_kwargs, "--env-kwargs", "retrain_images=5000 cost=energy")
    if options.from_table is None:
        return options.env or "releq_env:ReLeQ-Digits-v0", kwargs
    if options.env is not None:
        raise ReLeQError(
            f"--env {options.env} and --from-table {options.from_table} are two problems; give one of them"
        )
    # A path holds from wherever the run is resumed.
    table = (
        options.from_table if options.from_table in TABLES else str(Path(options.from_table).expanduser().absolute())
    )
    return f"releq_env:{OWN_TABLE}", {"table": table} | kwargs


def parse_pairs(pairs: list[str], option: str, example: str) -> dict[str, Any]:
    """Return `["retrain_images=0", "cost:energy"]` as a dictionary; values are read as YAML.

    Raises:
        ReLeQError: If a pair is not of that form.
    """
    parsed = {}
    for pair in pairs:
        cut = min((i for i in (pair.find("="), pair.find(":")) if i > 0), default=None)
        if cut is None:
            raise ReLeQError(f"{option} got {pair!r}; give NAME=VALUE pairs, e.g. {example}")
        try:
            text = pair[cut + 1 :].strip()
            parsed[pair[:cut]] = float(text) if _EXPONENT.fullmatch(text) else yaml.safe_load(text)
            json.dumps(parsed[pair[:cut]], allow_nan=False)  # as config.json keeps it; a date is YAML, too
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise ReLeQError(
                f"{option} got {pair!r}, whose value is no number, text, list or dictionary in YAML; e.g. {example}"
            ) from error
    return parsed


def _checked(settings: Settings, options: Options) -> Settings:
    numbers = {"--timesteps": settings.timesteps, "--n-envs": settings.n_envs, "--budget": settings.budget}
    numbers |= {"--workers": options.workers, "--seed": settings.seed}
    for name, value in numbers.items():
        least = int(name != "--seed")
        if value is not None and (not isinstance(value, int) or not least <= value < 2**32):
            raise ReLeQError(f"{name} {value} is not accepted; give a whole number from {least} to 2**32 - 1")
    if settings.minutes is not None and not settings.minutes > 0.0:
        raise ReLeQError(f"--minutes {settings.minutes} is not accepted; give a number above 0")
    of_make = set(inspect.signature(gym.make).parameters) & set(settings.env_kwargs)
    if of_make:
        raise ReLeQError(f"--env-kwargs has {min(of_make)!r}, which is not the environment's; leave it out")
    return settings
