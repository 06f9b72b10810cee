"""Optuna's default: a density of what was good over one of what was not."""

from typing import Any

from releq_env.errors import check_whole
from releq_env.problem import Problem
from releq_env.searchers.optuna_study import OptunaSearch


class TPESearch(OptunaSearch):
    """The tree-structured Parzen estimator, in its multivariate form, on the objective.

    Bergstra and others, *Algorithms for Hyper-Parameter Optimization*, NeurIPS 2011; multivariate after Falkner, Klein
    and Hutter, *BOHB*, ICML 2018. Univariate, as Optuna's default is, it takes the layers one by one and finds less.

    Args:
        problem: What is searched.
        seed: Seeds it.
        startup: How many assignments are measured before the sampler proposes any; never fewer than all uniform ones
            and a random one, which are 9 with 8 bitwidths.
        candidates: How many are drawn from the good ones' density for a proposal.

    Raises:
        ReLeQError: If Optuna is not installed, or a number is not accepted.
    """

    def __init__(self, problem: Problem, seed: int = 0, startup: int = 10, candidates: int = 24) -> None:
        candidates = check_whole("candidates", candidates, 1, "")

        def make_sampler(optuna: Any, seed: int) -> Any:
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=True, n_startup_trials=1, n_ei_candidates=candidates
            )

        super().__init__(
            problem,
            seed,
            startup,
            make_sampler=make_sampler,
            directions=["maximize"],
            values=lambda evaluation: [problem.objective(evaluation)],
            tell_known=False,
        )
