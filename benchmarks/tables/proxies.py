"""Write what a table says of sensitivities: how well they rank, and what adding them up misses.

    python -m benchmarks.tables.proxies digits mnist --out docs/tables

Two Markdown files a table, with pictures; nothing is measured. The table needs sensitivities, which
`benchmarks.tables.build` keeps in it.
"""

import argparse
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.markdown import table as markdown
from benchmarks.tables import proxy_pictures as pictures
from benchmarks.tables.additive import (
    Parts,
    fitted,
    indices_of,
    most_accurate,
    parts,
    spearman,
    spearman_at_equal_cost,
    summed,
)
from releq_env.command import ends_in_one_line
from releq_env.cost import COSTS, cost_matrix
from releq_env.errors import ReLeQError
from releq_env.files import replace_file
from releq_env.searchers.knapsack import knapsack_front
from releq_env.sensitivity import PROXIES
from releq_env.tables import AccuracyTable

Floats = NDArray[np.float64]

SUMMED = ("mean_bits", "size")
"""The costs for which budgets are answered."""
FITTED = "best sum"
"""The sum over the layers that is nearest to the table itself, by least squares."""
_POINTS = 100.0


class Gaps(NamedTuple):
    """How far the answers of a knapsack are from the optimum of each budget.

    Attributes:
        budgets: States of Quantization, ascending, shape `(budgets,)`.
        optimum: Accuracy of the best within each, in [0, 1].
        answer: Of the knapsack's answer; NaN where that was not measured.
        unseen: Optimum less answer by other seeds than that of which the optimum is; NaN where there are none.
        usable: Whether something within the budget keeps the accuracy constraint.
        cheapest: The smallest budget whose answer keeps the constraint, NaN if none does.
    """

    budgets: Floats
    optimum: Floats
    answer: Floats
    unseen: Floats
    usable: NDArray[np.bool_]
    cheapest: float

    @property
    def gaps(self) -> Floats:
        """Optimum less answer in percentage points, shape `(budgets,)`."""
        return _POINTS * (self.optimum - self.answer)


class Study:
    """A table beside its sensitivities.

    Args:
        table: The table.

    Attributes:
        table: As given.
        known: Its sensitivities.
        bitwidths: The assignments that all complete seeds measured, shape `(rows, layers)`.
        accuracy: The mean over these seeds, in [0, 1], shape `(rows,)`.
        one: That of the first of them.
        others: The mean of all but the first; `None` if there is one.

    Raises:
        ReLeQError: If it holds no sensitivities.
    """

    def __init__(self, table: AccuracyTable) -> None:
        known = table.sensitivities
        if known is None:
            raise ReLeQError(
                f"the table {table.name!r} holds no sensitivities; build it again with "
                "python -m benchmarks.tables.build"
            )
        self.table, self.known = table, known
        self.seeds = table.whole_seeds or table.seeds[:1]
        rows = np.flatnonzero(~np.isnan(table.values(self.seeds[0])))
        self.bitwidths = table.bitwidths[rows]
        by_seed = np.stack([table.values(seed)[rows] for seed in self.seeds])
        self.accuracy, self.one = by_seed.mean(axis=0), by_seed[0]
        self.others = by_seed[1:].mean(axis=0) if len(by_seed) > 1 else None
        self._indices = indices_of(self.bitwidths, table.choices)
        self._index = {row: index for index, row in enumerate(map(tuple, self._indices.tolist()))}

    @cached_property
    def losses(self) -> dict[str, Floats]:
        """`L[layer, choice]` by proxy; the last one is fitted to the table."""
        found = {name: self.known.matrix(name, self.table.choices) for name in PROXIES if name in self.known.proxies}
        return found | {FITTED: fitted(self._indices, -self.modelled, self.table.choices)}

    @cached_property
    def modelled(self) -> Floats:
        """The accuracies on a scale on which a collapse does not drown the rest.

        `-asinh(loss / loss that the constraint allows)`: a logarithm where much is lost, as the searcher `gp` has it.
        """
        allowed = max(1.0 - self.table.min_relative_accuracy, 0.002)
        return -np.arcsinh((1.0 - self.accuracy / self.table.full_precision_accuracy) / allowed)

    @cached_property
    def average_bits(self) -> Floats:
        """Of each assignment."""
        return self.bitwidths.mean(axis=1)

    def predicted(self, name: str) -> Floats:
        """Return the summed losses of every assignment by a proxy."""
        return summed(self.losses[name], self._indices)

    def ranks(self, predicted: Floats, accuracy: Floats | None = None) -> tuple[float, float, float]:
        """Return Spearman's correlations: over all, in the most accurate fifth, and at equal average bits."""
        accuracy = self.accuracy if accuracy is None else accuracy
        best = most_accurate(accuracy)
        return (
            spearman(predicted, accuracy),
            spearman(predicted[best], accuracy[best]),
            spearman_at_equal_cost(predicted, accuracy, self.average_bits),
        )

    def gaps(self, name: str, cost: str) -> Gaps:
        """Return how far a proxy's knapsack is from the optimum, for every budget of a cost."""
        table = self.table
        costs = cost_matrix(cost, COSTS[cost], table.layers, table.choices)
        q = np.add.reduce(costs[np.arange(table.num_layers), self._indices], axis=1) / costs.max(axis=1).sum()
        front = knapsack_front(costs, self.losses[name], [len(each) for each in table.choices])
        of_front = costs[np.arange(table.num_layers), front].sum(axis=1) / costs.max(axis=1).sum()
        found = np.array([self._index.get(tuple(row), -1) for row in front.tolist()])
        budgets = np.unique(q)
        best = _best_within(budgets, q, self.accuracy)
        answer = found[np.maximum(np.searchsorted(of_front, budgets * (1.0 + 1e-12), side="right") - 1, 0)]
        measured = answer >= 0
        least = table.min_relative_accuracy * table.full_precision_accuracy
        keeps = measured & (self.accuracy[answer] >= least)
        unseen = np.full(len(budgets), np.nan)
        if self.others is not None:
            lucky = _best_within(budgets, q, self.one)
            unseen = np.where(measured, self.others[lucky] - self.others[answer], np.nan)
        return Gaps(
            budgets,
            self.accuracy[best],
            np.where(measured, self.accuracy[answer], np.nan),
            _POINTS * unseen,
            self.accuracy[best] >= least,
            float(budgets[keeps][0]) if keeps.any() else math.nan,
        )

    @cached_property
    def parts(self) -> tuple[Parts, Parts]:
        """What adds up and what interacts, in accuracy and on the scale of `modelled`."""
        choices = self.table.choices
        return parts(self._indices, self.accuracy, choices), parts(self._indices, self.modelled, choices)

    @property
    def measured_by(self) -> str:
        """The seeds, in words."""
        if self.others is None:
            return f"with the seed {self.seeds[0]}"
        return f"mean of the seeds {', '.join(map(str, self.seeds))}"


