"""The multiple-choice knapsack: one choice a layer, costs and losses that add up; exact for every budget at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from releq_env.errors import ReLeQError

_LARGEST = 2**22  # assignments of the first layers that are kept


def knapsack_front(
    costs: NDArray[np.float64], losses: NDArray[np.float64], counts: Sequence[int], most: float = np.inf
) -> NDArray[np.int64]:
    """Return the assignments that lose least within some budget, by rising cost.

    Dynamic programming over the layers: of all choices of the first layers those are kept to which no other is as
    cheap and loses less, or as little for less (Nemhauser and Ullmann 1969). No costs are rounded. The answer for a
    budget is the last one that costs no more. Of equals the one with the smaller indices is kept.

    Args:
        costs: `C[layer, choice]`, shape `(layers, most choices)`.
        losses: Likewise, any finite numbers.
        counts: How many choices each layer has.
        most: The largest budget.

    Returns:
        Indices into the choices, shape `(answers, layers)`; none if nothing is as cheap as `most`.

    Raises:
        ReLeQError: If there are more of them than fit into memory.
    """
    rest = np.append(np.cumsum([row[:count].min() for row, count in zip(costs, counts, strict=True)][::-1])[::-1], 0.0)
    cost, loss = np.zeros(1), np.zeros(1)
    steps: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []  # where from, and with which choice
    for layer, count in enumerate(counts):
        sums = (cost[:, None] + costs[layer, :count]).ravel()
        lost = (loss[:, None] + losses[layer, :count]).ravel()
        order = np.lexsort((lost, sums))
        order = order[sums[order] + rest[layer + 1] <= most * (1.0 + 1e-9)]  # whoever asks has the last word
        ordered = lost[order]
        less = np.ones(len(order), dtype=np.bool_)
        less[1:] = ordered[1:] < np.minimum.accumulate(ordered)[:-1]
        order = order[less]
        if len(order) > _LARGEST:
            raise ReLeQError(
                f"the knapsack has more than {_LARGEST} answers after {layer + 1} of {len(counts)} layers; "
                'take fewer bitwidths a layer, or cost="mean_bits"'
            )
        cost, loss = sums[order], lost[order]
        steps.append((order // count, order % count))
    found = np.empty((len(cost), len(counts)), dtype=np.int64)
    at = np.arange(len(cost))
    for layer in reversed(range(len(counts))):
        before, choice = steps[layer]
        found[:, layer] = choice[at]
        at = before[at]
    return found
