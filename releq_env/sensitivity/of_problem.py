"""Where a search gets sensitivities from: given, stored in a table, or measured at once. Needs no torch for a table."""

import json
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from releq_env.errors import ReLeQError, check_choice, check_whole
from releq_env.problem import Problem
from releq_env.sensitivity.registry import IMAGES, PROXIES
from releq_env.tables import TableSource
from releq_env.tables.sensitivities import Sensitivities, given

_MEASURED: WeakKeyDictionary[Any, dict[Hashable, Sensitivities]] = WeakKeyDictionary()
"""By source: a process that begins several searches measures once."""


def additive_losses(
    problem: Problem, proxy: str = "fisher", sensitivities: Any = None, images: int = IMAGES
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return how much each choice of each layer loses by a proxy, and where that is from with what it cost.

    Args:
        problem: From a table the stored values are taken; those of a network are measured now, once a process. A
            source of one's own may have an attribute `sensitivities`: a row a layer, a number for each bitwidth that
            is available.
        proxy: A name in `PROXIES` of one that needs no training.
        sensitivities: Numbers to take instead, a row a layer and one a choice.
        images: How many training images are looked at where they are measured.

    Returns:
        Shape `(layers, most choices)`, and a JSON-able description: `proxy`, `from` and `cost`.

    Raises:
        ReLeQError: In one line, if there are none to be had.
    """
    if sensitivities is not None:
        known, where = given(sensitivities, problem.choices), "sensitivities="
        return known.matrix("given", problem.choices), {"proxy": "given", "from": where, "cost": {}}
    check_choice("proxy", proxy, [name for name, entry in PROXIES.items() if entry.training_free and entry.measure])
    check_whole("images", images, 1)
    source = problem.evaluator.source
    of_source = getattr(source, "sensitivities", None)
    if of_source is not None:
        known = given(of_source, problem.available)
        return known.matrix("given", problem.choices), {"proxy": "given", "from": "the source", "cost": {}}
    if isinstance(source, TableSource):
        stored, where = source.table.sensitivities, f"the table {source.table.name}"
        if stored is None or proxy not in stored.proxies:
            raise ReLeQError(
                f"the table {source.table.name!r} holds no sensitivities {proxy!r}; build it again with "
                "python -m benchmarks.tables.build, or give sensitivities="
            )
        known = stored
    elif getattr(source, "retraining", None) is not None:
        known, where = _measured(problem, proxy, images), "measured"
    else:
        raise ReLeQError(
            f"{problem.name} has neither a table nor a network to take sensitivities from; give sensitivities=: a row "
            "a layer, a number for each of its choices"
        )
    cost = json.loads(json.dumps(vars(known.proxies[proxy].cost)))
    return known.matrix(proxy, problem.choices), {"proxy": proxy, "from": where, "cost": cost}


def _measured(problem: Problem, proxy: str, images: int) -> Sensitivities:
    from releq_env.sensitivity.measure import measured  # only now: it needs torch

    source: Any = problem.evaluator.source
    kept = _MEASURED.setdefault(source, {})
    key = (problem.choices, proxy, images)
    if key not in kept:
        kept[key] = measured(source, problem.choices, [proxy], images)
    return kept[key]
