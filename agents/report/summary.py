"""The table at the end of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.report.text import spaced
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.report.markdown import table
from releq_env.report.run import Compared, View
from releq_env.report.verdict import advice, against_uniform, meeting
from releq_env.tables.source import TableSource


@dataclass(frozen=True)
class Candidate:
    """An assignment that the report compares.

    Attributes:
        kind: `"found"` by the search, or `"uniform"`.
        found: As measured with the search's retraining seed.
        accuracies: By unseen retraining seed; none where accuracies have no seed.
        confirmed: Their mean.
    """

    kind: str
    found: Evaluation
    accuracies: tuple[float, ...]
    confirmed: Evaluation | None

    @property
    def bitwidths(self) -> tuple[int, ...]:
        """The assignment."""
        return self.found.bitwidths

    def compared(self, problem: Problem) -> Compared:
        """Return it in the problem's terms."""
        confirmed = None if self.confirmed is None else _view(problem, self.confirmed)
        kept = problem.keeps_max_cost(self.bitwidths)
        return Compared(self.kind, self.bitwidths, kept, _view(problem, self.found), self.accuracies, confirmed)

    def as_dict(self, problem: Problem) -> dict[str, Any]:
        """Return it as `report.json` has it."""
        row = {
            "kind": self.kind,
            "bitwidths": self.bitwidths,
            "accuracy": self.found.accuracy,
            "relative_accuracy": self.found.relative_accuracy,
            "reward": problem.objective(self.found),
            "keeps_max_cost": problem.keeps_max_cost(self.bitwidths),
        }
        if self.confirmed is None:
            return row
        return row | {
            "confirmed": self.accuracies,
            "confirmed_accuracy": self.confirmed.accuracy,
            "confirmed_relative_accuracy": self.confirmed.relative_accuracy,
            "confirmed_reward": problem.objective(self.confirmed),
        }


_ENDS = {
    "budget": "",
    "minutes": "ended by --minutes; ",
    "timesteps": "ended by --timesteps; ",
    "agent": "ended by the agent itself; ",
}


def summarize(problem: Problem, candidates: Sequence[Candidate], counts: Mapping[str, Any]) -> str:
    """Return the result as Markdown.

    Args:
        problem: What was searched.
        candidates: The best assignments found, best first, and the uniform ones.
        counts: `episodes`, `distinct_evaluations`, `retrained`, `wall_seconds` of all parts of the run, and of its
            last part, repeating included, `part_seconds` and `agent_seconds`; `resumed`: whether there are several;
            `ended_by`, see `RunProgress`.
    """
    compared = [candidate.compared(problem) for candidate in candidates]
    best, least = compared[0], problem.min_relative_accuracy
    said = advice(compared, least, problem.max_cost)
    sized, seeded = problem.quantizer is not None, best.confirmed is not None  # a function's bits are no bytes
    rows = zip(problem.layers, best.bitwidths, strict=True)
    header = ["assignment", "bits a layer", "bits a weight", "bytes", "found", "confirmed", "meets the constraint"]
    left_out = {"bytes": not sized, "confirmed": not seeded}
    episodes = f"{counts['episodes']} episodes, " if counts["episodes"] else ""
    looked_up = not sized or isinstance(problem.evaluator.source, TableSource)
    retrained = "" if looked_up else f", {counts['retrained']} of them retrained in this run"
    part = f" in all parts; the last one took {counts['part_seconds']:.1f} s" if counts["resumed"] else ""
    return "\n\n".join(
        [
            f"# Best assignment: {spaced(best.bitwidths)}",
            said if best.keeps_max_cost else f"**{said.replace(':', '**:', 1)}",
            table(("layer", "bits", "weights"), [(layer.name, bits, f"{layer.weights:,}") for layer, bits in rows])
            if sized
            else table(("layer", "bits"), [(layer.name, bits) for layer, bits in rows]),
            _size(problem, best.bitwidths),
            f"Validation accuracy, relative to full precision; the constraint is {least:.4f}"
            f"{'' if problem.max_cost is None else f', at a cost of at most {problem.max_cost:g}'}. "
            "Found: with the search's retraining seed. "
            + (
                f"Confirmed: the mean of {len(best.accuracies)} unseen seeds."
                if seeded
                else "Not confirmed: these accuracies have no other retraining seed."
            ),
            table([name for name in header if not left_out.get(name)], [_row(problem, each) for each in compared]),
            against_uniform(compared),
            f"{episodes}{counts['distinct_evaluations']} distinct evaluations{retrained}; "
            f"{_ENDS[str(counts['ended_by'])]}{counts['wall_seconds']:.1f} s{part}, of which the agent itself took "
            f"{counts['agent_seconds']:.1f} s ({counts['agent_seconds'] / max(counts['part_seconds'], 1e-9):.0%}).",
        ]
    )


def _size(problem: Problem, bitwidths: Sequence[int]) -> str:
    terms = problem.terms(bitwidths)
    bits = f"{terms['average_bits']:.2f} bits a layer, {terms['weighted_bits']:.2f} bits a weight."
    if problem.quantizer is None:
        return bits
    full = 4 * sum(layer.weights for layer in problem.layers)
    int8, size = problem.size_in_bytes([8] * problem.num_layers), problem.size_in_bytes(bitwidths)
    return (
        f"{bits} Weights {size:,} bytes: {full / size:.1f} times smaller than fp32 ({full:,}), "
        f"{int8 / size:.1f} times smaller than int8 ({int8:,})."
    )


def _row(problem: Problem, compared: Compared) -> list[str]:
    terms = problem.terms(compared.bitwidths)
    cells = [
        f"{spaced(compared.bitwidths)}{' (uniform)' if compared.kind == 'uniform' else ''}",
        f"{terms['average_bits']:.2f}",
        f"{terms['weighted_bits']:.2f}",
    ]
    if problem.quantizer is not None:
        cells.append(f"{problem.size_in_bytes(compared.bitwidths):,}")
    views = [compared.found, *([] if compared.confirmed is None else [compared.confirmed])]
    cells += [f"{view.accuracy:.4f} ({view.relative_accuracy:.4f})" for view in views]
    return [*cells, meeting(compared, problem.min_relative_accuracy)]


def _view(problem: Problem, evaluation: Evaluation) -> View:
    return View(evaluation.accuracy, evaluation.relative_accuracy, problem.objective(evaluation))
