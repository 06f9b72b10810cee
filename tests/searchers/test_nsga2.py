"""Optuna's NSGA-II spreads along the front."""

import numpy as np

from releq_env.searchers.nsga2 import NSGA2
from releq_env.tables.statistics import hypervolume
from tests.agents import problems
from tests.searchers.test_searchers import found_by


def covered(name: str, seed: int, budget: int) -> float:
    """Return the area in cost and accuracy that a search dominates."""
    problem = problems.like_digits()
    found = found_by(name, problem, seed, budget=budget)
    q = np.array([problem.state_of_quantization(each.bitwidths) for each in found])
    return hypervolume(q, np.array([each.relative_accuracy for each in found]), (1.0, 0.0))


def test_covers_more_of_the_front_than_chance() -> None:
    ours, chance = (np.mean([covered(name, seed, 150) for seed in range(3)]) for name in ("nsga2", "random"))
    assert ours > chance


def test_knows_nothing_of_the_objective() -> None:
    """Another objective of the same accuracies and costs does not change what it asks for."""
    strict, loose = (problems.four_layers(min_relative_accuracy=least) for least in (0.99, 0.5))
    searches = [[each.bitwidths for each in found_by("nsga2", problem, budget=60)] for problem in (strict, loose)]
    assert searches[0] == searches[1]


def test_the_first_population_is_the_start() -> None:
    problem = problems.four_layers()
    first = NSGA2(problem, population=12).ask(50)
    assert len(first) == 12
    assert first[:4] == problem.uniform()
