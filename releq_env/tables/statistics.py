"""Pure functions of arrays, in which every row is an assignment."""

import numpy as np
from numpy.typing import NDArray


def competition_ranks(keys: tuple[NDArray[np.float64], ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank rows by their keys, most first; rows with equal keys share a rank.

    Args:
        keys: The most important first, each of shape `(rows,)`, without NaN.

    Returns:
        The rows by rank, of equals the earlier one first, and the rank of every row: 1 + how many are better.
    """
    table = np.stack([-key for key in keys])
    order = np.lexsort(table[::-1])
    ordered = table[:, order]
    differs = np.ones(len(order), dtype=np.bool_)
    differs[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    first = np.maximum.accumulate(np.where(differs, np.arange(len(order)), 0))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = first + 1
    return order, ranks


def nondominated(cost: NDArray[np.float64], accuracy: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rows that no other row beats: cheaper and as accurate, or more accurate and as cheap.

    Args:
        cost: Shape `(rows,)`.
        accuracy: Shape `(rows,)`.

    Returns:
        By rising cost; rows with the same cost and accuracy in their own order.
    """
    order = np.lexsort((-accuracy, cost))
    best = np.maximum.accumulate(accuracy[order])
    before = np.concatenate([[-np.inf], best[:-1]])  # the most accurate of what comes earlier
    first = np.concatenate([[True], cost[order][1:] != cost[order][:-1]])
    # Of rows of one cost only the most accurate count, and only against what is cheaper.
    cheaper = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    kept = (accuracy[order] > before[cheaper]) & (accuracy[order] == accuracy[order][cheaper])
    return order[kept]


def hypervolume(cost: NDArray[np.float64], accuracy: NDArray[np.float64], reference: tuple[float, float]) -> float:
    """Return the area that points dominate.

    Args:
        cost: Shape `(points,)`.
        accuracy: Shape `(points,)`.
        reference: The cost and the accuracy that bound the area; points beyond them count nothing.
    """
    front = nondominated(cost, accuracy) if len(cost) else np.empty(0, dtype=np.int64)
    front = front[(cost[front] < reference[0]) & (accuracy[front] > reference[1])]
    rises = np.diff(accuracy[front], prepend=reference[1])
    return float(((reference[0] - cost[front]) * rises).sum())


def local_optima(bitwidths: NDArray[np.uint8], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows to which no row with another bitwidth of one layer is better.

    Args:
        bitwidths: Distinct assignments, shape `(rows, layers)`; those that are missing are nobody's neighbours.
        ranks: Smaller is better, shape `(rows,)`.
    """
    optimal = np.ones(len(ranks), dtype=np.bool_)
    for layer in range(bitwidths.shape[1]):
        others = np.delete(bitwidths, layer, axis=1)
        order = np.lexsort(others.T) if others.shape[1] else np.arange(len(ranks))
        ordered = others[order]
        differs = np.ones(len(order), dtype=np.bool_)
        differs[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        starts = np.flatnonzero(differs)
        best = np.minimum.reduceat(ranks[order], starts)
        optimal[order] &= ranks[order] == np.repeat(best, np.diff(starts, append=len(order)))
    return np.flatnonzero(optimal)


def expected_best(regrets: NDArray[np.float64], draws: int) -> NDArray[np.float64]:
    """Return the expected least regret among n rows drawn at random, none twice, for n = 1 to `draws`.

    Exact, by order statistics: of N rows the best i are all missed with the probability C(N - i, n) / C(N, n).

    Args:
        regrets: Ascending, shape `(rows,)`.
        draws: At most as many as there are rows.
    """
    count = len(regrets)
    with np.errstate(invalid="ignore"):
        steps = np.diff(regrets)  # what is lost if the best i are missed and not the next
    steps[regrets[1:] == regrets[:-1]] = 0.0  # infinite ones too
    left = count - 1 - np.arange(count - 1)  # rows that are not among the best i, i from 1
    missed = np.ones(count - 1)
    expected = np.empty(draws)
    for drawn in range(draws):
        missed *= np.maximum(left - drawn, 0) / (count - drawn)
        possible = missed > 0
        expected[drawn] = regrets[0] + float((steps[possible] * missed[possible]).sum())
    return expected