def _best_within(budgets: Floats, q: Floats, accuracy: Floats) -> NDArray[np.int64]:
    """Return which assignment is the most accurate within each budget; of equals the cheapest."""
    order = np.lexsort((-accuracy, q))
    running = np.maximum.accumulate(accuracy[order])
    first = np.concatenate([[True], running[1:] > running[:-1]])
    leader = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    found: NDArray[np.int64] = leader[np.searchsorted(q[order], budgets, side="right") - 1]
    return found


def ranking_page(study: Study, folder: Path) -> Path:
    """Write how well each proxy ranks retrained accuracies; return the page's path."""
    table = study.table
    picture = folder / f"{table.name}-proxies.png"
    pictures.scatter(study, picture)
    rows: list[tuple[object, ...]] = []
    for name in study.losses:
        ranks = [_number(each, 3) for each in study.ranks(study.predicted(name))]
        if name == FITTED:
            rows.append(
                (
                    name,
                    "fitted to the whole table by least squares, on the logarithmic scale",
                    *ranks,
                    "-",
                    "-",
                    "-",
                    "-",
                )
            )
            continue
        cost = study.known.proxies[name].cost
        spent = [f"{cost.seconds:.1f}", *(str(each or "-") for each in (cost.forward, cost.backward, cost.evaluations))]
        rows.append((f"`{name}`", PROXIES[name].what, *ranks, *spent))
    rows.append(
        ("bits", "nothing but the average bits", *[_number(e, 3) for e in study.ranks(-study.average_bits)], *"----")
    )
    if study.others is not None:
        ranks = [_number(each, 3) for each in study.ranks(-study.one, study.others)]
        rows.append(("another seed", f"accuracy with seed {study.seeds[0]} against the other seeds", *ranks, *"----"))
    header = (
        *("proxy", "what is added up over the layers", "all", "best fifth", "equal bits"),
        *("seconds", "images forward", "backward", "retrainings"),
    )
    sources = "\n".join(f"- `{name}`: {PROXIES[name].source}." for name in study.losses if name in PROXIES)
    images = max((each.cost.images for each in study.known.proxies.values()), default=0)
    text = f"""# How well sensitivities rank: `{table.name}`

Spearman's rank correlation between what a proxy predicts of an assignment, the sum of its layers' sensitivities, and
the accuracy after retraining, over {len(study.bitwidths)} of {table.size} assignments, {study.measured_by}.
*Best fifth* is among the most accurate 20 %, *equal bits* the mean among assignments of equal average bits: that more
bits are better any proxy knows. 1 is perfect, 0 says nothing. Proxies free of training looked at {images} training
images; their seconds are of one core, those of retrainings are their share of the table's.

{markdown(header, rows, aligned=False)}

![Predicted loss against retrained accuracy]({picture.name})

{sources}

`hessian` and `fisher` do not see that normalisation, where there is any, undoes a change of scale.
Made by `python -m benchmarks.tables.proxies {table.name}`.
"""
    return _written(folder / f"{table.name}-proxies.md", text)


