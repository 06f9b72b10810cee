"""Play what an agent has learned: the assignments that its policy takes.

python -m agents.enjoy runs/mnist
python -m agents.enjoy runs/mnist --episodes 20 --sample
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError


@dataclass
class Options:
    """Play what an agent has learned: the assignments that its policy takes."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]]
    """The folder of a finished run."""
    episodes: int = 1
    """How many episodes. Without --sample all of them are the same."""
    sample: bool = False
    """Draw actions from the policy, by the run's seed, in place of the likeliest."""


def enjoy(options: Options) -> list[dict[str, Any]]:
    """Play episodes and print their assignments; return them as dictionaries, empty if there is no policy.

    The policy is built from the run's hyperparameters; of the saved model only the weights are read, and no pickle.

    Raises:
        ReLeQError: In one line, if there is no finished run in the folder, or its agent cannot be played.
    """
    from agents.algorithms.registry import find_agent, import_all
    from agents.run.bare import played
    from agents.run.folder import RunFolder
    from agents.run.making import make_agent, make_env

    if options.episodes < 1:
        raise ReLeQError(f"--episodes {options.episodes} is not accepted; give a whole number from 1")
    settings = RunFolder.read_config(options.run).settings
    import_all(settings.imports)
    agent = find_agent(settings.algo)
    if agent.searches:
        print(f"{settings.algo} searches: it has no policy to play. Its best assignment:")
        print(_best(options.run))
        return []
    model = options.run / f"{settings.env_name}.zip"
    if not model.exists():
        raise ReLeQError(
            f"{options.run} has no {model.name}: the run is not finished, or its agent keeps nothing; "
            f"go on with python -m agents.train --resume {options.run}"
        )
    env = make_env(settings)
    try:
        problem = env.unwrapped.problem
        problem.evaluator.remember(RunFolder(options.run, problem).restore(mend=False))
        learner = make_agent(dataclasses.replace(settings, n_envs=1), agent, env)
        if not hasattr(learner, "act"):
            raise ReLeQError(f"{settings.algo} has learned something that cannot be played; see best.json for its best")
        learner.load(model)
        infos = played(learner, learner.venv, options.episodes, not options.sample)
    finally:
        env.close()
    for line in _lines(infos):
        print(line)
    return infos


def _best(run: Path) -> str:
    try:
        best = json.loads((run / "best.json").read_text())
        return f"{' '.join(map(str, best['bitwidths']))}   reward {best['reward']:.4f}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReLeQError(
            f"{run / 'best.json'} cannot be read ({type(error).__name__}); nothing may have been evaluated yet: "
            f"go on with python -m agents.train --resume {run}"
        ) from error


def _lines(infos: list[dict[str, Any]]) -> Iterator[str]:
    yield "assignment   reward   relative accuracy   q"
    for info in infos:
        bits = " ".join(map(str, info["bitwidths"].tolist()))
        yield (f"{bits}   {info['return']:.4f}   {info['relative_accuracy']:.4f}   {info['state_of_quantization']:.4f}")


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, play, and print."""
    options = tyro.cli(Options, args=argv, prog="python -m agents.enjoy", description=Options.__doc__)
    with ends_in_one_line():
        enjoy(options)


if __name__ == "__main__":
    main()
