"""The baseline: a policy over the published observation, trained on the same networks.

Layer by layer it sees the eight features of the environment's observation `"paper"` and gives a bitwidth. What it
finds in a search it knows only by what it goes on learning: it is trained further by policy gradient after each of the
20 evaluations, as the published agent is, and draws again what it has asked for before.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agents.algorithms.transfer.prior import Floats, Singles
from agents.algorithms.transfer.weights import AUTO, policy_path, read_arrays
from benchmarks.transfer.playing import draw
from benchmarks.transfer.training import descend
from releq_env.decision import Decision
from releq_env.evaluation import Evaluation
from releq_env.observation import FEATURES
from releq_env.problem import Problem
from releq_env.searchers.improvement import Indices, clipped
from releq_env.searchers.moves import draw_unknown
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment

SHIPPED = Path(__file__).parent / "weights"
NAMES = ("inner", "inner_bias", "middle", "middle_bias", "outer", "outer_bias")

_BITS, _HIDDEN = 8, 64  # bitwidths above 8 count as 8
_CLOSED = np.float32(-1e9)
_TRIES = 20  # draws in search of what was not asked for


def untrained(seed: int = 0) -> dict[str, Singles]:
    """Return the weights before training."""
    generator = np.random.default_rng(seed)
    widths = (len(FEATURES), _HIDDEN, _HIDDEN, _BITS)
    drawn: list[Singles] = []
    for into, out, scale in zip(widths, widths[1:], (1.0, 1.0, 0.1), strict=False):
        drawn.append((scale * into**-0.5 * generator.normal(size=(into, out))).astype(np.float32))
        drawn.append(np.zeros(out, dtype=np.float32))
    return dict(zip(NAMES, drawn, strict=True))


def scores(weights: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Return the scores of the bitwidths, of inputs that are observations and, beside them, 0 or -1e9 a bitwidth."""
    seen, closed = inputs[:, : len(FEATURES)], inputs[:, len(FEATURES) :]
    hidden = torch.tanh(seen @ weights[0] + weights[1])
    return torch.tanh(hidden @ weights[2] + weights[3]) @ weights[4] + weights[5] + closed


class Episodes:
    """Plays the decision process of a problem, many episodes side by side.

    Args:
        problem: The problem.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._decision = Decision(problem, "episode", "flexible", "paper")
        self._place = np.minimum(self._decision.bits, _BITS) - 1  # of a layer's choice among the bitwidths

    def __call__(
        self, weights: Iterable[Singles], episodes: int, generator: np.random.Generator
    ) -> tuple[Indices, Singles, Indices, Singles]:
        """Return assignments as indices into the choices, and the decisions: inputs, what was taken, log-probabilities.

        The first axis is the episodes, the second the layers.
        """
        tensors = [torch.from_numpy(each) for each in weights]
        decision, each = self._decision, np.arange(episodes)
        rows = np.tile(decision.start, (episodes, 1))
        inputs, taken, logs = [], [], []
        for layer in range(decision.num_layers):
            steps = np.full(episodes, layer)
            costs = self._problem.cost_terms(rows)[:, 0]
            seen = decision.observer.batch(steps, decision.bitwidths(rows), costs, np.ones(episodes))
            closed = np.full((episodes, _BITS), _CLOSED)
            masks = decision.masks(steps, rows)
            for action in range(masks.shape[1]):
                closed[masks[:, action], self._place[layer, action]] = 0.0
            inputs.append(np.concatenate([seen, closed], axis=1))
            drawn, log = draw(scores(tensors, torch.from_numpy(inputs[-1])).numpy(), generator)
            fits = masks & (self._place[layer] == drawn[:, None])
            rows[each, layer] = decision.effect[layer, rows[each, layer], fits.argmax(axis=1)]
            taken.append(drawn)
            logs.append(log)
        return rows, np.stack(inputs, 1), np.stack(taken, 1), np.stack(logs, 1)


class PublishedTransfer:
    """Searches with it.

    Args:
        problem: What is searched.
        seed: Seeds it.
        weights: `"auto"` is that in `SHIPPED` that was trained as the policy of `transfer` is; else a path.
        learning_rate: Of Adam, in the search.
        updates: Steps of Adam after an evaluation.
    """

    def __init__(
        self, problem: Problem, seed: int = 0, *, weights: str = AUTO, learning_rate: float = 0.003, updates: int = 2
    ) -> None:
        begun, _ = read_arrays(policy_path(weights, problem.name, SHIPPED), NAMES)
        self._weights = [torch.tensor(begun[name], requires_grad=True) for name in NAMES]
        self._adam, self._rate = torch.optim.Adam(self._weights), learning_rate
        self._problem, self._updates = problem, updates
        self._episodes = Episodes(problem)
        self._generator, self._random = np.random.default_rng(seed), RandomSearch(problem, seed)
        self._asked: dict[Assignment, tuple[Singles, Indices]] = {}
        self._told: dict[Assignment, float] = {}

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` assignments that the policy draws and that were not asked for before."""
        chosen: list[Assignment] = []
        for _ in range(_TRIES):
            arrays = [each.detach().numpy() for each in self._weights]
            rows, inputs, taken, _ = self._episodes(arrays, n, self._generator)
            for row, seen, took in zip(rows.tolist(), inputs, taken, strict=True):
                assignment = tuple(bits[at] for bits, at in zip(self._problem.choices, row, strict=True))
                if assignment not in self._asked and len(chosen) < n:
                    self._asked[assignment] = (seen, took)
                    chosen.append(assignment)
            if len(chosen) == n:
                return chosen
        return [*chosen, *([] if chosen else draw_unknown(self._random, self._asked))]

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Learn from all that was evaluated, each over the mean."""
        for evaluation in evaluations:
            self._told[evaluation.bitwidths] = clipped(self._problem.objective(evaluation))
        known = [assignment for assignment in self._told if assignment in self._asked]
        if len(known) < 2:
            return
        found: Floats = np.array([self._told[assignment] for assignment in known])
        gains = torch.from_numpy(((found - found.mean()) / (found.std() + 1e-9)).astype(np.float32))
        inputs = torch.from_numpy(np.concatenate([self._asked[assignment][0] for assignment in known]))
        taken = torch.from_numpy(np.concatenate([self._asked[assignment][1] for assignment in known]))
        for _ in range(self._updates):
            logs = torch.log_softmax(scores(self._weights, inputs), dim=1).gather(1, taken[:, None])
            loss = -(logs.reshape(len(known), -1).sum(dim=1) * gains).mean()
            descend(self._adam, self._weights, loss, self._rate)
