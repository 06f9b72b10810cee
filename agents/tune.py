"""Tune an agent's hyperparameters on problems with a known optimum that no comparison uses.

python -m agents.tune --algo ppo --trials 40 --seeds 3
python -m agents.tune --algo ppo --trials 80 --seeds 3     # goes on with the same file
"""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro
import yaml

from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError


@dataclass
class Options:
    """Tune an agent's hyperparameters on problems with a known optimum that no comparison uses."""

    algo: str
    """The agent."""
    trials: int = 30
    """How many settings are tried, the untuned default first; those of an earlier part count."""
    problems: list[str] = field(default_factory=lambda: ["separable", "interacting", "noisy", "bounded"])
    """What is searched: synthetic landscapes, and the table digits where it is there."""
    seeds: int = 3
    """Runs a problem."""
    budget: int = 300
    """Distinct evaluations a run; it has 20 time steps for each."""
    seed: int = 0
    """Of the suggestions."""
    fresh: int = 10
    """Seeds a problem, none of which a trial has had, on which the best settings are compared with the default."""
    out: Path = Path("runs/tune")
    """Folder of ALGO.jsonl, a line a trial, ALGO-fresh.json and ALGO.yml, the best settings."""


def tune(options: Options) -> dict[str, Any]:
    """Try settings, print and write the best, and return its trial.

    Raises:
        ReLeQError: In one line, if an option is not accepted, or the trials are of another tuning.
    """
    from agents.algorithms.registry import read_hyperparams
    from agents.run.settings import Options as RunOptions
    from agents.run.settings import new_settings
    from agents.tuning.fresh import FIRST_SEED, on_fresh_seeds
    from agents.tuning.score import landscape, score, total, with_values
    from agents.tuning.trials import LARGEST_SEED, Trials, held, read_ranges
    from releq_env.files import replace_file

    for name in ("trials", "seeds", "budget", "fresh"):
        if getattr(options, name) < 1:
            raise ReLeQError(f"--{name} {getattr(options, name)} is not accepted; give a whole number from 1")
    if not 0 <= options.seed <= LARGEST_SEED:
        raise ReLeQError(f"--seed {options.seed} is not accepted; give a whole number from 0 to {LARGEST_SEED}")
    settings = new_settings(RunOptions(algo=options.algo, env="releq_env:ReLeQ-v0"))
    ranges, default = read_ranges(options.algo), settings.hyperparams
    for name in options.problems:
        landscape(name)  # before anything that takes time
    about = {name: value for name, value in asdict(options).items() if name not in ("trials", "fresh", "out")}
    about |= {"ranges": ranges, "default": default, "n_envs": settings.n_envs}
    path = options.out / f"{options.algo}.yml"
    with held(path.with_suffix(".jsonl")):
        trials = Trials(path.with_suffix(".jsonl"), about)
        while len(trials.rows) < options.trials:
            values, begun = trials.suggest(ranges, options.seed), time.monotonic()
            tried = replace(settings, hyperparams=with_values(default, values))
            scores = score(tried, options.problems, range(options.seeds), options.budget)
            seconds = round(time.monotonic() - begun, 2)
            row = {"number": len(trials.rows), "values": values, "score": total(scores), "scores": scores}
            trials.add(row | {"seconds": seconds})
            best = trials.best["score"]
            print(f"trial {row['number']}: {row['score']:.4f} in {seconds:.0f} s, best {best:.4f}", flush=True)
        values, text = trials.best["values"], _block(options, trials.rows, trials.best, ranges)
        block = yaml.safe_dump(
            {"default": with_values(read_hyperparams(options.algo, "ReLeQ-v0"), values)}, sort_keys=False
        )
        replace_file(path, text + block)  # the comparison takes a while
        if values:
            first = max(FIRST_SEED, options.seeds)
            seeds, kept = range(first, first + options.fresh), path.with_name(f"{options.algo}-fresh.json")
            text += f"# {on_fresh_seeds(kept, settings, values, options.problems, seeds, options.budget)}\n"
        text += block
        replace_file(path, text)
    print(f"\n{path}:\n\n{text}")
    return trials.best


def _block(options: Options, rows: list[Any], best: Any, ranges: Any) -> str:
    """Return how the best settings were found, as the head of a block for agents/hyperparams."""
    spent = [
        f"Tuned by python -m agents.tune --algo {options.algo} --trials {len(rows)} --seeds {options.seeds}",
        f"  --budget {options.budget} --seed {options.seed} --problems {' '.join(options.problems)}",
        f"Trial {best['number']} of {len(rows)}: area {best['score']:.4f}; the untuned default {rows[0]['score']:.4f}.",
        "Ranges: " + "; ".join(f"{name} {_range(of_name)}" for name, of_name in ranges.items()) + ".",
    ]
    return "".join(f"# {line}\n" for line in spent)


def _range(of_name: dict[str, Any]) -> str:
    if "choices" in of_name:
        return f"out of {of_name['choices']}"
    return f"{of_name['low']} to {of_name['high']}{' (logarithmic)' if of_name.get('log') else ''}"


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, tune, and print the best settings."""
    options = tyro.cli(Options, args=argv, prog="python -m agents.tune", description=Options.__doc__)
    with ends_in_one_line():
        tune(options)


if __name__ == "__main__":
    main()
