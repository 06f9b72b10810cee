"""One layer at a time, with retraining: what a person without a search would measure."""

from collections.abc import Callable

from releq_env.choices import Choices
from releq_env.problem import Problem
from releq_env.tables.sensitivities import Cost, Proxy
from releq_env.workers.waiting import Assignment


def alone(problem: Problem) -> Proxy:
    """Return the validation accuracy that is lost with one layer at each bitwidth, all others at their most.

    Every accuracy is an ordinary evaluation of the problem's evaluator, counted as such.
    """
    evaluations = problem.evaluator.evaluate_many(one_at_a_time(problem.choices))
    known = {each.bitwidths: each.accuracy for each in evaluations}
    return from_accuracies(problem.choices, known.__getitem__, sum(each.seconds for each in evaluations))


def one_at_a_time(choices: Choices) -> list[Assignment]:
    """Return the assignments of which all layers but at most one have their most bits, that of all most first."""
    most = tuple(of_layer[-1] for of_layer in choices)
    others = [
        (*most[:layer], bits, *most[layer + 1 :]) for layer, of_layer in enumerate(choices) for bits in of_layer[:-1]
    ]
    return [most, *others]


def from_accuracies(choices: Choices, accuracy: Callable[[Assignment], float], seconds: float) -> Proxy:
    """Return the same of accuracies that are known.

    Args:
        choices: The bitwidths of each layer.
        accuracy: Of an assignment of `one_at_a_time`.
        seconds: What they took.
    """
    most, *_ = one_at_a_time(choices)
    full = accuracy(most)
    values = tuple(
        tuple(full - accuracy((*most[:layer], bits, *most[layer + 1 :])) for bits in of_layer)
        for layer, of_layer in enumerate(choices)
    )
    return Proxy(values, Cost(round(seconds, 3), evaluations=len(one_at_a_time(choices))))
