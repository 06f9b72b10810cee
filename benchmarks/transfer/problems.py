"""What the policy is trained on: made-up networks, and tables, each time with another decision."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from agents.algorithms.transfer.prior import Floats, Losses
from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem
from releq_env.searchers.improvement import Indices
from releq_env.tables import AccuracyTable

COSTS = ("mean_bits", "size", "weighted_bits", "energy", "bitops")
_LARGEST = 5000  # assignments of a made-up network
_FEWEST = 100  # candidates
_LEAST_PASSING, _MOST_PASSING = 0.015, 0.97  # share of the candidates; or none, under a bound on the cost
_SOUND, _SOUND_BOUNDED = 0.97, 0.8  # relative accuracy of the best candidate: else nobody would search there
_TRIES = 500


class Game(NamedTuple):
    """A problem all of whose candidates are known.

    Attributes:
        problem: Layers, choices, costs and objective.
        rows: The candidates, all assignments that keep `max_cost` or a draw of them; indices into the choices.
        relative: Their relative accuracies, shape `(candidates,)`.
        objectives: Their objectives.
    """

    problem: Problem
    rows: Indices
    relative: Floats
    objectives: Floats

    @property
    def normalised(self) -> Floats:
        """The objectives, 0 the mean and 1 the best."""
        scale = self.objectives.max() - self.objectives.mean()
        return (self.objectives - self.objectives.mean()) / (scale or 1.0)


def made_up(generator: np.random.Generator, most: int = 512) -> Game:
    """Return the game of a network that does not exist.

    Args:
        generator: Draws it.
        most: Largest number of candidates.
    """
    for _ in range(_TRIES):
        layers = int(generator.integers(3, 9))
        choices = _choices(generator, layers)
        full_precision = float(generator.uniform(0.6, 0.99))
        least = float(generator.choice([0.97, 0.98, 0.99, 0.995, 0.998, 1.0]))
        decision: dict[str, Any] = {"cost": str(generator.choice(COSTS)), "min_relative_accuracy": least}
        infos = _layers(generator, layers)
        problem = Problem.from_function(layers, choices, _unasked, full_precision, infos, **decision)
        if (game := _game(problem, _relative(problem, generator), generator, most)) is not None:
            return game
    raise AssertionError("no made-up network is worth a search")


def of_table(table: AccuracyTable, generator: np.random.Generator, most: int = 512) -> Game:
    """Return a game of a table: some of its bitwidths, one of its seeds, and a decision of another kind.

    Args:
        table: A complete one.
        generator: Draws it.
        most: Largest number of candidates.
    """
    widest = max(map(len, table.choices))
    for _ in range(_TRIES):
        kept = generator.permutation(widest)[: generator.integers(min(3, widest), widest + 1)]
        bits = [[of_layer[index] for index in sorted(kept) if index < len(of_layer)] for of_layer in table.choices]
        losses = 1.0 - table.values(None) / table.full_precision_accuracy
        least = 1.0 - float(np.quantile(np.maximum(losses, 0.0), generator.uniform(0.02, 0.8)))
        own = generator.random() < 0.3
        decision: dict[str, Any] = {"cost": str(generator.choice(COSTS)), "bitwidths": bits}
        decision |= {"min_relative_accuracy": table.min_relative_accuracy if own else min(max(least, 0.5), 1.0)}
        problem = Problem.from_table(table, seed=int(generator.choice(table.whole_seeds)), **decision)
        source = problem.landscape

        def relative(rows: Indices, problem: Problem = problem, source: Any = source) -> Floats:
            order = np.ravel_multi_index(tuple(rows.T), tuple(map(len, problem.choices)))  # rows are lexicographic
            return source.relative[order]

        if (game := _game(problem, relative, generator, most)) is not None:
            return game
    raise AssertionError(f"nothing of {table.name} is worth a search")


def _game(problem: Problem, relative: Any, generator: np.random.Generator, most: int) -> Game | None:
    """Return the game of a problem, with a bound now and then; `None` where it is not worth a search."""
    counts = tuple(map(len, problem.choices))
    rows = np.stack(np.unravel_index(np.arange(math.prod(counts)), counts), axis=1)
    costs = problem.cost_terms(rows)[:, 0]
    if problem.min_relative_accuracy == 1.0 or generator.random() < 0.25:
        bound = float(np.quantile(costs, generator.uniform(0.1, 0.7)))
        problem = problem.replace(max_cost=bound)
        rows, costs = rows[costs <= bound], costs[costs <= bound]
    if len(rows) > most:
        drawn = generator.permutation(len(rows))[:most]
        rows, costs = rows[drawn], costs[drawn]
    if len(rows) < _FEWEST:
        return None
    found = relative(rows)
    if found.max() < (_SOUND if problem.max_cost is None else _SOUND_BOUNDED):
        return None
    least = problem.min_relative_accuracy
    objectives = np.where(found >= least, 1.0 - costs**0.2, (found - least) / least)
    best, passing = int(objectives.argmax()), float((found >= least).mean())
    known = costs[best] == costs.min() or passing > _MOST_PASSING  # anybody finds the smallest one
    lottery = passing < _LEAST_PASSING and (passing > 0.0 or problem.max_cost is None)
    if known or lottery:
        return None
    return Game(problem, rows, found, objectives)


def _relative(problem: Problem, generator: np.random.Generator) -> Any:
    """Return a function from rows to relative accuracies of a made-up network."""
    noise = math.exp(generator.uniform(math.log(0.0003), math.log(0.006)))
    if generator.random() < 0.5:
        losses: Any = Losses(problem, 1, generator)
    else:
        losses = _Stairs(problem, generator)
    rough = generator.uniform(0.0, 0.3) * (generator.random() < 0.5)

    def relative(rows: Indices) -> Floats:
        lost = losses(rows)[0] * np.exp(rough * generator.normal(size=len(rows)))
        found: Floats = np.clip(1.0 - lost + generator.normal(0.0, noise, len(rows)), 0.0, None)
        return found

    return relative


class _Stairs:
    """Losses that fall from bitwidth to bitwidth by random steps: no curve of the prior."""

    def __init__(self, problem: Problem, generator: np.random.Generator) -> None:
        layers, width = problem.costs.shape
        steps = generator.gamma(0.5, 1.0, (layers, width)) * generator.uniform(0.2, 0.7) ** np.arange(width)
        alone = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
        alone -= alone[:, -1:] * generator.random()
        total = math.exp(generator.uniform(math.log(0.02), 0.0))
        weights = np.exp(generator.normal(0.0, generator.uniform(0.2, 1.2), (layers, 1)))
        self._alone = np.clip(
            alone / alone.max(axis=1, keepdims=True) * weights / weights.sum() * total * 1.5, 0.0, 0.95
        )
        self._power = float(generator.choice([1.0, 1.0, 2.0, 4.0]))
        self._pairs = np.triu(generator.normal(size=(layers, layers)), 1) * generator.choice([0.0, 0.4, 0.8])

    def __call__(self, rows: Indices) -> Floats:
        alone = self._alone[np.arange(rows.shape[1]), rows]
        together = (alone**self._power).sum(axis=1) ** (1.0 / self._power)
        roots = np.sqrt(alone)
        together = np.maximum(together + ((roots @ self._pairs) * roots).sum(axis=1), alone.max(axis=1) / 2.0)
        return np.minimum(together, 0.98)[None]


def _choices(generator: np.random.Generator, layers: int) -> list[int]:
    most = int(_LARGEST ** (1.0 / layers))
    count = int(generator.integers(min(3, most), min(8, most) + 1))
    lowest = int(generator.integers(1, 3))
    return sorted((lowest + generator.permutation(9 - lowest)[: min(count, 9 - lowest)]).tolist())


def _layers(generator: np.random.Generator, layers: int) -> list[LayerInfo]:
    """Return convolutions that widen and shrink their images, then fully connected layers."""
    convolutions = int(generator.integers(1, layers)) if layers > 1 else 1
    side = int(generator.choice([8, 16, 28, 32]))
    channels = int(generator.choice([1, 3]))
    wide = int(generator.choice([6, 8, 16, 32]))
    found = []
    for index in range(layers):
        if index < convolutions:
            k, c, n = int(generator.choice([1, 3, 5])), channels, int(wide * generator.choice([1, 1, 2]))
            weights = n * c * k * k
            macs = weights * side * side
            side = max(side // int(generator.choice([1, 2])), 2)
            channels = wide = n
        else:
            c = channels * (side * side if index == convolutions else 1)
            n = 10 if index == layers - 1 else int(generator.choice([32, 64, 128, 500]))
            k, weights = 0, n * c
            macs, channels = weights, n
        std = float(weights / n) ** -0.5 * math.exp(generator.normal(0.0, 0.3))
        found.append(LayerInfo(f"layer{index}", n, c, k, weights, macs, std, scales=n))
    return found


def _unasked(bitwidths: Sequence[int]) -> float:
    raise AssertionError("a game looks its accuracies up")
