"""Whether tuned settings beat the untuned default on fresh seeds, too: the best of many trials was lucky."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import NamedTuple

from agents.run.settings import Settings
from agents.tuning.score import score
from releq_env.finalizing.result import interval

FIRST_SEED = 1000
"""Of the fresh seeds; trials count theirs from 0."""


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


def on_fresh_seeds(tuned: Settings, default: Settings, problems: Sequence[str], seeds: int, budget: int) -> Fresh:
    """Return the scores of both settings on seeds that no trial has had; see `score`.

    Args:
        tuned: Of the best trial.
        default: As it was before.
        problems: Names, see `score`.
        seeds: How many.
        budget: See `score`.
    """
    fresh = list(range(FIRST_SEED, FIRST_SEED + seeds))
    of_tuned, of_default = (score(each, problems, fresh, budget) for each in (tuned, default))
    return Fresh(fresh, of_tuned, of_default)


def _by_seed(scores: Mapping[str, Sequence[float]]) -> list[float]:
    """Return the mean over problems, by seed."""
    return [mean(of_seed) for of_seed in zip(*scores.values(), strict=True)]
