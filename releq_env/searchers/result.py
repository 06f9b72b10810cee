"""What a search has found."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from releq_env.errors import ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.searchers.folder import SearchFolder, builtin_task

if TYPE_CHECKING:
    from torch import nn

    from releq_env.tasks import RetrainingRecipe


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The answer of `releq_env.search`, with everything that was paid for.

    Attributes:
        problem: What was searched.
        evaluations: In the order in which they were asked for.
        settings: What was asked for.
    """

    problem: Problem
    evaluations: tuple[Evaluation, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def best(self) -> Evaluation:
        """The best of them: it keeps `max_cost`, then the objective, then the accuracy decides."""
        return max(self.evaluations, key=self.problem.merit)

    @property
    def bitwidths(self) -> tuple[int, ...]:
        """The best assignment: one bitwidth a layer of the problem."""
        return self.best.bitwidths

    @property
    def assignment(self) -> dict[str, int]:
        """The best assignment by module names."""
        return self.problem.by_module(self.bitwidths)

    @property
    def success(self) -> bool:
        """Whether it keeps the accuracy constraint, and `max_cost`."""
        return self.problem.is_success(self.best)

    @cached_property
    def curve(self) -> tuple[Evaluation, ...]:
        """The best answer for every cost, by rising cost: each is more accurate than all that cost no more."""
        curve: list[Evaluation] = []
        costs = {each.bitwidths: self.problem.state_of_quantization(each.bitwidths) for each in self.evaluations}
        for each in sorted(self.evaluations, key=lambda each: (costs[each.bitwidths], -each.accuracy)):
            if not curve or each.accuracy > curve[-1].accuracy:
                curve.append(each)
        return tuple(curve)

    @property
    def recipe(self) -> "RetrainingRecipe | None":
        """The recipe of the short retraining; `None` where nothing is retrained."""
        retraining = getattr(self.problem.evaluator.source, "retraining", None)
        return None if retraining is None else retraining.task.retraining

    @cached_property
    def network(self) -> "nn.Module":
        """The network with the best assignment, after its short retraining. Made at the first use.

        Raises:
            ReLeQError: If the accuracies come from a table or a function, which have no network.
        """
        return self.network_of(self.bitwidths)

    def network_of(self, bitwidths: tuple[int, ...]) -> "nn.Module":
        """Return the network with an assignment, e.g. another one of the curve, after its short retraining.

        Raises:
            ReLeQError: As `network`, or if the assignment does not fit.
        """
        from releq_env.retraining.trained import retrained_network  # only now: they need torch
        from releq_env.tasks.layouts import as_given
        from releq_env.tasks.own_outputs import separate_outputs

        source = self._source
        whole = getattr(source, "every_layer", tuple)(self.problem.check(bitwidths))
        return as_given(separate_outputs(retrained_network(source.retraining, whole)))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the network, packed, and the files of a search, as `releq_env.searchers.folder` lists them.

        Args:
            folder: Made if it is not there; other files in it stay. That of this search, or of none.

        Raises:
            ReLeQError: If there is another search in it, or one that has gone on since or goes on now; if something
                cannot be written, or as `network`.
        """
        from releq_env.export.about import About  # only now: they need torch
        from releq_env.export.folder import save_model
        from releq_env.report import write_report

        path, inputs = Path(folder), self._source.retraining.load().inputs
        task = builtin_task(self.problem)
        about = About(task, tuple(inputs.shape[1:]), "float32" if inputs.is_floating_point() else "int64")
        kept = SearchFolder(path, self.problem)
        with kept.held():
            kept.complete(self.settings, self.evaluations)
            save_model(self.network, path, about)
            write_report(path)

    @property
    def _source(self) -> Any:
        """What measures the network. Raises `ReLeQError` where there is none."""
        source = self.problem.evaluator.source
        if not hasattr(source, "retraining"):
            raise ReLeQError(f"{self.problem.name} has no network: its accuracies come from a table or a function")
        return source

    def __str__(self) -> str:
        problem, best = self.problem, self.best
        terms = problem.terms(best.bitwidths)
        kept = "" if self.success else "; it does NOT keep what was asked for"
        return (
            f"{problem.name}: {' '.join(map(str, best.bitwidths))}, {terms['average_bits']:.2f} bits a layer, "
            f"{terms['weighted_bits']:.2f} a weight, {problem.size_in_bytes(best.bitwidths):,} bytes of weights, "
            f"accuracy {best.accuracy:.4f} of {problem.full_precision_accuracy:.4f} "
            f"({len(self.evaluations)} evaluations){kept}"
        )
