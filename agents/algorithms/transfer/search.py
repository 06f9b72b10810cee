"""Searches with a policy that was trained on other networks."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from agents.algorithms.transfer.belief import Belief
from agents.algorithms.transfer.policy import untrained
from agents.algorithms.transfer.prior import Losses
from agents.algorithms.transfer.sight import Sight
from agents.algorithms.transfer.weights import AUTO, policy_path, read_policy
from releq_env.errors import check_whole
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.improvement import Indices, clipped
from releq_env.searchers.moves import neighbours
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment

UNTRAINED, IMPROVEMENT = "untrained", "improvement"

_LISTED = 2**15  # of a space of up to so many assignments all are candidates; of a larger one
_DRAWN, _CENTRES = 500, 10  # so many random ones, and the neighbours of so many of the best
_REMEMBERED = 128  # evaluations that the belief takes up: their number is squared in what a step costs


class TransferSearch:
    """Asks for what a policy takes that was trained on other networks to be good after few evaluations.

    One episode is one search: an action is an assignment, the reward its gain over the best before. The policy scores
    every candidate by features that mean the same in every network (`FEATURES`): what a prior of such losses,
    conditioned on what was measured, expects of it; its cost; how it differs from the best so far; what follows from
    passing with fewer bits or failing with more; how many of `HORIZON` evaluations are left, and after them as if one
    were. It was trained by policy gradient on whole searches of many networks (`benchmarks/transfer`); nothing of it
    changes in the search.

    After Volpp et al., *Meta-Learning Acquisition Functions for Transfer Learning in Bayesian Optimization* (MetaBO),
    ICLR 2020. Deviations: 1. Mean and covariance of the process are those of simulated losses of accuracy, not of a
    stationary kernel. 2. The cost is computed, not modelled. 3. The reward is the gain of the best, at the end and on
    the way, normalised by the game, not the negative regret of a step. 4. No critic: the baseline is the other
    searches of the same game.

    Nothing is asked for twice, and nothing above `max_cost`. Of a batch, each is chosen as if those before it had lost
    a standard deviation more than expected.

    Args:
        problem: What is searched.
        seed: Seeds the draws of the prior.
        weights: Name of a shipped policy, path of one, or `"auto"`, see `policy_path`; `"untrained"` is the network
            before training, `"improvement"` takes the largest expected improvement in place of a network's choice.
        draws: Of the prior.

    Raises:
        ReLeQError: If there are no such weights, or a number is not accepted.
    """

    def __init__(self, problem: Problem, seed: int = 0, *, weights: str = AUTO, draws: int = 256) -> None:
        self.about: dict[str, Any] = {"weights": weights}
        if weights == IMPROVEMENT:
            self._score: Any = lambda features: features[..., 0]
        elif weights == UNTRAINED:
            self._score = untrained(seed).score
        else:
            path = policy_path(weights, problem.name)
            policy, trained = read_policy(path)
            self._score = policy.score
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self.about = {"weights": path.name, "sha256": digest, "trained_on": trained.get("trained_on")}
        self._problem = problem
        self._losses = Losses(problem, check_whole("draws", draws, 2, ""), np.random.default_rng([seed, 1]))
        size = math.prod(map(len, problem.choices))
        self._all = size <= _LISTED
        self._random = RandomSearch(problem, seed)
        self._drawn = self._random.ask(size if self._all else _DRAWN)
        self._asked: dict[Assignment, None] = {}
        self._told: dict[Assignment, Evaluation] = {}
        self._stale = True

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` assignments with the highest scores."""
        if self._stale or not self._all:
            self._look()
        chosen: list[Assignment] = []
        while len(chosen) < n and not self._sight.asked.all():
            features = self._sight.features(self._belief, self._sight.improvement(self._belief))
            at = np.where(self._sight.asked, -np.inf, self._score(features)).argmax(axis=1)
            chosen.append(self._candidates[at[0]])
            self._sight.asked[0, at] = True
            if len(chosen) < n:
                supposed = self._belief.mean[0, at] + np.sqrt(self._belief.variance + self._belief.noise)[0, at]
                self._belief.observe(at, supposed)
                self._stale = True  # what is supposed has to go
        self._asked.update(dict.fromkeys(chosen))
        return chosen

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Take up what was measured."""
        for evaluation in evaluations:
            known = evaluation.bitwidths in self._told
            self._told[evaluation.bitwidths] = evaluation
            if not (self._stale or known) and self._all:
                self._take_up(evaluation)

    def _look(self) -> None:
        """Set candidates, and what is seen and believed of them after all that was told."""
        self._candidates = self._drawn if self._all else self._around()
        self._places = {assignment: place for place, assignment in enumerate(self._candidates)}
        rows = self._rows(self._candidates)
        self._sight = Sight(self._problem, rows)
        self._belief = Belief(np.arcsinh(self._losses(rows) / np.float32(self._sight.unit)), self._sight.unit)
        self._stale = False
        self._remembered = 0
        for evaluation in self._told.values():
            self._take_up(evaluation)
        for assignment in self._asked:  # and is not told yet
            if assignment in self._places:
                self._sight.asked[0, self._places[assignment]] = True

    def _take_up(self, evaluation: Evaluation) -> None:
        place = self._places.get(evaluation.bitwidths)
        if place is None:
            return  # told by somebody else, and above `max_cost`
        at, relative = np.array([place]), np.array([evaluation.relative_accuracy])
        self._sight.observe(at, np.array([clipped(self._problem.objective(evaluation))]), relative)
        if self._remembered < _REMEMBERED:
            self._belief.observe(at, self._sight.scale.modelled(relative))
            self._remembered += 1

    def _around(self) -> list[Assignment]:
        """Return the candidates of a large space: random ones, those near the best, and what is known."""
        self._drawn = [each for each in self._drawn if each not in self._asked]
        self._drawn += self._random.ask(_DRAWN - len(self._drawn))
        best = sorted(self._told, key=lambda assignment: self._problem.merit(self._told[assignment]))[-_CENTRES:]
        near = [neighbour for centre in best for neighbour in neighbours(self._problem, centre)]
        uniform = [each for each in self._problem.uniform() if self._problem.keeps_max_cost(each)]
        return list(dict.fromkeys([*uniform, *near, *self._drawn, *self._told]))

    def _rows(self, assignments: Iterable[Assignment]) -> Indices:
        return np.array([self._problem.indices(assignment) for assignment in assignments])
