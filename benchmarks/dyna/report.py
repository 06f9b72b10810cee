"""The tables of the comparison, from its rows alone."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare.statistics import Interval, interval, mean
from benchmarks.dyna.rows import AT, Row
from releq_env.report.markdown import table

Floats = NDArray[np.float64]


def complete_seeds(rows: Sequence[Row], agent: str, landscapes: Sequence[str]) -> list[int]:
    """Return the seeds that an agent has on every landscape, ascending: what was stopped early is left out."""
    found = [{row.seed for row in rows if (row.agent, row.landscape) == (agent, name)} for name in landscapes]
    return sorted(set.intersection(*found)) if found else []


def tables(rows: Iterable[Row], labels: Sequence[str], budget: int, reference: str = "dyna_ppo") -> str:
    """Return what a group of agents came to at a budget, over all landscapes and on each, as Markdown.

    All numbers of an agent are of its complete seeds.

    Args:
        rows: All rows.
        labels: The agents, in order.
        budget: That of the rows that are meant.
        reference: The agent that the others are set against, seed by seed.
    """
    chosen = [row for row in rows if row.budget == budget and row.agent in labels]
    names = list(dict.fromkeys(row.landscape for row in chosen))
    seeds = {label: complete_seeds(chosen, label, names) for label in labels}
    labels = [label for label in labels if seeds[label]]
    if not labels:
        return "No seed is complete yet.\n"
    by_key = {(row.agent, row.landscape, row.seed): row for row in chosen}
    columns = [f"at_{count}" for count in AT if count <= budget]
    last = columns[-1]

    def scores(label: str, column: str, of_seeds: Sequence[int]) -> Floats:
        """Return an array of shape `(seeds, landscapes)`."""
        return np.array([[float(getattr(by_key[label, name, seed], column)) for name in names] for seed in of_seeds])

    def against(label: str) -> str:
        both = [seed for seed in seeds[reference] if seed in seeds[label]]
        if label == reference or not both:
            return ""
        return _shown(interval(better(scores(reference, last, both), scores(label, last, both)), mean), 2)

    header = ["agent", "runs", *(column.replace("at_", "at ") for column in columns), "optimum found", "own seconds"]
    lines = []
    for label in labels:
        kept = [by_key[label, name, seed] for name in names for seed in seeds[label]]
        cells = [label, str(len(kept))]
        cells += [_shown(interval(scores(label, column, seeds[label]), mean)) for column in columns]
        cells += [f"{np.mean([bool(row.found_at) for row in kept]):.0%}"]
        cells += [f"{np.mean([row.own_seconds for row in kept]):.2f}"]
        lines.append(cells + ([against(label)] if reference in labels else []))
    if reference in labels:
        header.append(f"{reference} better at {last[3:]}")
    each = [
        [name, *(_cell([by_key[label, name, seed] for seed in seeds[label]], last) for label in labels)]
        for name in names
    ]
    alone = table([f"mean at {last[3:]}, optimum found", *labels], each, aligned=False)
    return table(header, lines, aligned=False) + "\n\n" + alone + "\n"


def made_on(rows: Iterable[Row]) -> str:
    """Return on which machines and with which revisions rows were made, a line each, as Markdown."""
    by_origin: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_origin.setdefault((row.processor, row.revision), []).append(row)
    lines = []
    for (processor, revision), of_origin in by_origin.items():
        named = f"{processor}, revision {revision or 'unknown'}" if processor else "machine and revision not recorded"
        seeds = ", ".join(map(str, sorted({row.seed for row in of_origin})))
        lines.append(f"- {named}: {len(of_origin)} runs, seeds {seeds}")
    return "\n".join(lines) + "\n"


def better(ours: Floats, theirs: Floats) -> Floats:
    """Return 1 where the first is better on the same landscape, 0 where it is worse and 0.5 where they are alike."""
    alike = np.isclose(ours, theirs, rtol=0.0, atol=1e-9)
    return np.where(alike, 0.5, (ours > theirs).astype(float))


def _cell(rows: Sequence[Row], column: str) -> str:
    score = np.mean([float(getattr(row, column)) for row in rows])
    return f"{score:.3f}, {np.mean([bool(row.found_at) for row in rows]):.0%}"


def _shown(found: Interval, digits: int = 3) -> str:
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
