"""Runs a searcher as an agent."""

from collections.abc import Callable, Sequence
from typing import Any

from agents.algorithms.base import Progress
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers import Searcher, search_loop
from releq_env.workers.waiting import Assignment


class SearcherAgent:
    """Asks a searcher, and tells it. An asked assignment counts one time step a layer, repeats included.

    Args:
        searcher: The searcher.
        problem: What it searches.
        batch: How many assignments are asked for at once.
        evaluate: Evaluates them.
    """

    def __init__(
        self,
        searcher: Searcher,
        problem: Problem,
        batch: int,
        evaluate: Callable[[Sequence[Assignment]], list[Evaluation]],
    ) -> None:
        self._searcher, self._problem, self._batch, self._evaluate = searcher, problem, batch, evaluate

    def recommend(self) -> Assignment | None:
        """Return the assignment that the searcher recommends of what was measured; `None` if that is the best one."""
        recommend = getattr(self._searcher, "recommend", None)
        return None if recommend is None else recommend()

    @property
    def about(self) -> dict[str, Any]:
        """What the searcher says of itself, JSON-able, e.g. what it cost before the first evaluation."""
        return dict(getattr(self._searcher, "about", {}))

    def learn(self, timesteps: int, progress: Progress) -> None:
        """Search until the time steps or the assignments are used up, or the run is to end."""
        taken = 0
        for evaluations in search_loop(self._problem, self._searcher, batch=self._batch, evaluate=self._evaluate):
            taken += len(evaluations) * self._problem.num_layers
            if not progress.asked(len(evaluations)) or taken >= timesteps:
                return
