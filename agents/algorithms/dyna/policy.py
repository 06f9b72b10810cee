"""A policy over assignments, layer by layer, and its gradient."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]

_CLOSED = -1e9  # the logit of an action that is closed
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of Adam


class Rollouts(NamedTuple):
    """Episodes of the decision process, each a whole assignment.

    Attributes:
        rows: The action taken at each layer, an index into its choices; shape `(episodes, layers)`.
        masks: Which actions were open, shape `(episodes, layers, actions)`.
        logs: Log-probability of each action when it was taken, shape `(episodes, layers)`.
    """

    rows: Indices
    masks: Masks
    logs: Floats

    def only(self, index: int) -> "Rollouts":
        """Return one of the episodes."""
        part = slice(index, index + 1)
        return Rollouts(self.rows[part], self.masks[part], self.logs[part])

    @classmethod
    def joined(cls, parts: "Sequence[Rollouts]") -> "Rollouts":
        """Return the episodes of several together."""
        rows, masks, logs = ([getattr(part, name) for part in parts] for name in cls._fields)
        return cls(np.concatenate(rows), np.concatenate(masks), np.concatenate(logs))


class Policy:
    """Gives each layer's action a probability that depends on the actions before it.

    A masked autoencoder (MADE: Germain, Gregor, Murray and Larochelle, ICML 2015) with one hidden layer and direct
    connections: the logits of layer `l` see the one-hot actions of the layers before `l`, and nothing else. These, and
    what is fixed in a problem, are the whole state of the decision process. One pass gives the probabilities
    of a whole episode, which a network over the environment's observations needs a pass a layer for. At first
    all open actions are equally likely.

    NumPy, with the gradient by hand: networks of this size are bound by the overhead of a call, and the number of
    threads of torch, which retraining uses in the same process, is left alone.

    Args:
        layers: How many decisions an episode has.
        actions: How many actions there are at most.
        open_actions: `(layer, rows) -> masks` of shape `(episodes, actions)`, from the actions taken before the layer.
        generator: Draws weights and actions.
        hidden: Width of the hidden layer.
        learning_rate: Of Adam.
    """

    def __init__(
        self,
        layers: int,
        actions: int,
        open_actions: Callable[[int, Indices], Masks],
        generator: np.random.Generator,
        hidden: int = 32,
        learning_rate: float = 0.01,
    ) -> None:
        self.layers, self.actions = layers, actions
        self._open, self._generator, self._rate = open_actions, generator, learning_rate
        width = layers * actions
        self._of = np.repeat(np.arange(layers), actions)  # the layer of each input, and of each logit
        degree = np.arange(hidden) % max(layers - 1, 1)  # the last layer that a hidden unit sees
        shapes = {"inner": (width, hidden), "inner_bias": (hidden,), "outer": (hidden, width)}
        shapes |= {"direct": (width, width), "bias": (width,)}
        self._flat = np.zeros(sum(int(np.prod(shape)) for shape in shapes.values()))
        self.weights = _views(self._flat, shapes)
        self._gradient = np.zeros_like(self._flat)
        self._gradients = _views(self._gradient, shapes)
        self._seen = (self._of[:, None] <= degree).astype(float)  # the masks of the weights
        self._shown = (degree[:, None] < self._of).astype(float)
        self._before = (self._of[:, None] < self._of).astype(float)
        self.weights["inner"][:] = generator.normal(0.0, 1.0, (width, hidden)) * self._seen
        self._moments = np.zeros((2, len(self._flat)))
        self._updates = 0

    def allowed(self, name: str) -> Floats:
        """Return which weights of that name an autoregressive policy may have: 1, or 0 where they are none."""
        masks = {"inner": self._seen, "outer": self._shown, "direct": self._before}
        return masks.get(name, np.ones_like(self.weights[name]))

    def sample(self, episodes: int, explore: float = 0.0) -> Rollouts:
        """Draw whole assignments.

        Args:
            episodes: How many.
            explore: Share of the actions that are drawn uniformly of those that are open, not by the policy.
        """
        weights = self.weights
        rows = np.zeros((episodes, self.layers), dtype=np.int64)
        masks = np.empty((episodes, self.layers, self.actions), dtype=np.bool_)
        logs = np.empty((episodes, self.layers))
        inner = np.tile(weights["inner_bias"], (episodes, 1))
        direct = np.tile(weights["bias"], (episodes, 1))
        each = np.arange(episodes)
        for layer in range(self.layers):
            part = slice(layer * self.actions, (layer + 1) * self.actions)
            masks[:, layer] = self._open(layer, rows)
            logits = direct[:, part] + np.tanh(inner) @ weights["outer"][:, part]
            of_layer = _log_softmax(logits, masks[:, layer])
            noise = self._generator.gumbel(size=of_layer.shape)  # the largest of the sums is a draw
            explored = self._generator.random((episodes, 1)) < explore
            drawn = np.where(explored, np.where(masks[:, layer], 0.0, _CLOSED), of_layer)
            rows[:, layer] = (drawn + noise).argmax(axis=1)
            logs[:, layer] = of_layer[each, rows[:, layer]]
            taken = part.start + rows[:, layer]
            inner += weights["inner"][taken]
            direct += weights["direct"][taken]
        return Rollouts(rows, masks, logs)

    def masks(self, rows: Indices) -> Masks:
        """Return which actions were open at each layer of given episodes, shape `(episodes, layers, actions)`."""
        return np.stack([self._open(layer, rows) for layer in range(self.layers)], axis=1)

    def logs(self, rows: Indices, masks: Masks) -> Floats:
        """Return the log-probability of every action, shape `(episodes, layers, actions)`."""
        return self._forward(rows, masks)[2]

    def climb(
        self, rows: Indices, masks: Masks, weigh: Callable[[Floats], Floats], entropy: Floats, clip: float = 1.0
    ) -> None:
        """Take a step of Adam up `sum(weight * log-probability) + sum(entropy coefficient * entropy)`.

        Args:
            rows: Actions taken, shape `(episodes, layers)`.
            masks: Which were open.
            weigh: From the log-probabilities of the actions taken, shape `(episodes, layers)`, to their weights.
            entropy: Coefficient of each episode, shape `(episodes,)`.
            clip: Largest norm of the gradient.
        """
        self.gradient(rows, masks, weigh, entropy)
        norm = float(np.sqrt(self._gradient @ self._gradient))
        step = self._gradient * min(1.0, clip / (norm + 1e-12))
        self._updates += 1
        first, second = self._moments
        first += (1.0 - _BETAS[0]) * (step - first)
        second += (1.0 - _BETAS[1]) * (step * step - second)
        scale = np.sqrt(second / (1.0 - _BETAS[1] ** self._updates)) + _EPSILON
        self._flat += self._rate / (1.0 - _BETAS[0] ** self._updates) * first / scale

    def gradient(
        self, rows: Indices, masks: Masks, weigh: Callable[[Floats], Floats], entropy: Floats
    ) -> dict[str, Floats]:
        """Return the gradient of what `climb` climbs, by the names of `weights`."""
        x, inner, logs = self._forward(rows, masks)
        chances = np.exp(logs)
        taken = x.reshape(logs.shape)
        slope = weigh((logs * taken).sum(axis=2))[:, :, None] * (taken - chances)
        spread = -(chances * logs).sum(axis=2, keepdims=True)
        slope -= entropy[:, None, None] * chances * (logs + spread)
        slope = np.where(masks, slope, 0.0).reshape(len(rows), -1)
        back = slope @ self.weights["outer"].T * (1.0 - inner * inner)
        self._gradients["inner"][:] = x.T @ back * self._seen
        self._gradients["inner_bias"][:] = back.sum(axis=0)
        self._gradients["outer"][:] = inner.T @ slope * self._shown
        self._gradients["direct"][:] = x.T @ slope * self._before
        self._gradients["bias"][:] = slope.sum(axis=0)
        return self._gradients

    def _forward(self, rows: Indices, masks: Masks) -> tuple[Floats, Floats, Floats]:
        """Return the one-hot actions, the hidden units and all log-probabilities."""
        weights = self.weights
        x = (rows[:, :, None] == np.arange(self.actions)).astype(float).reshape(len(rows), -1)
        inner = np.tanh(x @ weights["inner"] + weights["inner_bias"])
        logits = x @ weights["direct"] + inner @ weights["outer"] + weights["bias"]
        return x, inner, _log_softmax(logits.reshape(masks.shape), masks)


def _log_softmax(logits: Floats, masks: Masks) -> Floats:
    logits = np.where(masks, logits, _CLOSED)
    logits = logits - logits.max(axis=-1, keepdims=True)
    logs: Floats = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logs


def _views(flat: Floats, shapes: dict[str, tuple[int, ...]]) -> dict[str, Floats]:
    """Return parts of one array by name: an optimizer sees the one, a network the parts."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    return {
        name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), np.split(flat, ends[:-1]), strict=True)
    }
