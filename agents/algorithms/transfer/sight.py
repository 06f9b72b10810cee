"""What the policy sees of every candidate: numbers that mean the same in every network."""

import numpy as np
from scipy.special import ndtr

from agents.algorithms.transfer.belief import Belief
from agents.algorithms.transfer.prior import Floats, Singles
from releq_env.problem import Problem
from releq_env.searchers.improvement import LIMIT, Cells, Indices, LossScale

HORIZON = 20
"""Evaluations of a search that the policy plans for."""

FEATURES = (
    "improvement",  # expected, over the largest of any candidate
    "improvement_log",  # its logarithm to base 10 from -6, in [0, 1]
    "passing",  # probability that the accuracy constraint holds
    "margin",  # expected distance from the constraint, in standard deviations, a sixth
    "doubt",  # standard deviation of the modelled loss, a third
    "loss",  # expected modelled loss, a sixth
    "gain",  # of the objective if no accuracy is lost, over the best so far, on the problem's scale
    "cost",  # State of Quantization
    "cost_log",  # its logarithm over that of the cheapest candidate's, in [0, 1]
    "rank",  # share of candidates that are cheaper
    "layers_changed",  # from the best so far, over the number of layers
    "bits_added",  # mean over layers, on the scale of each layer's choices
    "bits_taken",  # likewise
    "uneven",  # standard deviation over layers of the place among the choices, in [0, 1]
    "above_passing",  # 1 if an assignment with nowhere more bits passed
    "below_failing",  # 1 if one with nowhere less bits failed
    "nearest",  # least number of layers changed from any that was measured, over the number of layers
    "left",  # share of the evaluations that are left
    "passed",  # 1 if any passed so far
    "best",  # objective of the best so far, on the problem's scale
    "noise",  # of measuring, on the modelled scale
    "tolerance",  # logarithm of the loss that the constraint allows, from 0.002, in [0, 1]
    "size",  # logarithm of the number of assignments
    "common",  # share of the candidates that are expected to pass
)
"""In this order; all of them about in [-1, 1]."""

_ABOVE, _BELOW = 3, 6  # cells of accuracy, above the constraint and below


