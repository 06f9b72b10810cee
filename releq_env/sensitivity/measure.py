"""Measuring sensitivities of a task's or a person's own network."""

import pkgutil
from collections.abc import Sequence
from typing import Any

from releq_env.arithmetic import pinned_arithmetic
from releq_env.choices import Choices
from releq_env.errors import ReLeQError, check_choice
from releq_env.problem import Problem
from releq_env.sensitivity.alone import alone
from releq_env.sensitivity.probe import Probe
from releq_env.sensitivity.registry import IMAGES, PROXIES, TRAINING_FREE
from releq_env.tables.sensitivities import Proxy, Sensitivities


def measure_sensitivities(
    problem: Problem, proxies: Sequence[str] = TRAINING_FREE, images: int = IMAGES
) -> Sensitivities:
    """Measure proxies of every layer at every bitwidth that the problem lets choose.

    Deterministic, on one thread, whatever the process has set. `alone` asks the problem's evaluator, which counts
    it as any other evaluation.

    Args:
        problem: One that retrains a network.
        proxies: Names in `PROXIES`.
        images: How many training images are looked at.

    Raises:
        ReLeQError: In one line, if there is no network, no such proxy, or the data are not to be had.
    """
    source: Any = problem.evaluator.source
    if getattr(source, "retraining", None) is None:
        raise ReLeQError(f"{problem.name} has no network to measure sensitivities of; give them as sensitivities=")
    found = measured(source, problem.choices, proxies, images)
    if "alone" not in proxies:
        return found
    return Sensitivities(found.choices, {**found.proxies, "alone": alone(problem)})


def measured(source: Any, choices: Choices, proxies: Sequence[str], images: int) -> Sensitivities:
    """Return the same of a source that retrains, without what evaluations tell; see `measure_sensitivities`.

    Where several layers share a bitwidth, what they lose is added up.
    """
    for name in proxies:
        check_choice("proxy", name, PROXIES)
    groups = range(len(choices))
    of_layer = tuple(source.every_layer(groups)) if hasattr(source, "every_layer") else tuple(groups)
    found: dict[str, Proxy] = {}
    with pinned_arithmetic():
        probe = Probe(source.retraining, tuple(choices[group] for group in of_layer), images)
        for name in proxies:
            entry = PROXIES[name].measure
            if entry is None:
                continue
            probe.start()
            proxy = (pkgutil.resolve_name(entry) if isinstance(entry, str) else entry)(probe)
            found[name] = Proxy(tuple(_added_up(proxy, of_layer, group) for group in groups), proxy.cost)
    return Sensitivities(choices, found)


def _added_up(proxy: Proxy, of_layer: Sequence[int], group: int) -> tuple[float, ...]:
    rows = [row for row, its in zip(proxy.values, of_layer, strict=True) if its == group]
    return tuple(map(sum, zip(*rows, strict=True)))
