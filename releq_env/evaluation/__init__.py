"""From an assignment to its validation accuracy."""

from releq_env.evaluation.cache import EvaluationCache, default_cache
from releq_env.evaluation.evaluator import BudgetExhausted, Evaluation, EvaluationListener, Evaluator
from releq_env.evaluation.function import FunctionSource
from releq_env.evaluation.source import Source

__all__ = [
    "BudgetExhausted",
    "Evaluation",
    "EvaluationCache",
    "EvaluationListener",
    "Evaluator",
    "FunctionSource",
    "Source",
    "default_cache",
]
