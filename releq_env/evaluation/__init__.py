"""From an assignment to its validation accuracy."""

from releq_env.evaluation.cache import EvaluationCache, default_cache
from releq_env.evaluation.cached import BudgetExhausted, CachedEvaluator
from releq_env.evaluation.evaluator import Evaluation, Evaluator
from releq_env.evaluation.pool import check_parallel
from releq_env.evaluation.retraining import RetrainingEvaluator
from releq_env.tasks import Pretrained, Task

__all__ = [
    "BudgetExhausted",
    "CachedEvaluator",
    "Evaluation",
    "EvaluationCache",
    "Evaluator",
    "RetrainingEvaluator",
    "check_parallel",
    "default_cache",
    "make_evaluator",
]


def make_evaluator(
    task: Task,
    pretrained: Pretrained,
    *,
    cache: str | None = "auto",
    parallel: str = "processes",
    workers: int | None = None,
    **retraining: object,
) -> CachedEvaluator:
    """Return the live evaluator of a task, with its cache.

    Args:
        task: The task.
        pretrained: Its full-precision network.
        cache: A file, `"auto"` for the one in the cache folder, `None` for memory only.
        parallel: How several assignments are measured at once; see `CachedEvaluator`.
        workers: In how many processes or actors; see there.
        **retraining: Further arguments of `RetrainingEvaluator`.

    Raises:
        ReLeQError: If an argument is not accepted.
    """
    live = RetrainingEvaluator(task, pretrained, **retraining)  # type: ignore[arg-type]  # checked there
    evaluator = CachedEvaluator(live, None, parallel, workers)
    if cache is not None:  # only now, with all arguments checked, is a file made
        evaluator.cache = EvaluationCache(default_cache() if cache == "auto" else cache)
    return evaluator
