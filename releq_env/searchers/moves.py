"""What several searches do with assignments."""

from collections.abc import Container

import numpy as np

from releq_env.problem import Problem
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment


def starts(problem: Problem) -> list[Assignment]:
    """Return the uniform assignments that keep `max_cost`, by rising bitwidth."""
    return [start for start in problem.uniform() if problem.keeps_max_cost(start)]


def neighbours(
    problem: Problem, assignment: Assignment, generator: np.random.Generator | None = None
) -> list[Assignment]:
    """Return the assignments that keep `max_cost` and differ from this one in one layer, by any amount.

    Args:
        problem: The problem.
        assignment: The assignment.
        generator: Draws their order. Default: by layer, then by bitwidth.
    """
    changes = [(layer, bits) for layer, of_layer in enumerate(problem.choices) for bits in of_layer]
    if generator is not None:
        changes = [changes[index] for index in generator.permutation(len(changes))]
    changed = (
        (*assignment[:layer], bits, *assignment[layer + 1 :]) for layer, bits in changes if bits != assignment[layer]
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
            changed = problem.assignment(choices.tolist())
            if problem.keeps_max_cost(changed):
                return changed
    return within_max_cost(problem, problem.assignment(choices.tolist()), generator)
