"""What several searches do with assignments."""

from collections.abc import Container

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
