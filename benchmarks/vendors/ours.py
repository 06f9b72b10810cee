"""`releq_env.search`, within the budget."""

import time
from pathlib import Path

import releq_env
from benchmarks.vendors.vendor import Choice, Given
from releq_env.evaluation import Evaluator
from releq_env.export import save_model
from releq_env.export.folder import PACKED
from releq_env.problem import Problem

_MOST = 8  # bits


def choose(given: Given, weighted_bits: float, folder: Path) -> Choice:
    """Search the smallest network that keeps the problem's accuracy constraint, else the most accurate one.

    Both at most as large as the budget. Nothing is remembered of an earlier search.

    Args:
        given: Network, data, and how many assignments may be measured.
        weighted_bits: The budget, bits a weight on average.
        folder: Where the network is written.

    Raises:
        ReLeQError: If no assignment keeps the budget.
    """
    fresh = given.problem.sharing(Evaluator(given.problem.evaluator.source))
    problem = fresh.replace(cost="size", max_cost=bound(fresh, weighted_bits))
    given.problem.evaluator.evaluate_many(given.problem.uniform()[-2:])  # processes start and import: not counted
    begun = time.perf_counter()
    found = releq_env.search(problem, budget=given.evaluations, progress=False)
    seconds = time.perf_counter() - begun
    save_model(found.network, folder)
    return Choice(found.assignment, seconds, folder / PACKED)


def bound(problem: Problem, weighted_bits: float) -> float:
    """Return the share of the largest size that an assignment of so many bits a weight has.

    Args:
        problem: Its layers have up to eight bits.
        weighted_bits: Bits a weight on average.
    """
    saved = sum(layer.weights for layer in problem.layers) * max(0.0, _MOST - weighted_bits) / 8  # bytes
    return 1.0 - saved / problem.size_in_bytes((_MOST,) * problem.num_layers)
