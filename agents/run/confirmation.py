"""Measures the best assignments again, with retraining seeds that the search has not seen.

The best of many noisy measurements looks better than it is; a second look at other seeds does not.
"""

import sys

import numpy as np

from agents.report.summary import Candidate
from agents.run.folder import RunFolder
from releq_env.evaluation import Evaluation, Source
from releq_env.problem import Problem
from releq_env.searchers.rows import recorded
from releq_env.seeds import each_seed
from releq_env.tables.source import TableSource
from releq_env.workers.waiting import Assignment

BEST = 5
SEEDS = 2


def unseen_seeds(source: Source) -> list[int]:
    """Return up to `SEEDS` retraining seeds that a search has not seen: the next ones; none where there are none.

    A table has no others than it was measured with: its last is followed by its first, and its mean has seen them all.
    """
    if isinstance(source, TableSource):
        searched = source.seed
        others = [] if searched is None else [seed for seed in source.table.whole_seeds if seed != searched]
        return sorted(others, key=lambda seed: (seed < source.retrain_seed, seed))[:SEEDS]
    last = max(each_seed(source.retrain_seed))
    return [seed for seed in range(last + 1, last + 1 + SEEDS) if source.reseeded(seed) is not source]


def confirm(folder: RunFolder, problem: Problem, recommended: Assignment | None = None) -> list[Candidate]:
    """Return the best assignments found, best first, then the uniform ones, as found and as confirmed.

    None of this counts as a distinct evaluation of the run. Where accuracies have no retraining seed there is
    nothing to confirm. The best found keep `max_cost`, unless nothing that was found does.

    Args:
        folder: The run's folder.
        problem: What was searched.
        recommended: Looked at, too, after the best.
    """
    evaluator, source = problem.evaluator, problem.evaluator.source
    seed = source.retrain_seed
    everything = sorted(map(recorded, folder.rows), key=problem.merit, reverse=True)
    evaluations = everything[:BEST]
    kept = [evaluation for evaluation in evaluations if problem.keeps_max_cost(evaluation.bitwidths)]
    found = kept or evaluations[:1]
    found += [each for each in everything if each.bitwidths == recommended and each not in found]
    watched = sys.stderr.isatty()
    uniform = {assignment: evaluator.lookup(assignment) for assignment in problem.uniform()}
    missing = [assignment for assignment, known in uniform.items() if known is None]
    measured = iter(evaluator.reseeded(seed).evaluate_many(missing, progress=watched))
    as_found = found + [next(measured) if known is None else known for known in uniform.values()]
    unseen = unseen_seeds(source)
    if unseen:
        print("measuring the best and the uniform assignments again, with unseen retraining seeds ...", flush=True)
    again = [
        evaluator.reseeded(other).evaluate_many([each.bitwidths for each in as_found], progress=watched)
        for other in unseen
    ]
    candidates = []
    for index, evaluation in enumerate(as_found):
        accuracies = tuple(evaluations[index].accuracy for evaluations in again)
        mean = None
        if accuracies:
            accuracy = float(np.mean(accuracies))
            mean = Evaluation(evaluation.bitwidths, accuracy, accuracy / problem.full_precision_accuracy, 0.0)
        kind = "found" if index < len(found) else "uniform"
        candidates.append(Candidate(kind, evaluation, accuracies, mean))
    return candidates
