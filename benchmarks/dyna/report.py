"""The tables of the comparison, from its rows alone."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.markdown import table
from benchmarks.compare.statistics import Interval, interval, mean
from benchmarks.dyna.rows import AT, Row

Floats = NDArray[np.float64]


def scores(rows: Sequence[Row], agent: str, column: str) -> Floats:
    """Return the scores of an agent, shape `(seeds, landscapes)`, of the seeds that it has on all landscapes."""
    of_agent = [row for row in rows if row.agent == agent]
    names = list(dict.fromkeys(row.landscape for row in of_agent))
    by_key = {(row.landscape, row.seed): row for row in of_agent}
    seeds = [seed for seed in sorted({row.seed for row in of_agent}) if all((name, seed) in by_key for name in names)]
    return np.array([[float(getattr(by_key[name, seed], column)) for name in names] for seed in seeds])


def tables(rows: Iterable[Row], labels: Sequence[str], budget: int, reference: str = "dyna_ppo") -> str:
    """Return what a group of agents came to at a budget, over all landscapes and on each, as Markdown.

    Args:
        rows: All rows.
        labels: The agents, in order.
        budget: That of the rows that are meant.
        reference: The agent that the others are set against.
    """
    chosen = [row for row in rows if row.budget == budget]
    labels = [label for label in labels if len(scores(chosen, label, "auc"))]
    if not labels:
        return "No rows yet.\n"
    columns = [f"at_{count}" for count in AT if count <= budget]
    last = columns[-1]
    ours = scores(chosen, reference, last) if reference in labels else None
    header = ["agent", "runs", *(column.replace("at_", "at ") for column in columns), "optimum found", "own seconds"]
    lines = []
    for label in labels:
        of_label = [row for row in chosen if row.agent == label]
        theirs = scores(chosen, label, last)
        cells = [label, str(theirs.size)]
        cells += [_shown(interval(scores(chosen, label, column), mean)) for column in columns]
        cells += [f"{np.mean([bool(row.found_at) for row in of_label]):.0%}"]
        cells += [f"{np.mean([row.own_seconds for row in of_label]):.2f}"]
        if ours is not None:
            cells += [_better(ours, theirs) if label != reference else ""]
        lines.append(cells)
    if ours is not None:
        header.append(f"{reference} better at {last[3:]}")
    names = list(dict.fromkeys(row.landscape for row in chosen if row.agent in labels))
    each = [[name, *(_cell(chosen, name, label, last) for label in labels)] for name in names]
    alone = table([f"mean at {last[3:]}, optimum found", *labels], each, aligned=False)
    return table(header, lines, aligned=False) + "\n\n" + alone + "\n"


def better(ours: Floats, theirs: Floats) -> Floats:
    """Return 1 where the first is better on the same landscape, 0 where it is worse and 0.5 where they are alike."""
    alike = np.isclose(ours, theirs, rtol=0.0, atol=1e-9)
    return np.where(alike, 0.5, (ours > theirs).astype(float))


def _better(ours: Floats, theirs: Floats) -> str:
    seeds = min(len(ours), len(theirs))  # the first ones: runs are done seed by seed
    return _shown(interval(better(ours[:seeds], theirs[:seeds]), mean), 2) if seeds else ""


def _cell(rows: Sequence[Row], name: str, label: str, column: str) -> str:
    of_label = [row for row in rows if row.landscape == name and row.agent == label]
    if not of_label:
        return ""
    score = np.mean([float(getattr(row, column)) for row in of_label])
    return f"{score:.3f}, {np.mean([bool(row.found_at) for row in of_label]):.0%}"


def _shown(found: Interval, digits: int = 3) -> str:
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
