"""The searchers by name."""

import pkgutil
from collections.abc import Callable
from typing import Any

from releq_env.errors import check_choice
from releq_env.problem import Problem
from releq_env.searchers.base import Searcher

SEARCHERS: dict[str, str | Callable[..., Searcher]] = {
    "random": "releq_env.searchers.random_search:RandomSearch",
    "local": "releq_env.searchers.local:LocalSearch",
    "gp": "releq_env.searchers.gp:GPSearch",
    "annealing": "releq_env.searchers.annealing:Annealing",
    "evolution": "releq_env.searchers.evolution:Evolution",
    "greedy": "releq_env.searchers.greedy:Greedy",
    "fisher_lp": "releq_env.searchers.fisher_lp:FisherLP",
    "fisher_gp": "releq_env.searchers.fisher_gp:FisherGP",
    "tpe": "releq_env.searchers.tpe:TPESearch",
    "nsga2": "releq_env.searchers.nsga2:NSGA2",
    "exhaustive": "releq_env.searchers.exhaustive:Exhaustive",
}
"""Name -> class or function, or `"module:name"` of it. Add one of your own and its name is accepted."""


def make_searcher(name: str, problem: Problem, seed: int = 0, **hyperparameters: Any) -> Searcher:
    """Return a new searcher.

    Args:
        name: A name in `SEARCHERS`.
        problem: What it is to search.
        seed: Seeds it.
        **hyperparameters: Of its own.

    Raises:
        ReLeQError: If there is no such searcher.
    """
    check_choice("searcher", name, SEARCHERS)
    factory = SEARCHERS[name]
    if isinstance(factory, str):
        factory = pkgutil.resolve_name(factory)
    return factory(problem, seed, **hyperparameters)