def interaction_page(study: Study, folder: Path) -> Path:
    """Write how far what adds up is from the optimum of each budget; return the page's path."""
    table = study.table
    curves, pairs = folder / f"{table.name}-knapsack.png", folder / f"{table.name}-interaction.png"
    found = {cost: {name: study.gaps(name, cost) for name in study.losses} for cost in SUMMED}
    pictures.knapsacks(study, found, curves)
    pictures.interactions(study, pairs)
    noise = table.seed_noise()
    sections = [f"## Cost `{cost}`\n\n{_gap_table(study, each, noise)}" for cost, each in found.items()]
    shares = [
        (what, *(f"{_POINTS * each:.1f} %" for each in (known.main, known.pairs, known.rest)))
        for what, known in zip(("accuracy", "its logarithmic scale"), study.parts, strict=True)
    ]
    text = f"""# What adding up misses: `{table.name}`

HAWQ and the vendors' tools choose bitwidths by a knapsack: the layers' sensitivities are added up, and the assignment
with the least sum within a budget is the answer. Here every budget's answer is known beside the budget's true optimum,
after retraining ({study.measured_by}). {_of_noise(noise)}

{(chr(10) * 2).join(sections)}

`{FITTED}` is fitted to the whole table by least squares: what is left of its gap hardly any numbers of single layers
can close. *Usable* budgets are those within which something keeps the constraint,
{table.min_relative_accuracy:g} of the full-precision accuracy; *first that keeps it* is the smallest State of
Quantization whose answer does. *Unseen seeds*: the optimum is that of the first seed, and it and the answer are
judged by the others; below 0 it was luck.

![Accuracy of the knapsacks' answers against the budget]({curves.name})

## Interaction

Share of the variance over all assignments that a sum of one number a layer explains, what one
number a pair of layers adds, and what is left: interactions of three and more layers, and the noise of retraining.

{markdown(("of", "layers alone", "pairs", "rest"), shares, aligned=False)}

The logarithmic scale is `asinh(loss / allowed loss)`, on which a collapse does not drown what matters.

![Share of the variance that each pair of layers explains]({pairs.name})

Made by `python -m benchmarks.tables.proxies {table.name}`.
"""
    return _written(folder / f"{table.name}-interaction.md", text)


def _gap_table(study: Study, found: dict[str, Gaps], noise: float | None) -> str:
    rows = []
    for name, known in found.items():
        usable = known.gaps[known.usable & ~np.isnan(known.gaps)]
        every = known.gaps[~np.isnan(known.gaps)]
        within = "-" if noise is None or not len(usable) else f"{_POINTS * (usable <= _POINTS * noise).mean():.0f} %"
        unseen = _mean(known.unseen[known.usable & ~np.isnan(known.unseen)])
        numbers = [
            *(_number(each, 2) for each in (_mean(usable), _most(usable), _mean(every), unseen)),
            within,
            _number(known.cheapest, 4),
        ]
        rows.append((name if name == FITTED else f"`{name}`", *numbers))
    any_of = next(iter(found.values()))
    cheapest = float(any_of.budgets[any_of.usable][0]) if any_of.usable.any() else math.nan
    rows.append(("the optimum", *["0.00"] * 3, "-", "-" if noise is None else "100 %", _number(cheapest, 4)))
    header = (
        *("answers by", "mean gap, usable budgets", "largest", "mean gap, all budgets", "mean gap, unseen seeds"),
        *("within a seed's noise", "first that keeps it"),
    )
    lacking = sum(int(np.isnan(each.answer).sum()) for each in found.values())
    said = f"\n\n{lacking} answers were not measured and are left out." if lacking else ""
    return markdown(header, rows, aligned=False) + said


def _of_noise(noise: float | None) -> str:
    if noise is None:
        return "The table has one seed:\nits optima were lucky, and gaps are somewhat too large."
    said = f"{_POINTS * noise:.2f}"
    return f"Gaps are in percentage points of accuracy;\ntwo seeds differ by {said} (root mean square)."


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _most(values: Floats) -> float:
    return float(values.max()) if len(values) else math.nan


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _written(path: Path, text: str) -> Path:
    replace_file(path, text)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    """Write two pages a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.proxies", description=main.__doc__)
    parser.add_argument("tables", nargs="+", help="names or paths")
    parser.add_argument("--out", type=Path, default=Path("docs/tables"), help="the folder (default: %(default)s)")
    args = parser.parse_args(argv)
    with ends_in_one_line():
        studies = [Study(AccuracyTable.load(name)) for name in args.tables]
        args.out.mkdir(parents=True, exist_ok=True)
        for study in studies:
            for write in (ranking_page, interaction_page):
                print(write(study, args.out))


if __name__ == "__main__":
    main()
