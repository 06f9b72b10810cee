"""The best that was paid for, as an example to the policy."""

from collections.abc import Mapping

import numpy as np

from agents.algorithms.dyna.policy import Indices
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.workers.waiting import Assignment


def best_rows(problem: Problem, told: Mapping[Assignment, Evaluation], count: int) -> Indices:
    """Return the best evaluated assignments as indices into the choices, shape `(at most count, layers)`.

    The policy's log-likelihood of them is raised beside the policy gradient: priority-queue training (Abolafia,
    Norouzi, Shen, Zhao and Le, *Neural Program Synthesis with Priority Queue Training*, 2018).

    Args:
        problem: Says what is best.
        told: All evaluations.
        count: How many are imitated.
    """
    best = sorted(told, key=lambda assignment: problem.merit(told[assignment]))[max(len(told) - count, 0) :]
    return np.array([problem.indices(each) for each in best], dtype=np.int64).reshape(-1, problem.num_layers)
