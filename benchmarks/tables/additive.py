"""What a sum over the layers explains of a table, and what only pairs of layers do."""

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from releq_env.choices import Choices

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_LEAST_ALIKE = 10  # assignments of equal cost among which ranks are compared


class Parts(NamedTuple):
    """Shares of the variance of a table, in [0, 1], by least squares.

    Attributes:
        main: Of the best sum of one number a layer and choice.
        pairs: What the best sum of one number a pair of layers and their choices adds to that.
        rest: Interactions of three and more layers, and the noise of retraining.
        by_pair: What each pair of layers alone adds to `main`, shape `(layers, layers)`, upper triangle.
    """

    main: float
    pairs: float
    rest: float
    by_pair: Floats


def indices_of(bitwidths: NDArray[np.uint8], choices: Choices) -> Indices:
    """Return assignments as indices into the choices, shape `(rows, layers)`."""
    columns = [np.searchsorted(of_layer, column) for of_layer, column in zip(choices, bitwidths.T, strict=True)]
    return np.stack(columns, axis=1)


def summed(matrix: Floats, indices: Indices) -> Floats:
    """Return the sum over the layers of `M[layer, choice]` for every assignment, shape `(rows,)`."""
    total: Floats = np.add.reduce(matrix[np.arange(indices.shape[1]), indices], axis=1)
    return total


def fitted(indices: Indices, values: Floats, choices: Choices) -> Floats:
    """Return the `M[layer, choice]` whose sums are nearest to values, by least squares.

    A choice that does not occur has 0; a shorter row its last one again.
    """
    design = np.concatenate([_one_hot(indices[:, layer], len(each)) for layer, each in enumerate(choices)], axis=1)
    found = np.linalg.lstsq(design, values, rcond=None)[0]
    matrix = np.empty((len(choices), max(map(len, choices))))
    ends = np.cumsum([len(each) for each in choices])
    for row, end, each in zip(matrix, ends, choices, strict=True):
        row[: len(each)] = found[end - len(each) : end]
        row[len(each) :] = found[end - 1]
    return matrix


def parts(indices: Indices, values: Floats, choices: Choices) -> Parts:
    """Return which share of the variance of values is a sum over layers, over pairs, and neither."""
    spread = float(((values - values.mean()) ** 2).sum())
    layers = len(choices)
    by_pair = np.zeros((layers, layers))
    if spread == 0.0 or layers < 2:
        return Parts(1.0, 0.0, 0.0, by_pair)
    columns = [_one_hot(indices[:, layer], len(each)) for layer, each in enumerate(choices)]
    main = np.concatenate(columns, axis=1)
    left = values - main @ np.linalg.lstsq(main, values, rcond=None)[0]
    products = []
    for a, b in itertools.combinations(range(layers), 2):
        products.append(_one_hot(indices[:, a] * len(choices[b]) + indices[:, b], len(choices[a]) * len(choices[b])))
        both = np.concatenate([main, products[-1]], axis=1)
        unexplained = values - both @ np.linalg.lstsq(both, values, rcond=None)[0]
        by_pair[a, b] = max(float(left @ left - unexplained @ unexplained), 0.0) / spread
    every = np.concatenate([main, *products], axis=1)
    rest = values - every @ np.linalg.lstsq(every, values, rcond=None)[0]
    of_main, of_rest = float(left @ left) / spread, float(rest @ rest) / spread
    return Parts(1.0 - of_main, of_main - of_rest, of_rest, by_pair)


def spearman(predicted: Floats, accuracy: Floats) -> float:
    """Return the rank correlation of a small predicted loss with a high accuracy; NaN where one is constant."""
    if len(predicted) < 3 or np.ptp(predicted) == 0.0 or np.ptp(accuracy) == 0.0:
        return float("nan")
    return -float(stats.spearmanr(predicted, accuracy).statistic)


def spearman_at_equal_cost(predicted: Floats, accuracy: Floats, costs: Floats) -> float:
    """Return the mean rank correlation among assignments of equal cost, weighted by how many there are.

    More bits are better by any proxy: this is what it knows beyond that. NaN where no ten cost the same.
    """
    weights, found = [], []
    for cost in np.unique(costs):
        alike = costs == cost
        rank = spearman(predicted[alike], accuracy[alike])
        if alike.sum() >= _LEAST_ALIKE and not np.isnan(rank):
            weights.append(int(alike.sum()))
            found.append(rank)
    return float(np.average(found, weights=weights)) if found else float("nan")


def most_accurate(accuracy: Floats, share: float = 0.2) -> NDArray[np.bool_]:
    """Return which are among the most accurate share, shape of `accuracy`; those as accurate as the last are, too."""
    best: NDArray[np.bool_] = accuracy >= np.quantile(accuracy, 1.0 - share)
    return best


def _one_hot(column: Indices, count: int) -> Floats:
    return np.eye(count)[column]
