"""Measures the best assignments again, with retraining seeds that the search has not seen.

The best of many noisy measurements looks better than it is; a second look at other seeds does not.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from agents.run_folder import RunFolder, merit
from releq_env import ReLeQEnv
from releq_env.evaluation import CachedEvaluator, Evaluation

BEST = 5
SEEDS = 2


def confirm(folder: RunFolder, env: ReLeQEnv, evaluator: CachedEvaluator) -> list[dict[str, Any]]:
    """Return the best assignments found and all uniform ones, as found and as confirmed.

    None of this counts as a distinct evaluation of the run.

    Args:
        folder: The run's folder.
        env: Any environment of the run.
        evaluator: The run's evaluator.

    Returns:
        A dictionary a candidate, best first, then the uniform ones: `kind` (`"found"` or `"uniform"`),
        `bitwidths`, `accuracy` (the search's seed), `confirmed` (accuracy by unseen seed),
        `confirmed_accuracy` (their mean), `confirmed_relative_accuracy`, `confirmed_reward`.
    """
    best = sorted(folder.rows, key=merit, reverse=True)[:BEST]
    found = [row["bitwidths"] for row in best]
    uniform = [(bits,) * len(env.layers) for bits in env.bitwidths]
    assignments = found + uniform
    first = evaluator.retraining.retrain_seed
    by_seed: list[Sequence[Evaluation]] = [
        evaluator.reseeded(seed).evaluate_many(assignments, progress=sys.stderr.isatty())
        for seed in range(first, first + 1 + SEEDS)
    ]
    candidates = []
    for index, assignment in enumerate(assignments):
        as_found, *again = (evaluations[index] for evaluations in by_seed)
        accuracy = float(np.mean([evaluation.accuracy for evaluation in again]))
        relative = accuracy / evaluator.full_precision_accuracy
        candidates.append(
            {
                "kind": "found" if index < len(found) else "uniform",
                "bitwidths": assignment,
                "accuracy": as_found.accuracy,
                "relative_accuracy": as_found.relative_accuracy,
                "reward": env.objective(as_found),
                "confirmed": [evaluation.accuracy for evaluation in again],
                "confirmed_accuracy": accuracy,
                "confirmed_relative_accuracy": relative,
                "confirmed_reward": env.objective(Evaluation(assignment, accuracy, relative, 0.0)),
            }
        )
    return candidates
