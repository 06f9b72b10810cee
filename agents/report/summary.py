"""The table at the end of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.report.text import markdown_table, spaced
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem


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


def summarize(problem: Problem, candidates: Sequence[Candidate], counts: Mapping[str, float]) -> str:
    """Return the result as Markdown.

    Args:
        problem: What was searched.
        candidates: The best assignments found, best first, and the uniform ones.
        counts: `episodes`, `distinct_evaluations`, `retrained`, `wall_seconds` of all parts of the run, and of its
            last part, repeating included, `part_seconds` and `agent_seconds`; `resumed`: whether there are several.
    """
    found = [candidate for candidate in candidates if candidate.kind == "found"]
    bitwidths = found[0].bitwidths
    terms = problem.terms(bitwidths)
    full = 4 * sum(layer.weights for layer in problem.layers)
    int8, size = problem.size_in_bytes([8] * problem.num_layers), problem.size_in_bytes(bitwidths)
    confirmed = found[0].confirmed is not None
    rows = zip(problem.layers, bitwidths, strict=True)
    header = ["assignment", "bits a layer", "bits a weight", "bytes", "found", "confirmed", "meets the constraint"]
    episodes = f"{counts['episodes']} episodes, " if counts["episodes"] else ""
    part = f" in all parts; the last one took {counts['part_seconds']:.1f} s" if counts["resumed"] else ""
    return "\n\n".join(
        [
            f"# Best assignment: {spaced(bitwidths)}",
            _advice(problem, found),
            markdown_table(
                ("layer", "bits", "weights"), [(layer.name, bits, f"{layer.weights:,}") for layer, bits in rows]
            ),
            f"{terms['average_bits']:.2f} bits a layer, {terms['weighted_bits']:.2f} bits a weight. "
            f"Weights {size:,} bytes: {full / size:.1f} times smaller than fp32 ({full:,}), "
            f"{int8 / size:.1f} times smaller than int8 ({int8:,}).",
            f"Validation accuracy, relative to full precision; the constraint is {problem.min_relative_accuracy:.4f}"
            f"{'' if problem.max_cost is None else f', at a cost of at most {problem.max_cost:g}'}. "
            "Found: with the search's retraining seed. "
            + (
                f"Confirmed: the mean of {len(found[0].accuracies)} unseen seeds."
                if confirmed
                else "Not confirmed: these accuracies have no retraining seed."
            ),
            markdown_table(
                [name for name in header if confirmed or name != "confirmed"],
                [_row(problem, candidate) for candidate in candidates],
            ),
            _verdict(problem, candidates),
            f"{episodes}{counts['distinct_evaluations']} distinct evaluations, {counts['retrained']} of them "
            f"retrained in this run; {counts['wall_seconds']:.1f} s{part}, of which the agent itself took "
            f"{counts['agent_seconds']:.1f} s ({counts['agent_seconds'] / max(counts['part_seconds'], 1e-9):.0%}).",
        ]
    )


def _advice(problem: Problem, found: Sequence[Candidate]) -> str:
    """Say which assignment to use: the best one as found may have been lucky."""
    if not problem.keeps_max_cost(found[0].bitwidths):
        return (
            f"**It is above max_cost**: nothing that was evaluated costs at most {problem.max_cost}. "
            "Search on; do not use it."
        )
    if found[0].confirmed is None:
        return "It meets the constraint." if problem.is_success(found[0].found) else "It does not meet the constraint."
    meeting = [each for each in found if each.confirmed is not None and problem.is_success(each.confirmed)]
    if not meeting:
        return f"None of the {len(found)} best meets the constraint with unseen seeds: search on, or allow more bits."
    best = max(meeting, key=lambda each: problem.merit(_confirmed(each)))
    if best is found[0]:
        return "It meets the constraint with unseen retraining seeds, too."
    return f"With unseen retraining seeds it does less well; the best of those below is then {spaced(best.bitwidths)}."


def _row(problem: Problem, candidate: Candidate) -> list[str]:
    terms = problem.terms(candidate.bitwidths)
    meets = "yes" if problem.is_success(candidate.found) else "no"
    cells = [
        f"{spaced(candidate.bitwidths)}{' (uniform)' if candidate.kind == 'uniform' else ''}",
        f"{terms['average_bits']:.2f}",
        f"{terms['weighted_bits']:.2f}",
        f"{problem.size_in_bytes(candidate.bitwidths):,}",
        f"{candidate.found.accuracy:.4f} ({candidate.found.relative_accuracy:.4f})",
    ]
    if candidate.confirmed is not None:
        cells.append(f"{candidate.confirmed.accuracy:.4f} ({candidate.confirmed.relative_accuracy:.4f})")
        again = "yes" if problem.is_success(candidate.confirmed) else "no"
        if again != meets:
            meets = "as found, not confirmed" if meets == "yes" else "confirmed, not as found"
    if not problem.keeps_max_cost(candidate.bitwidths):
        meets = "no: above max_cost"
    return [*cells, meets]


def _verdict(problem: Problem, candidates: Sequence[Candidate]) -> str:
    """Say plainly how the search compares with the best uniform assignment."""
    found = [each for each in candidates if each.kind == "found"]
    uniform = [each for each in candidates if each.kind == "uniform" and problem.keeps_max_cost(each.bitwidths)]
    if not uniform:
        return "There is no uniform assignment to compare with."
    views: list[tuple[str, Callable[[Candidate], Evaluation]]] = [("As found", lambda each: each.found)]
    if found[0].confirmed is not None:
        views.append(("As confirmed", _confirmed))
    sentences = []
    for which, view in views:
        evaluations = [max(map(view, each), key=problem.merit) for each in (found, uniform)]
        best, rival = (f"{spaced(each.bitwidths)} ({problem.objective(each):.4f})" for each in evaluations)
        if evaluations[0].bitwidths == evaluations[1].bitwidths:
            verdict = f"the search's best is a uniform assignment, {best}: it does not beat uniform"
        elif problem.objective(evaluations[0]) > problem.objective(evaluations[1]):
            verdict = f"the search's best objective, {best}, beats the best uniform one, {rival}"
        else:
            verdict = f"the search's best objective, {best}, does not beat the best uniform one, {rival}"
        sentences.append(f"{which}, {verdict}.")
    return " ".join(sentences)


def _confirmed(candidate: Candidate) -> Evaluation:
    assert candidate.confirmed is not None
    return candidate.confirmed
