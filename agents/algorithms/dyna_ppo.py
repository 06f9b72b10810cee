"""PPO that pays for few evaluations: between them it is trained on a model of the accuracy."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.algorithms.dyna.imitation import best_rows
from agents.algorithms.dyna.model import FEATURES, AccuracyModel
from agents.algorithms.dyna.policy import Indices, Masks, Policy, Rollouts
from agents.algorithms.dyna.promise import Promise
from agents.algorithms.dyna.training import Training, update
from releq_env.decision import Decision
from releq_env.errors import ReLeQError, check_choice, check_fraction, check_whole
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.improvement import clipped
from releq_env.searchers.moves import draw_unknown, starts
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment

_RANDOM_STARTS = 2  # beside the uniform assignments; a model needs something else than these
_TRIES = 4  # batches of rollouts drawn in search of what was not asked for
Score = tuple[float, float]  # expected improvement over the best, and, where that is alike, expected objective


@dataclass(frozen=True)
class Parts:
    """The parts of the agent, each of which can be switched off.

    Attributes:
        model: Train on a model of the accuracy, too.
        members: Of the ensemble, names in `FEATURES`.
        trust: Cross-validated share of variance explained above which the model is used.
        imitation: How many of the best paid assignments are imitated; 0 is none.
        quantile: Share of the best rollouts that count; 1 is the plain policy gradient.
        warm_start: Begin at the uniform assignments.
        never_repeat: Never ask for what was asked for before.
        learn: Train the policy. Without, all it proposes is uniformly random.

    Raises:
        ReLeQError: If one is not accepted.
    """

    model: bool = True
    members: Sequence[str] = ("logarithm", "step")
    trust: float = 0.0
    imitation: int = 10
    quantile: float = 0.2
    warm_start: bool = True
    never_repeat: bool = True
    learn: bool = True

    def __post_init__(self) -> None:
        for name in ("model", "warm_start", "never_repeat", "learn"):
            if not isinstance(value := getattr(self, name), bool):
                raise ReLeQError(f"dyna_ppo got {name}={value!r}; give true or false")
        if isinstance(self.members, str) or not len(self.members):
            raise ReLeQError(f"dyna_ppo got members={self.members!r}; give a list of: {', '.join(FEATURES)}")
        for member in self.members:
            check_choice("a member of dyna_ppo's model", member, FEATURES)
        if isinstance(self.trust, bool) or not isinstance(self.trust, int | float) or not self.trust < 1.0:
            raise ReLeQError(f"dyna_ppo got trust={self.trust!r}; give a number below 1, e.g. 0.0")
        check_whole("imitation", self.imitation, 0, "")
        check_fraction("quantile", self.quantile)


class DynaPPO:
    """Learns a policy over the decision process, layer by layer, and pays only for what promises most.

    After Angermueller, Dohan, Belanger, Deshpande, Murphy and Colwell, *Model-based Reinforcement Learning for
    Biological Sequence Design* (DyNA-PPO), ICLR 2020. A round, between two paid evaluations:

    1. A model of the accuracy is fitted to all that was paid for (`AccuracyModel`) and cross-validated. The cost is
       computed, so that a rollout's return on the model is what its assignment promises (`Promise`).
    2. The policy (`Policy`) is trained for `rounds` batches of `rollouts` episodes on the model, by PPO's clipped
       objective on the ranks of the returns, risk-seeking (`quantile`), with imitation of the best paid ones.
    3. Of all that the policy took on the way, what promises most and was never asked for is paid for.

    Where the model predicts no better than a mean (`trust`), or is switched off, the agent is model-free: the policy
    takes what is paid for, and is trained on that, `paid_rollouts` at a time.

    Deviations from DyNA-PPO: 1. A rollout's return is the expected improvement, by rank, not the predicted mean: it
    knows what is uncertain. 2. One evaluation, or a small batch, a round in place of hundreds. 3. No critic: the one
    reward comes at the end of an episode, and its baseline is the batch. 4. No penalty of density: what
    was paid for is never paid for again. 5. Rewards in the model are for whole assignments whose cost is exact.

    It is made as a searcher (`ask`, `tell`), not as an agent on the environments: never to pay for a seen assignment
    is to choose among many rollouts before one of them is paid for, and an environment pays at the end of each. The
    decision process is the environment's own, by `Decision`: layer by layer, its masks included, so that
    `max_cost` is kept in every rollout. What is asked is a function of seed and of what was told.

    Args:
        problem: What is searched.
        seed: Seeds it.
        rounds: Updates of the policy on the model between two paid evaluations.
        rollouts: Episodes of an update on the model.
        epochs: How often they are used.
        paid_rollouts: Paid episodes of an update without the model.
        paid_epochs: How often they are used.
        clip: PPO's clipping range.
        entropy: Coefficient of the entropy; advantages are of order one.
        explore: Uniformly random actions in an episode on the model, on average: steps aside from the policy.
        imitation_weight: Weight of the log-likelihood of the best.
        hidden: Width of the policy's hidden layer.
        learning_rate: Of the policy.
        **parts: Of `Parts`.

    Raises:
        ReLeQError: If a hyperparameter is not accepted.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        *,
        rounds: int = 10,
        rollouts: int = 64,
        epochs: int = 2,
        paid_rollouts: int = 16,
        paid_epochs: int = 10,
        clip: float = 0.2,
        entropy: float = 0.2,
        explore: float = 1.0,
        imitation_weight: float = 0.2,
        hidden: int = 32,
        learning_rate: float = 0.02,
        **parts: Any,
    ) -> None:
        self._parts = Parts(**parts)
        whole = {"rounds": rounds, "rollouts": rollouts, "epochs": epochs, "hidden": hidden}
        for name, value in (whole | {"paid_rollouts": paid_rollouts, "paid_epochs": paid_epochs}).items():
            check_whole(name, value, 1, "")
        numbers = {"clip": clip, "entropy": entropy, "explore": explore}
        numbers |= {"imitation_weight": imitation_weight, "learning_rate": learning_rate}
        for name, number in numbers.items():
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0.0 <= number < math.inf:
                raise ReLeQError(f"dyna_ppo got {name}={number!r}; give a number from 0")
        self._problem, self._rounds, self._size, self._paid_size = problem, rounds, rollouts, paid_rollouts
        self._explore = min(explore / problem.num_layers, 1.0)  # of an action
        self._training = Training(epochs, clip, entropy, self._parts.quantile, imitation_weight)
        self._paid_training = self._training._replace(epochs=paid_epochs)
        self._decision = Decision(problem, "episode", "flexible", "history")
        self._policy = Policy(
            problem.num_layers,
            self._decision.num_actions,
            self._open_actions,
            np.random.default_rng(seed),
            hidden,
            learning_rate,
        )
        self._random = RandomSearch(problem, seed)
        self._model = AccuracyModel(problem, self._parts.members)
        self._promise = Promise(problem, self._model)
        self._fitted = 0  # to so many evaluations
        uniform = starts(problem) if self._parts.warm_start else []
        drawn = map(self._assignment, self._policy.sample(_RANDOM_STARTS).rows.tolist())
        self._starts = list(dict.fromkeys([*uniform, *drawn]))
        self._asked: set[Assignment] = set()
        self._told: dict[Assignment, Evaluation] = {}
        self._best = -math.inf
        self._paid: list[tuple[Assignment, Rollouts]] = []  # by this policy, and not trained on yet

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` starts, or those that promise most of what the policy takes."""
        asked = self._starts[:n]
        del self._starts[:n]
        if not asked and self._trusted():
            asked = self._imagined(n)
        if not asked:
            asked = self._taken(n)
        self._asked.update(asked)
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take up what was measured."""
        for evaluation in evaluations:
            self._told[evaluation.bitwidths] = evaluation
            self._best = max(self._best, clipped(self._problem.objective(evaluation)))

    def recommend(self) -> Assignment | None:
        """Return, of what was measured, the assignment that is expected to be best when measured again.

        The best measured one is likely to have been lucky, too. Without a model that is trusted it is that one
        nevertheless; `None` before any.
        """
        if not self._told:
            return None
        if not self._trusted():
            return max(self._told, key=lambda assignment: self._problem.merit(self._told[assignment]))
        measured = list(self._told)
        return measured[int(self._promise(self._rows(measured), self._best)[:, 1].argmax())]

    def _trusted(self) -> bool:
        """Fit the model to what is new, and return whether it is to be used."""
        if not self._parts.model:
            return False
        if len(self._told) != self._fitted:
            self._fitted = len(self._told)
            accuracies = np.array([each.relative_accuracy for each in self._told.values()])
            self._model.fit(self._rows(self._told), accuracies)
        return self._model.skill > self._parts.trust

    def _imagined(self, n: int) -> list[Assignment]:
        """Train on the model, and return what promises most of all that the policy took on the way."""
        self._paid.clear()  # of another policy, soon
        scores: dict[Assignment, Score] = {}
        best = best_rows(self._problem, self._told, self._parts.imitation)
        for _ in range(self._rounds):
            rollouts = self._policy.sample(self._size, self._explore)
            assignments = list(map(self._assignment, rollouts.rows.tolist()))
            self._score(scores, (each for each in dict.fromkeys(assignments) if each not in scores))
            if self._parts.learn:
                update(self._policy, rollouts, _ranks([scores[each] for each in assignments]), best, self._training)
        left = [each for each in scores if not (self._parts.never_repeat and each in self._asked)]
        chosen: list[Assignment] = []
        while left and len(chosen) < n:
            chosen.append(max(left, key=scores.__getitem__))
            left.remove(chosen[-1])
            if len(chosen) < n and left:
                self._model.suppose(self._problem.indices(chosen[-1]))
                self._fitted = -1  # what is supposed has to go
                self._score(scores, left)
        return chosen

    def _taken(self, n: int) -> list[Assignment]:
        """Return what the policy takes, trained on what was paid for; at random where that is known."""
        if len(self._paid) >= self._paid_size:
            self._learn_from_paid()
        chosen: dict[Assignment, None] = {}
        for _ in range(_TRIES):
            rollouts = self._policy.sample(self._size if self._parts.never_repeat else n)
            for index, assignment in enumerate(map(self._assignment, rollouts.rows.tolist())):
                new = assignment not in chosen and not (self._parts.never_repeat and assignment in self._asked)
                if new and len(chosen) < n:
                    chosen[assignment] = None
                    self._paid.append((assignment, rollouts.only(index)))
            if len(chosen) == n:
                return list(chosen)
        return [*chosen, *draw_unknown(self._random, self._asked | chosen.keys())]

    def _learn_from_paid(self) -> None:
        """Train on the paid rollouts of this policy."""
        told = [(self._told[assignment], rollout) for assignment, rollout in self._paid if assignment in self._told]
        self._paid.clear()
        if told and self._parts.learn:
            rollouts = Rollouts.joined([rollout for _, rollout in told])
            returns = _ranks([self._problem.merit(evaluation) for evaluation, _ in told])
            best = best_rows(self._problem, self._told, self._parts.imitation)
            update(self._policy, rollouts, returns, best, self._paid_training)

    def _score(self, scores: dict[Assignment, Score], assignments: Iterable[Assignment]) -> None:
        """Enter what assignments promise; nothing, if they were paid for and may not be again."""
        listed = list(assignments)
        if not listed:
            return
        for assignment, (gain, expected) in zip(
            listed, self._promise(self._rows(listed), self._best).tolist(), strict=True
        ):
            known = self._parts.never_repeat and assignment in self._asked
            scores[assignment] = (-math.inf, expected) if known else (gain, expected)

    def _open_actions(self, layer: int, rows: Indices) -> Masks:
        return self._decision.masks(np.full(len(rows), layer), rows)

    def _rows(self, assignments: Iterable[Assignment]) -> Indices:
        return np.array([self._problem.indices(assignment) for assignment in assignments])

    def _assignment(self, row: Sequence[int]) -> Assignment:
        return self._problem.assignment(row)


def _ranks(values: Sequence[tuple[float, ...]]) -> Indices:
    """Return the place of each value in ascending order, equal ones alike."""
    place = {value: index for index, value in enumerate(sorted(set(values)))}
    return np.array([place[value] for value in values])
