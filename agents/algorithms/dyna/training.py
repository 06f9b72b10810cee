"""How the policy is trained: on ranks of returns, clipped as in PPO, beside imitation of the best."""

from typing import NamedTuple

import numpy as np

from agents.algorithms.dyna.policy import Floats, Indices, Policy, Rollouts


class Training(NamedTuple):
    """Settings of an update.

    Attributes:
        epochs: How often rollouts are used.
        clip: How far the ratio of probabilities may be off 1 before it counts no more.
        entropy: Coefficient of the entropy.
        quantile: Share of the best rollouts that count; 1.0 is the plain gradient.
        imitation: Weight of the log-likelihood of the best assignments.
    """

    epochs: int
    clip: float
    entropy: float
    quantile: float
    imitation: float


def advantages(returns: Indices, quantile: float) -> Floats:
    """Return the advantage of each rollout, of order one whatever the scale of the returns.

    Returns are known by their order only: their scale shrinks as a search comes near the optimum. The plain gradient
    takes their ranks, standardised. The risk-seeking one counts the best `quantile` alone, each over the
    worst of these, after Petersen et al., *Deep Symbolic Regression*, ICLR 2021: what is sought is one very good
    assignment, not a good mean. It ends where one assignment, taken again and again, fills the quantile.

    Args:
        returns: Ranks, higher is better, ties equal; shape `(episodes,)`.
        quantile: In (0, 1].
    """
    ranks = (returns[:, None] > returns).mean(axis=1) + 0.5 * (returns[:, None] == returns).mean(axis=1)  # in (0, 1)
    if quantile < 1.0:
        ranks = np.maximum(ranks - (1.0 - quantile), 0.0) / quantile
        return ranks / (ranks.mean() + 1e-12) / 2.0
    return (ranks - ranks.mean()) / (ranks.std() + 1e-12)


def update(policy: Policy, rollouts: Rollouts, returns: Indices, best: Indices, settings: Training) -> None:
    """Train on rollouts and imitate the best assignments.

    Args:
        policy: Is changed.
        rollouts: Episodes of this policy.
        returns: Their order, as in `advantages`.
        best: What to imitate, shape `(assignments, layers)`; may be none.
        settings: Of the training.
    """
    count, copied = len(rollouts.rows), len(best)
    gain = advantages(returns, settings.quantile)[:, None] if count else np.empty((0, 1))
    rows = np.concatenate([rollouts.rows, best])
    masks = np.concatenate([rollouts.masks, policy.masks(best)])
    entropy = np.repeat([settings.entropy / max(count, 1), 0.0], [count, copied])

    def weigh(logs: Floats) -> Floats:
        ratio = np.exp(logs[:count] - rollouts.logs)
        beyond = np.where(gain > 0.0, ratio > 1.0 + settings.clip, ratio < 1.0 - settings.clip)
        weights = np.full(logs.shape, settings.imitation / max(copied, 1))
        weights[:count] = np.where(beyond, 0.0, ratio * gain) / max(count, 1)
        return weights

    for _ in range(settings.epochs):
        policy.climb(rows, masks, weigh, entropy)
