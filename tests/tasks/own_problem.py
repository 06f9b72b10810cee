"""A problem of a network of one's own, by name: `problem=tests.tasks.own_problem:make_problem`."""

from typing import Any

from releq_env import Problem
from releq_env.tasks import RetrainingRecipe
from tests.tasks.own_networks import CASES


def make_problem() -> Problem:
    """Return the problem of a network for signals, with a recipe that is found."""
    model, training, validation = CASES["signals"].made()
    return Problem.from_network(model, training, validation, seconds=0.2, precision="fp32")


def with_workers(workers: int = 2, **arguments: Any) -> Problem:
    """Return one of two worker processes."""
    model, training, validation = CASES["signals"].made()
    recipe = RetrainingRecipe(images=32, batch_size=16)
    return Problem.from_network(
        model, training, validation, retraining=recipe, precision="fp32", workers=workers, **arguments
    )
