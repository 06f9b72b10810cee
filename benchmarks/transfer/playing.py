"""Searches of 20 evaluations, many side by side: what the policy learns from."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from agents.algorithms.transfer.belief import Belief
from agents.algorithms.transfer.prior import Floats, Losses, Singles
from agents.algorithms.transfer.sight import HORIZON, Sight
from benchmarks.transfer.problems import Game
from releq_env.searchers.improvement import Indices

DRAWS = 128  # of the prior: fewer than in a search, which plays but one game
OPEN, TOP = 64, 24  # candidates among which is chosen in training; so many of them promise most, the others are drawn

Choose = Callable[[Singles], Singles]
"""Features of shape `(searches, candidates, features)` -> scores."""


class Played(NamedTuple):
    """Searches of one game, side by side.

    Attributes:
        features: What was seen of the candidates to choose among, shape `(searches, evaluations, open, features)`.
        taken: Which was taken, shape `(searches, evaluations)`.
        logs: Log-probability of that.
        best: Normalised best objective after each evaluation, at least -1, shape `(searches, evaluations)`.
    """

    features: Singles
    taken: Indices
    logs: Singles
    best: Floats


def play(game: Game, choose: Choose, searches: int, generator: np.random.Generator) -> Played:
    """Play a game by drawing from the softmax of the scores.

    Args:
        game: The game, of more than `OPEN + HORIZON` candidates.
        choose: Scores candidates.
        searches: How many side by side; they differ by what is drawn.
        generator: Draws.
    """
    sight, belief = begin(game, searches, generator)
    each, normalised = np.arange(searches), game.normalised
    features, taken, logs, best = [], [], [], [np.full(searches, -1.0)]
    for _ in range(HORIZON):
        gains = sight.improvement(belief)
        keys = generator.random(gains.shape)
        keys[each[:, None], np.argpartition(-gains, TOP, axis=1)[:, :TOP]] += 1.0
        keys[sight.asked] = -1.0
        shown = np.argpartition(-keys, OPEN, axis=1)[:, :OPEN]
        features.append(sight.features(belief, gains)[each[:, None], shown])
        drawn, log = draw(choose(features[-1]), generator)
        taken.append(drawn)
        logs.append(log)
        at = shown[each, drawn]
        best.append(np.maximum(best[-1], normalised[at]))
        sight.observe(at, game.objectives[at], game.relative[at])
        belief.observe(at, sight.scale.modelled(game.relative[at]))
    return Played(np.stack(features, 1), np.stack(taken, 1), np.stack(logs, 1), np.stack(best[1:], 1))


def begin(game: Game, searches: int, generator: np.random.Generator) -> tuple[Sight, Belief]:
    """Return what is seen and believed of a game before anything was evaluated."""
    sight = Sight(game.problem, game.rows, searches)
    losses = Losses(game.problem, DRAWS, generator)(game.rows)
    return sight, Belief(np.arcsinh(losses / np.float32(sight.unit)), sight.unit, searches)


def draw(scores: Singles, generator: np.random.Generator) -> tuple[Indices, Singles]:
    """Draw from the softmax of scores, shape `(searches, options)`; return what was drawn and its log-probability."""
    logs = scores - scores.max(axis=1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    drawn = (logs + generator.gumbel(size=logs.shape)).argmax(axis=1)  # the largest of the sums is a draw
    return drawn, logs[np.arange(len(logs)), drawn].astype(np.float32)
