"""A search from beginning to end: environments, agent, confirmation, report."""

import importlib.metadata
import inspect
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import torch

from agents.confirmation import confirm
from agents.plots import draw
from agents.policy_gradient import PolicyGradientAgent
from agents.random_search import RandomAgent
from agents.report import report
from agents.run_folder import RunFolder
from agents.settings import Settings, parse_env_kwargs, read_hyperparams
from agents.tracking import Tracker
from releq_env import ReLeQEnv, ReLeQError, ReLeQVecEnv, __version__
from releq_env.evaluation import CachedEvaluator

if TYPE_CHECKING:
    from agents.train import Args


class Agent(Protocol):
    """What `AGENTS` makes from settings, environments and a checkpoint file."""

    @property
    def done(self) -> tuple[int, int]:
        """Time steps and episodes of the checkpoint."""
        ...

    def learn(self, tracker: Tracker) -> None:
        """Search until the time steps or the budget are used up."""
        ...


AGENTS: dict[str, Callable[[Settings, ReLeQVecEnv, Path], Agent]] = {
    "ppo": PolicyGradientAgent,
    "recurrent_ppo": PolicyGradientAgent,
    "random": RandomAgent,
}


def train(args: "Args") -> None:
    """Run a search from beginning to end, or the rest of one.

    Raises:
        ReLeQError: If an argument is not accepted.
    """
    torch.set_num_threads(1)  # the agents' networks are tiny; the cores belong to the retraining
    earlier = None if args.resume is None else RunFolder.read_config(args.resume)
    if args.workers is not None and args.workers < 1:
        raise ReLeQError(f"--workers {args.workers} is not accepted; give a whole number from 1")
    settings = _new_settings(args) if earlier is None else _resumed_settings(args, earlier[0])
    venv = _make_envs(settings)
    env = venv.releq_envs[0]
    evaluator = env.evaluator
    assert isinstance(evaluator, CachedEvaluator)
    if args.workers is not None:
        evaluator.workers = args.workers
    fingerprint = json.loads(json.dumps(evaluator.fingerprint))
    path = args.resume or args.log_dir or _next_folder(settings)
    if settings.timesteps < env.episode_steps * settings.n_envs:
        raise ReLeQError(
            f"--timesteps {settings.timesteps} finishes no episode: one takes {env.episode_steps} "
            f"and {settings.n_envs} run side by side; give at least {env.episode_steps * settings.n_envs}, "
            "or fewer --n-envs"
        )
    if earlier is None:
        RunFolder.check_new(path)
        evaluator.retraining.load()
        RunFolder.create(path, settings, fingerprint, _versions())
    elif earlier[1] != fingerprint:
        changed = sorted(name for name in fingerprint if fingerprint[name] != earlier[1].get(name))
        raise ReLeQError(
            f"the run in {path} cannot go on: its accuracies depended on another {', '.join(changed)}; begin a new run"
        )
    folder = RunFolder(path, env)
    try:
        with folder.lock():
            _search(settings, folder, venv, evaluator)
    except KeyboardInterrupt:
        print(f"\nstopped; go on with: python -m agents.train --resume {path}", file=sys.stderr)
        raise
    finally:
        venv.close()


def _search(settings: Settings, folder: RunFolder, venv: ReLeQVecEnv, evaluator: CachedEvaluator) -> None:
    env = venv.releq_envs[0]
    folder.restore(evaluator)
    evaluator.listener = folder
    evaluator.budget = settings.budget
    agent = AGENTS[settings.algo](settings, venv, folder.path / f"{settings.env_name}.zip")
    within_budget = settings.budget is None or evaluator.distinct_evaluations < settings.budget
    unfinished = within_budget and agent.done[0] < settings.timesteps
    print(f"{settings.algo} on {settings.env}; results in {folder.path}", flush=True)
    tracker = Tracker(folder, evaluator, settings, agent.done if unfinished else None, redraw=lambda: draw(folder, env))
    try:
        if unfinished:
            agent.learn(tracker)
    finally:
        tracker.close()
        if folder.best is not None:
            draw(folder, env)
    if folder.best is None:
        raise ReLeQError(f"no assignment was evaluated within {settings.timesteps} time steps; give more --timesteps")
    print("measuring the best and the uniform assignments again, with unseen retraining seeds ...", flush=True)
    candidates = confirm(folder, env, evaluator)
    draw(folder, env, candidates)
    counts = {
        "episodes": tracker.episodes,
        "distinct_evaluations": evaluator.distinct_evaluations,
        "retrained": evaluator.retrained,
    }
    print("\n" + report(folder, env, candidates, counts))


