"""Write what a table says of sensitivities: how well they rank, and what adding them up misses.

    python -m benchmarks.tables.proxies digits mnist --out docs/tables

Two Markdown files a table, with pictures; nothing is measured. The table needs sensitivities, which
`benchmarks.tables.build` keeps in it.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.tables import proxy_pictures as pictures
from benchmarks.tables.proxy_study import FITTED, SUMMED, Floats, Gaps, Study
from releq_env.command import ends_in_one_line
from releq_env.files import replace_file
from releq_env.report.markdown import table as markdown
from releq_env.sensitivity import PROXIES
from releq_env.tables import AccuracyTable

_POINTS = 100.0


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
Quantization whose answer does. *Unseen seeds*: the optimum is that of the first seed, to which `{FITTED}` is fitted
there, and it and the answer are judged by the others; below 0 it was luck.

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
