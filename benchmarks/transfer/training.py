"""The policy gradient: PPO's clipped objective, with the other searches of the same game as a baseline."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.algorithms.transfer.prior import Floats, Singles
from releq_env.searchers.improvement import Indices

_LARGEST = 0.5  # norm of a gradient

Scores = Callable[[Sequence[Tensor], Tensor], Tensor]
"""Weights and inputs of decisions, the first axis -> scores, shape `(decisions, options)`."""


class Settings(NamedTuple):
    """Of a training.

    Attributes:
        updates: How many.
        games: Of an update.
        searches: Side by side of each game.
        epochs: How often they are used.
        batches: Of an epoch.
        clip: How far the ratio of probabilities may be off 1 before it counts no more.
        entropy: Coefficient of the entropy.
        learning_rate: Of Adam, at the beginning; it falls to 0 linearly.
        final: What the best at the end of a search counts; the rest is its mean on the way.
        imitation: Share of the updates in the beginning in which the largest expected improvement is imitated, ever
            less.
    """

    updates: int
    games: int
    searches: int
    epochs: int = 3
    batches: int = 4
    clip: float = 0.2
    entropy: float = 0.01
    learning_rate: float = 0.005
    final: float = 0.7
    imitation: float = 0.1


class Decisions(NamedTuple):
    """What was decided in an update, one after the other.

    Attributes:
        inputs: What was seen, the first axis is theirs.
        taken: The option that was taken, shape `(decisions,)`.
        logs: Its log-probability.
        gains: Its advantage.
    """

    inputs: Singles
    taken: Indices
    logs: Singles
    gains: Floats


class Learner:
    """Weights, and their optimizer.

    Args:
        weights: By name, before the training.
        scores: The policy.
        settings: Of the training.
    """

    def __init__(self, weights: Mapping[str, Singles], scores: Scores, settings: Settings) -> None:
        self._names = list(weights)
        self._weights = [torch.tensor(weights[name], requires_grad=True) for name in self._names]
        self._scores, self._settings = scores, settings
        self._adam = torch.optim.Adam(self._weights)

    def weights(self) -> dict[str, Singles]:
        """Return the weights by name."""
        arrays = [weight.detach().numpy().copy() for weight in self._weights]
        return dict(zip(self._names, arrays, strict=True))

    def update(
        self, decisions: Decisions, progress: float, generator: np.random.Generator, examples: Indices | None = None
    ) -> float:
        """Train on decisions, and return the mean entropy of the policy in them.

        Args:
            decisions: Of this policy.
            progress: How much of the training is done, in [0, 1).
            generator: Draws the batches.
            examples: Options that are imitated in the beginning, shape `(decisions,)`; `None`: none.
        """
        settings, entropies = self._settings, []
        rate = settings.learning_rate * (1.0 - progress)
        copied = max(1.0 - progress / settings.imitation, 0.0) if examples is not None and settings.imitation else 0.0
        inputs, taken, logs = (torch.from_numpy(np.ascontiguousarray(each)) for each in decisions[:3])
        gains = torch.from_numpy(decisions.gains.astype(np.float32))
        for _ in range(settings.epochs):
            for part in torch.from_numpy(generator.permutation(len(taken))).chunk(settings.batches):
                of_options = torch.log_softmax(self._scores(self._weights, inputs[part]), dim=1)
                ratio = (of_options.gather(1, taken[part, None])[:, 0] - logs[part]).exp()
                clipped = ratio.clamp(1.0 - settings.clip, 1.0 + settings.clip)
                gained = torch.minimum(ratio * gains[part], clipped * gains[part]).mean()
                entropy = -(of_options.exp() * of_options.clamp(min=-30.0)).sum(dim=1).mean()
                loss = -gained - settings.entropy * entropy
                if copied and examples is not None:
                    loss = loss - copied * of_options.gather(1, torch.from_numpy(examples)[part, None]).mean()
                descend(self._adam, self._weights, loss, rate)
                entropies.append(float(entropy.detach()))
        return float(np.mean(entropies))


def descend(adam: torch.optim.Adam, weights: Sequence[Tensor], loss: Tensor, learning_rate: float) -> None:
    """Take a step of Adam down a loss, the norm of its gradient bounded."""
    adam.param_groups[0]["lr"] = learning_rate
    adam.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, _LARGEST)
    adam.step()


def advantages(best: Sequence[Floats], final: float) -> list[Floats]:
    """Return the advantage of every evaluation of searches, on one scale over all games.

    What an evaluation is worth is what the best gains from it on, weighted by how long it lasts. Of that two things
    are taken away: the part that the regret at that moment explains in all games (where much is missing, much is
    gained), and the mean of the other searches of the same game.

    Args:
        best: Of each game the normalised best after each evaluation, shape `(searches, evaluations)`.
        final: What the best at the end counts, see `Settings`.
    """
    gained, missing = zip(*(_gains(each, final) for each in best), strict=True)
    longest = max(each.shape[1] for each in best)
    slopes = np.array([_slope(gained, missing, step) for step in range(longest)])
    found = []
    for ours, regrets in zip(gained, missing, strict=True):
        left = ours - slopes[: ours.shape[1]] * regrets
        others = (left.sum(axis=0) - left) / max(len(left) - 1, 1)
        found.append(left - others)
    scale = np.concatenate([each.ravel() for each in found]).std() + 1e-9
    return [each / scale for each in found]


def _gains(best: Floats, final: float) -> tuple[Floats, Floats]:
    """Return what is gained from each evaluation on, and the regret before it."""
    count = best.shape[1]
    before = np.concatenate([np.full((len(best), 1), -1.0), best[:, :-1]], axis=1)
    lasting = final + (1.0 - final) * (count - np.arange(count)) / count
    gains = (best - before) * lasting
    return np.cumsum(gains[:, ::-1], axis=1)[:, ::-1], 1.0 - before


def _slope(gained: Sequence[Floats], missing: Sequence[Floats], step: int) -> float:
    ours = np.concatenate([each[:, step] for each in gained if each.shape[1] > step])
    regrets = np.concatenate([each[:, step] for each in missing if each.shape[1] > step])
    return float(ours @ regrets / max(regrets @ regrets, 1e-9))
