"""Deep quantization as a Gymnasium environment (ReLeQ, arXiv 1811.01704).

Importing this package registers the environments; names that need torch are imported on first use.
"""

import importlib.util
from typing import TYPE_CHECKING

from releq_env.errors import ReLeQError
from releq_env.lazy import on_first_use
from releq_env.registration import register_envs

if TYPE_CHECKING:
    from releq_env.env import ReLeQEnv
    from releq_env.export import load_packed, save_packed
    from releq_env.finalizing import finalize
    from releq_env.problem import Problem
    from releq_env.sb3_vec_env import ReLeQVecEnv
    from releq_env.searchers.api import search
    from releq_env.searchers.result import SearchResult
    from releq_env.tables import AccuracyTable
    from releq_env.tasks import TASKS, Task
    from releq_env.tasks.final import FinalRecipe
    from releq_env.vector_env import ReLeQVectorEnv
    from releq_env.wrappers import ContinuousAction, OneShot, WithinMask

__version__ = "0.1.0"
__all__ = [
    "TASKS",
    "AccuracyTable",
    "ContinuousAction",
    "FinalRecipe",
    "OneShot",
    "Problem",
    "ReLeQEnv",
    "ReLeQError",
    "ReLeQVectorEnv",
    "SearchResult",
    "Task",
    "WithinMask",
    "__version__",
    "finalize",
    "load_packed",
    "save_packed",
    "search",
]
if importlib.util.find_spec("stable_baselines3") is not None:  # an extra; `import *` works without it
    __all__ += ["ReLeQVecEnv"]

_LAZY = {
    "AccuracyTable": "releq_env.tables",
    "FinalRecipe": "releq_env.tasks.final",
    "Problem": "releq_env.problem",
    "finalize": "releq_env.finalizing",
    "load_packed": "releq_env.export",
    "save_packed": "releq_env.export",
    "search": "releq_env.searchers.api",
    "SearchResult": "releq_env.searchers.result",
    "ReLeQEnv": "releq_env.env",
    "ReLeQVectorEnv": "releq_env.vector_env",
    "ReLeQVecEnv": "releq_env.sb3_vec_env",
    "TASKS": "releq_env.tasks",
    "Task": "releq_env.tasks",
    "OneShot": "releq_env.wrappers",
    "ContinuousAction": "releq_env.wrappers",
    "WithinMask": "releq_env.wrappers",
}


__getattr__ = on_first_use(__name__, _LAZY)


def __dir__() -> list[str]:
    return sorted(__all__)


register_envs()
