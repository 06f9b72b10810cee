"""Whether tuned settings beat the untuned default on fresh seeds, too: the best of many trials was lucky."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from agents.run.settings import Settings
from agents.tuning.score import score, with_values
from releq_env.files import replace_file
from releq_env.finalizing.result import interval

FIRST_SEED = 1000
"""Of the fresh seeds, if no trial has had it; trials count theirs from 0."""


class Fresh(NamedTuple):
    """Scores of both by problem, a list over the same fresh seeds.

    Attributes:
        seeds: The seeds.
        tuned: Of the best trial.
        default: Of the untuned default.
    """

    seeds: list[int]
    tuned: Mapping[str, Sequence[float]]
    default: Mapping[str, Sequence[float]]

    def __str__(self) -> str:
        tuned, default = _by_seed(self.tuned), _by_seed(self.default)
        differences = [one - other for one, other in zip(tuned, default, strict=True)]
        bounds = interval(differences)
        within = "" if bounds is None else f" ({bounds[0]:+.4f} to {bounds[1]:+.4f})"
        return (
            f"On fresh seeds {self.seeds[0]} to {self.seeds[-1]}: area {mean(tuned):.4f}; the untuned default "
            f"{mean(default):.4f}; difference {mean(differences):+.4f}{within}."
        )


def on_fresh_seeds(
    path: Path,
    default: Settings,
    values: Mapping[str, Any],
    problems: Sequence[str],
    seeds: Sequence[int],
    budget: int,
) -> Fresh:
    """Return the scores of the best settings and of the default on seeds that no trial has had.

    Args:
        path: The file that they are kept in; if they are there, they are not made again.
        default: As it was before.
        values: What the best settings change of it.
        problems: Names, see `score`.
        seeds: The seeds.
        budget: See `score`.
    """
    asked: dict[str, Any] = {"untuned": default.hyperparams, "n_envs": default.n_envs, "values": dict(values)}
    asked |= {"problems": list(problems), "budget": budget, "seeds": list(seeds)}
    kept = _read(path)
    if any(kept.get(name) != value for name, value in asked.items()):
        tuned = replace(default, hyperparams=with_values(default.hyperparams, values))
        of_both = (score(each, problems, seeds, budget) for each in (tuned, default))
        kept = asked | dict(zip(("tuned", "default"), of_both, strict=True))
        replace_file(path, json.dumps(kept, indent=2) + "\n")
    return Fresh(kept["seeds"], kept["tuned"], kept["default"])


def _read(path: Path) -> dict[str, Any]:
    """Return what is kept in a file; nothing if there is none, or a damaged one."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _by_seed(scores: Mapping[str, Sequence[float]]) -> list[float]:
    """Return the mean over problems, by seed."""
    return [mean(of_seed) for of_seed in zip(*scores.values(), strict=True)]