def _new_settings(args: "Args") -> Settings:
    algo = args.algo or "ppo"
    hyperparams = read_hyperparams(algo)
    n_envs = hyperparams.pop("n_envs")
    settings = Settings(
        algo=algo,
        env=args.env or "releq_env:ReLeQ-Digits-v0",
        env_kwargs=parse_env_kwargs(args.env_kwargs),
        timesteps=4000 if args.timesteps is None else args.timesteps,
        budget=args.budget,
        seed=args.seed or 0,
        n_envs=n_envs if args.n_envs is None else args.n_envs,
        hyperparams=hyperparams,
    )
    return _checked(settings)


def _resumed_settings(args: "Args", earlier: Settings) -> Settings:
    given = {
        "algo": args.algo,
        "env": args.env,
        "seed": args.seed,
        "n_envs": args.n_envs,
        "env_kwargs": parse_env_kwargs(args.env_kwargs) or None,
    }
    for name, value in given.items():
        if value is not None and value != getattr(earlier, name):
            raise ReLeQError(
                f"--resume {args.resume} is a run with {name}={getattr(earlier, name)!r}, not {value!r}; "
                f"leave --{name.replace('_', '-')} out, or begin a new run with --log-dir"
            )
    assert args.resume is not None  # or there would be no earlier settings
    if args.log_dir is not None and args.log_dir.resolve() != args.resume.resolve():
        raise ReLeQError(f"--log-dir {args.log_dir} and --resume {args.resume} are two folders; give one of them")
    more: dict[str, Any] = {"timesteps": args.timesteps, "budget": args.budget}
    return _checked(replace(earlier, **{name: value for name, value in more.items() if value is not None}))


def _checked(settings: Settings) -> Settings:
    if settings.algo not in AGENTS:
        raise ReLeQError(f"unknown algo {settings.algo!r}; choose one of: {', '.join(AGENTS)}")
    for name, least in (("timesteps", 1), ("n_envs", 1), ("budget", 1), ("seed", 0)):
        value = getattr(settings, name)
        if value is not None and not least <= value < 2**32:
            raise ReLeQError(
                f"--{name.replace('_', '-')} {value} is not accepted; give a whole number from {least} to 2**32 - 1"
            )
    taken = set(inspect.signature(ReLeQEnv.__init__).parameters) - {"self", "task", "evaluator", "render_mode"}
    unknown = sorted(set(settings.env_kwargs) - taken)
    if unknown:
        raise ReLeQError(f"--env-kwargs has {unknown[0]!r}; accepted are: {', '.join(sorted(taken))}")
    return settings


def _make_envs(settings: Settings) -> ReLeQVecEnv:
    def make() -> gym.Env[Any, Any]:
        env = gym.make(settings.env, **settings.env_kwargs)
        if not isinstance(env.unwrapped, ReLeQEnv):
            raise ReLeQError(f"{settings.env} is not a ReLeQ environment; see the table of ids in the README")
        return env

    try:
        venv = ReLeQVecEnv([make] * settings.n_envs)
    except ModuleNotFoundError as error:
        raise ReLeQError(f"--env {settings.env}: {error}; see the table of ids in the README") from error
    venv.seed(settings.seed)
    return venv


def _next_folder(settings: Settings) -> Path:
    root = Path("runs") / settings.algo
    number = 1
    while (root / f"{settings.env_name}_{number}").exists():
        number += 1
    return root / f"{settings.env_name}_{number}"


def _versions() -> dict[str, str]:
    packages = ("gymnasium", "numpy", "stable_baselines3", "sb3_contrib", "torch", "torchvision")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"releq_env": __version__, "python": platform.python_version(), "machine": platform.machine(), **versions}
