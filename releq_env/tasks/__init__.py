"""Tasks: a network, its data and split, and the recipes of its trainings."""

from releq_env.tasks.datasets import Dataset, Examples
from releq_env.tasks.pretrained import Pretrained, load_pretrained
from releq_env.tasks.task import TASKS, PretrainingRecipe, RetrainingRecipe, Task, get_task

__all__ = [
    "TASKS",
    "Dataset",
    "Examples",
    "Pretrained",
    "PretrainingRecipe",
    "RetrainingRecipe",
    "Task",
    "get_task",
    "load_pretrained",
]
