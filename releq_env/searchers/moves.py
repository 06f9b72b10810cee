"""What several searches do with assignments."""

from collections.abc import Container

import numpy as np

from releq_env.problem import Problem
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment


def neighbours(problem: Problem, assignment: Assignment) -> list[Assignment]:
    """Return the assignments that keep `max_cost` and differ from this one in one layer, by any amount."""
    changed = (
        (*assignment[:layer], bits, *assignment[layer + 1 :])
        for layer, of_layer in enumerate(problem.choices)
        for bits in of_layer
        if bits != assignment[layer]
    )
    return [neighbour for neighbour in changed if problem.keeps_max_cost(neighbour)]


def draw_unknown(random: RandomSearch, known: Container[Assignment]) -> list[Assignment]:
    """Draw one assignment that is not known yet; none, if there is none left."""
    while drawn := random.ask(1):
        if drawn[0] not in known:
            break
    return drawn


def within_max_cost(problem: Problem, assignment: Assignment, generator: np.random.Generator) -> Assignment:
    """Return an assignment that keeps `max_cost`: this one, or with layers in random order made ever cheaper.

    Args:
        problem: The problem.
        assignment: The assignment.
        generator: Draws the order, and the choice of a layer that is made cheaper.
    """
    if problem.keeps_max_cost(assignment):
        return assignment
    choices = problem.indices(assignment)
    for layer in generator.permutation(problem.num_layers):
        costs = problem.costs[layer, : len(problem.choices[layer])]
        cheaper = np.flatnonzero(costs < costs[choices[layer]])
        if len(cheaper):
            choices[layer] = generator.choice(cheaper)
            changed = _assignment(problem, choices)
            if problem.keeps_max_cost(changed):
                return changed
    return within_max_cost(problem, _assignment(problem, choices), generator)


def _assignment(problem: Problem, choices: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Assignment:
    return tuple(bits[index] for bits, index in zip(problem.choices, choices.tolist(), strict=True))
