"""Contracts as classes of tests, which whoever adds a source, a cost, a searcher or an agent subclasses in pytest.

    from releq_env.testing import SearcherContract

    class TestMine(SearcherContract):
        def make(self, problem, seed):
            return Mine(problem, seed)

Needs pytest. `LANDSCAPES` are problems with a known optimum, to develop and to tune on.
"""

import sys
from typing import TYPE_CHECKING

from releq_env.lazy import on_first_use

if TYPE_CHECKING:
    from releq_env.testing.cost import CostContract
    from releq_env.testing.env_agent import EnvAgentContract
    from releq_env.testing.landscapes import LANDSCAPES, Landscape, make_landscape
    from releq_env.testing.searcher import SearcherContract
    from releq_env.testing.source import SourceContract

__all__ = [
    "LANDSCAPES",
    "CostContract",
    "EnvAgentContract",
    "Landscape",
    "SearcherContract",
    "SourceContract",
    "make_landscape",
]

_LAZY = {
    "CostContract": "releq_env.testing.cost",
    "EnvAgentContract": "releq_env.testing.env_agent",
    "LANDSCAPES": "releq_env.testing.landscapes",
    "Landscape": "releq_env.testing.landscapes",
    "SearcherContract": "releq_env.testing.searcher",
    "SourceContract": "releq_env.testing.source",
    "make_landscape": "releq_env.testing.landscapes",
}

if "pytest" in sys.modules:  # what an assertion compares is shown, as in a test module
    for _contract in ("cost", "env_agent", "searcher", "source"):
        sys.modules["pytest"].register_assert_rewrite(f"{__name__}.{_contract}")


__getattr__ = on_first_use(__name__, _LAZY)


def __dir__() -> list[str]:
    return sorted(__all__)