class Sight:
    """Looks at the candidates of one problem, for several searches side by side.

    Args:
        problem: What is searched.
        rows: The candidates, indices into the choices, shape `(candidates, layers)`.
        searches: How many there are side by side.
    """

    def __init__(self, problem: Problem, rows: Indices, searches: int = 1) -> None:
        self._problem, self._each = problem, np.arange(searches)
        self._least = problem.min_relative_accuracy
        self.scale = LossScale(problem.min_relative_accuracy)
        self.unit = 1.0 - float(self.scale.relative_accuracies(np.arcsinh([1.0]))[0])
        cells = Cells(problem, self.scale, _ABOVE, _BELOW)
        self._edges = cells.edges[1:-1].astype(np.float32)
        self._objectives = cells.objectives(rows).astype(np.float32)
        self._allowed = float(cells.edges[_ABOVE])
        full = self._objectives[:, :_ABOVE].max(axis=1)
        self._low, self._high = float(full.min()), float(full.max())
        self._full = self.scaled(full)
        counts = np.array([len(of_layer) for of_layer in problem.choices])
        self._places = (rows / np.maximum(counts - 1, 1)).astype(np.float32)
        self._rows = rows.astype(np.int16)
        self._fixed = self._of_candidates(rows, counts)
        shape = (searches, len(rows))
        self.asked = np.zeros(shape, dtype=np.bool_)
        self._above, self._below = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
        self._nearest = np.ones(shape, dtype=np.float32)
        self._best = np.full(searches, -np.inf)
        self._best_at = np.zeros(searches, dtype=np.int64)
        self._passed = np.zeros(searches, dtype=np.bool_)
        self._count = 0

    def scaled(self, objectives: Floats) -> Floats:
        """Return objectives on the problem's scale, in [-1, 1]: with no loss 0 is the dearest and 1 the cheapest."""
        return np.clip((objectives - self._low) / ((self._high - self._low) or 1.0), -1.0, 1.0)

    def observe(self, at: Indices, objectives: Floats, relative_accuracies: Floats) -> None:
        """Take up an evaluation of each search.

        Args:
            at: Which candidate, shape `(searches,)`.
            objectives: What it came to, same shape.
            relative_accuracies: Likewise.
        """
        self._count += 1
        self.asked[self._each, at] = True
        better = objectives > self._best
        self._best = np.where(better, objectives, self._best)
        self._best_at = np.where(better, at, self._best_at)
        passed = relative_accuracies >= self._least
        self._passed |= passed
        own = self._rows[at][:, None]
        self._above |= passed[:, None] & (self._rows >= own).all(axis=2)
        self._below |= ~passed[:, None] & (self._rows <= own).all(axis=2)
        changed = (self._rows != own).mean(axis=2, dtype=np.float32)
        self._nearest = np.minimum(self._nearest, changed)

    def improvement(self, belief: Belief) -> Floats:
        """Return the expected improvement of each candidate, shape `(searches, candidates)`; none where it is known.

        Before anything was measured it is over the least that an objective is in any cell.
        """
        deviation = np.sqrt(belief.variance + belief.noise)
        best = np.where(np.isfinite(self._best), self._best, self._objectives.min())
        # Summed by parts: what a cell gains over the next worse one counts where the loss is below the edge between.
        worst, *others = (np.maximum(cell - best[:, None], 0.0) for cell in self._objectives.T[::-1])
        gains = worst
        for edge, better, worse in zip(self._edges[::-1], others, [worst, *others], strict=False):
            gains = gains + ndtr((edge - belief.mean) / deviation) * (better - worse)
        return np.where(self.asked, 0.0, gains)

    def features(self, belief: Belief, gains: Floats) -> Singles:
        """Return what is seen, shape `(searches, candidates, features)`, with the `improvement` of each."""
        share = gains / np.maximum(gains.max(axis=1, keepdims=True), 1e-12)
        deviation = np.sqrt(belief.variance + belief.noise)
        margin = (self._allowed - belief.mean) / deviation
        passing = ndtr(margin)
        any_yet = np.isfinite(self._best)
        best = self.scaled(np.where(any_yet, np.clip(self._best, -LIMIT, LIMIT), -LIMIT))[:, None]
        moved = self._places - self._places[self._best_at][:, None]
        moved[~any_yet] = 0.0
        seen = {
            "improvement": share,
            "improvement_log": 1.0 + np.log10(np.maximum(share, 1e-6)) / 6.0,
            "passing": passing,
            "margin": np.clip(margin / 6.0, -1.0, 1.0),
            "doubt": np.sqrt(belief.variance) / 3.0,
            "loss": np.clip(belief.mean / 6.0, -1.0, 1.0),
            "gain": np.clip(self._full - best, -1.0, 1.0),
            **self._fixed,
            "layers_changed": (moved != 0.0).mean(axis=2),
            "bits_added": np.maximum(moved, 0.0).mean(axis=2),
            "bits_taken": np.maximum(-moved, 0.0).mean(axis=2),
            "above_passing": self._above,
            "below_failing": self._below,
            "nearest": self._nearest,
            "left": max(1.0 - self._count / HORIZON, 1.0 / HORIZON),
            "passed": self._passed[:, None],
            "best": best,
            "noise": np.minimum(np.sqrt(belief.noise), 1.0),
            "common": passing.mean(axis=1, keepdims=True),
        }
        found = np.empty((*self.asked.shape, len(FEATURES)), dtype=np.float32)
        for index, name in enumerate(FEATURES):
            found[:, :, index] = seen[name]
        return found

    def _of_candidates(self, rows: Indices, counts: Indices) -> dict[str, Floats]:
        """Return the features that no evaluation changes."""
        costs = self._problem.cost_terms(rows)[:, 0]
        least = min(float(costs.min()), 1.0 - 1e-9)
        return {
            "cost": costs,
            "cost_log": np.log(np.maximum(costs, 1e-12)) / np.log(max(least, 1e-12)),
            "rank": np.searchsorted(np.sort(costs), costs) / len(costs),
            "uneven": 2.0 * self._places.std(axis=1),
            "tolerance": np.log(max(1.0 - self._least, 0.002) / 0.002) / 4.0,
            "size": np.log(counts).sum() / 12.0,
        }
