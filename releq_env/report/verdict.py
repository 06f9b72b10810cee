"""Says in plain sentences what came out: whether to use the answer, and how it compares with uniform bitwidths."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from releq_env.report.run import Assignment, Compared, View

_MOST_SPACED, _FEW = 20, 6  # layers


def spaced(bitwidths: Sequence[int]) -> str:
    """Return an assignment as it stands in tables: `"2 1 1 4"`."""
    return " ".join(map(str, bitwidths))


def called(bitwidths: Sequence[int]) -> str:
    """Return what an assignment is called within a sentence: of a deep network not every layer."""
    if len(bitwidths) <= _MOST_SPACED:
        return spaced(bitwidths)
    if len(set(bitwidths)) == 1:
        return f"{bitwidths[0]} bits everywhere"
    return f"{spaced(bitwidths[:_FEW])} ... ({fmean(bitwidths):.2f} bits a layer)"


def meets(compared: Compared, view: View, least: float) -> bool:
    """Return whether an assignment keeps the accuracy constraint `least`, and `max_cost` if there is one."""
    return compared.keeps_max_cost and view.relative_accuracy >= least


def meeting(compared: Compared, least: float) -> str:
    """Say whether an assignment meets the constraint, as found and as confirmed."""
    if not compared.keeps_max_cost:
        return "no: above max_cost"
    as_found = meets(compared, compared.found, least)
    if compared.confirmed is None or meets(compared, compared.confirmed, least) == as_found:
        return "yes" if as_found else "no"
    return "as found, not confirmed" if as_found else "confirmed, not as found"


def advice(candidates: Sequence[Compared], least: float, max_cost: float | None) -> str:
    """Say which assignment to use: the best one as found may have been lucky.

    Args:
        candidates: What was compared, best found first.
        least: The accuracy constraint.
        max_cost: Upper bound on the cost, or `None`.
    """
    return recommended(candidates, least, max_cost)[0]


def recommended(candidates: Sequence[Compared], least: float, max_cost: float | None) -> tuple[str, Assignment | None]:
    """Return the same, and the assignment to use; none where there is none to recommend."""
    found = _of_kind(candidates, "found")
    first = found[0]
    if not first.keeps_max_cost:
        said = f"It is above max_cost: nothing that was evaluated costs at most {max_cost}. Search on; do not use it."
        return said, None
    if first.confirmed is None:
        kept = meets(first, first.found, least)
        return ("It meets the constraint.", first.bitwidths) if kept else ("It does not meet the constraint.", None)
    good = [each for each in found if each.confirmed is not None and meets(each, each.confirmed, least)]
    if not good:
        return (
            f"None of the {len(found)} best meets the constraint with unseen seeds: search on, or allow more bits.",
            None,
        )
    best = max(good, key=lambda each: _merit(each, _confirmed(each)))
    if best is first:
        return "It meets the constraint with unseen retraining seeds, too.", first.bitwidths
    return (
        f"With unseen retraining seeds it does less well; the best of those below is then {called(best.bitwidths)}. "
        "These seeds have chosen it, so what they confirm of it is somewhat too good.",
        best.bitwidths,
    )


def against_uniform(candidates: Sequence[Compared]) -> str:
    """Say plainly how the search compares with the best uniform assignment."""
    found = _of_kind(candidates, "found")
    uniform = [each for each in _of_kind(candidates, "uniform") if each.keeps_max_cost]
    if not uniform:
        return "There is no uniform assignment to compare with."
    views: list[tuple[str, Callable[[Compared], View]]] = [("As found", lambda each: each.found)]
    if all(each.confirmed is not None for each in (*found, *uniform)):
        views.append(("As confirmed", _confirmed))
    return " ".join(f"{which}, {_comparison(found, uniform, view)}." for which, view in views)


def _comparison(found: Sequence[Compared], uniform: Sequence[Compared], view: Callable[[Compared], View]) -> str:
    best, rival = (max(each, key=lambda one: _merit(one, view(one))) for each in (found, uniform))
    ours, theirs = (f"{called(each.bitwidths)} ({view(each).reward:.4f})" for each in (best, rival))
    if best.bitwidths == rival.bitwidths:
        return f"the search's best is a uniform assignment, {ours}: it does not beat uniform"
    if view(best).reward > view(rival).reward:
        return f"the search's best objective, {ours}, beats the best uniform one, {theirs}"
    return f"the search's best objective, {ours}, does not beat the best uniform one, {theirs}"


def _of_kind(candidates: Sequence[Compared], kind: str) -> list[Compared]:
    return [each for each in candidates if each.kind == kind]


def _merit(compared: Compared, view: View) -> tuple[bool, float, float]:
    return compared.keeps_max_cost, -math.inf if math.isnan(view.reward) else view.reward, view.accuracy


def _confirmed(compared: Compared) -> View:
    assert compared.confirmed is not None
    return compared.confirmed
