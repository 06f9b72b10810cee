"""A sampler of Optuna as a searcher: its proposals are made new and kept within `max_cost`."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from releq_env.errors import ReLeQError, check_whole
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.improvement import clipped
from releq_env.searchers.moves import draw_unknown, neighbours, starts, within_max_cost
from releq_env.searchers.random_search import RandomSearch
from releq_env.workers.waiting import Assignment

if TYPE_CHECKING:
    from optuna.trial import Trial

_PROPOSALS = 5  # so many in a row that are known are followed by a neighbour of the last one


class OptunaSearch:
    """Asks a sampler of Optuna, whose study holds a parameter a layer: the index of its bitwidth.

    It begins at the uniform assignments and random ones. What a sampler proposes is changed where it has to be: above
    `max_cost` layers get cheaper, one after the other, and what is known is not asked for again; after a few proposals
    that are known an unknown neighbour of the last one takes their place, or a random assignment where there is none.

    Args:
        problem: What is searched.
        seed: Seeds it.
        startup: How many assignments are measured before the sampler proposes any; never fewer than all uniform ones
            and a random one, which are 9 with 8 bitwidths.
        make_sampler: Makes the sampler, of Optuna's module and a seed.
        directions: Of the study: `"maximize"` or `"minimize"` for each value.
        values: What the study is told of an evaluation.
        tell_known: Whether the study is told again of what is known, where the sampler has proposed it.

    Raises:
        ReLeQError: If Optuna is not installed.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        startup: int,
        *,
        make_sampler: Callable[[Any, int], Any],
        directions: Sequence[str],
        values: Callable[[Evaluation], Sequence[float]],
        tell_known: bool,
    ) -> None:
        check_whole("startup", startup, 0, "")
        optuna = _optuna()
        self._problem = problem
        self._values = values
        self._tell_known = tell_known
        self._generator = np.random.default_rng(seed)
        self._random = RandomSearch(problem, seed)
        self._study = optuna.create_study(sampler=make_sampler(optuna, seed), directions=list(directions))
        self._failed = optuna.trial.TrialState.FAIL
        self._space: Any = {
            f"layer{layer}": optuna.distributions.IntDistribution(0, len(of_layer) - 1)
            for layer, of_layer in enumerate(problem.choices)
        }
        self._known: dict[Assignment, Evaluation] = {}
        self._pending: dict[Assignment, Trial] = {}
        uniform = starts(problem)
        drawn = self._random.ask(max(startup - len(uniform), 1))
        self._starts = list(dict.fromkeys([*uniform, *drawn]))

    def ask(self, n: int) -> list[Assignment]:
        """Return up to `n` starts, or proposals of the sampler."""
        asked = self._starts[:n]
        del self._starts[:n]
        for assignment in asked:
            self._pending[assignment] = self._trial(assignment)
        if not asked:
            asked = list(itertools.islice(self._proposals(), n))
        return asked

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Tell the study."""
        for evaluation in evaluations:
            self._known[evaluation.bitwidths] = evaluation
            trial = self._pending.pop(evaluation.bitwidths, None)
            if trial is not None:
                self._study.tell(trial, self._told(evaluation))

    def _proposals(self) -> Iterator[Assignment]:
        """Yield assignments that are new, as long as there are any; each is pending then."""
        while True:
            found = self._proposed()
            if found is None:
                return
            assignment, trial = found
            self._pending[assignment] = trial
            yield assignment

    def _proposed(self) -> "tuple[Assignment, Trial] | None":
        last: Assignment = ()
        for _ in range(_PROPOSALS):
            trial = self._study.ask(self._space)
            proposed = self._assignment(trial)
            last = within_max_cost(self._problem, proposed, self._generator)
            if last == proposed and self._is_new(last):
                return last, trial
            evaluation = self._known.get(proposed)
            if evaluation is not None and self._tell_known:
                self._study.tell(trial, self._told(evaluation))
            else:
                self._study.tell(trial, state=self._failed)
            if self._is_new(last):
                return last, self._trial(last)
        around = [each for each in neighbours(self._problem, last) if self._is_new(each)]
        if around:
            last = around[self._generator.integers(len(around))]
            return last, self._trial(last)
        drawn = draw_unknown(self._random, self._known.keys() | self._pending.keys())
        return (drawn[0], self._trial(drawn[0])) if drawn else None

    def _is_new(self, assignment: Assignment) -> bool:
        return assignment not in self._known and assignment not in self._pending

    def _trial(self, assignment: Assignment) -> "Trial":
        """Return a trial of an assignment that the sampler has not proposed."""
        indices = self._problem.indices(assignment).tolist()
        self._study.enqueue_trial(dict(zip(self._space, indices, strict=True)))
        return self._study.ask(self._space)

    def _assignment(self, trial: "Trial") -> Assignment:
        return self._problem.assignment(trial.params[name] for name in self._space)

    def _told(self, evaluation: Evaluation) -> list[float]:
        return [clipped(float(value)) for value in self._values(evaluation)]


def _optuna() -> Any:
    try:
        import optuna  # only now: an extra that no other searcher needs
    except ModuleNotFoundError as error:
        raise ReLeQError(f'tpe and nsga2 need {error.name}; pip install "releq_env[agents]"') from error
    # Of its own it says that a study was made and that options are experimental.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
