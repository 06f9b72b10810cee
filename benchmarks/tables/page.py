"""Write the page of an accuracy table.

    python -m benchmarks.tables.page digits --out docs/tables

A Markdown file and its pictures; nothing is measured.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import pictures
from releq_env.command import ends_in_one_line
from releq_env.cost import COSTS
from releq_env.files import replace_file
from releq_env.problem import Problem
from releq_env.report.markdown import table as markdown
from releq_env.reward import REWARDS
from releq_env.sensitivity import PROXIES
from releq_env.tables import AccuracyTable

_PUBLISHED = """Two other collections of accuracies by bitwidth are known. The authors of ReLeQ left one of 625 entries
for their LeNet with their released code, without a description of how it was measured; MQ-Bench-101 was announced as a
benchmark of sampled assignments after post-training quantization, and its file can no longer be had."""

_ALONE = "expect less of it with another seed"


def page(table: AccuracyTable, folder: Path) -> Path:
    """Write the page and its pictures into a folder; return the page's path.

    Args:
        table: The table.
        folder: Made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = {
        "front": ("Accuracy against average bits", pictures.front),
        "sensitivity": ("Accuracy against the bits of one layer", pictures.sensitivity),
        "measured": ("Sensitivities that were measured before any assignment", pictures.proxies),
        "seeds": ("Two retraining seeds", pictures.seed_noise),
        "random-search": ("Expected regret of random search", pictures.random_search),
    }
    if table.seed_noise() is None or (~np.isnan(table.accuracy[:2])).all(axis=0).sum() < 2:
        del shown["seeds"]
    if table.sensitivities is None:
        del shown["measured"]
    links = {}
    for kind, (text, draw) in shown.items():
        picture = folder / f"{table.name}-{kind}.png"
        draw(table, picture)
        links[kind] = f"![{text}]({picture.name})"
    parts = [
        f"# The accuracy table `{table.name}`",
        _introduction(table),
        links["front"],
        "## The optimum under each reward and cost",
        _optima(table),
        "## How hard it is",
        _difficulty(table),
        links["random-search"],
        "## How much each layer needs",
        links["sensitivity"],
        *([_sensitivities(table), links["measured"]] if "measured" in links else []),
        "## Seed noise",
        _noise(table),
        *([links["seeds"]] if "seeds" in links else []),
        "## Beside what was published",
        _PUBLISHED,
        "## How it was measured",
        _measured(table),
    ]
    path = folder / f"{table.name}.md"
    replace_file(path, "\n\n".join(parts) + "\n")
    return path


def _introduction(table: AccuracyTable) -> str:
    sets = dict.fromkeys(table.choices)
    choices = " / ".join(", ".join(map(str, of_layer)) for of_layer in sets)
    measured = ", ".join(
        f"seed {seed}: {'complete' if table.coverage(seed) == 1 else f'{100 * table.coverage(seed):.1f} %'}"
        for seed in table.seeds
    )
    return (
        f"{len(table)} of {table.size} assignments of {table.num_layers} layers, out of {choices} bits "
        f"({table.quantizer or 'no quantizer'}); {measured}. Full-precision accuracy "
        f"{100 * table.full_precision_accuracy:.2f} %, constraint {table.min_relative_accuracy:g} of it. "
        "All accuracies are on validation images."
    )


def _optima(table: AccuracyTable) -> str:
    seed = _seed(table)
    others = ["mean of the other seeds"] if len(table.seeds) > 1 else []
    rows = []
    for reward in REWARDS:
        for cost in COSTS:
            best = table.optimum(seed, reward=reward, cost=cost)
            problems = [
                Problem.from_table(table, seed=each, reward=reward, cost=cost)
                for each in table.seeds
                if each != seed and table.get(best.bitwidths, each) is not None
            ]
            again = [problem.evaluator.evaluate(best.bitwidths) for problem in problems]
            objectives = [problem.objective(each) for problem, each in zip(problems, again, strict=True)]
            objective, accuracy = [f"{best.objective:.4f}"], [f"{100 * best.accuracy:.2f}"]
            if others:
                objective.append(f"{np.mean(objectives):.4f}" if again else "-")
                accuracy.append(f"{100 * np.mean([each.accuracy for each in again]):.2f}" if again else "-")
            bits, q = " ".join(map(str, best.bitwidths)), f"{best.state_of_quantization:.4f}"
            rows.append((f"`{reward}`", f"`{cost}`", bits, q, *objective, *accuracy))
    header = ("reward", "cost", "optimum", "q", f"objective, seed {seed}", *others, f"accuracy, seed {seed}", *others)
    text = (
        f"Optima are those of seed {seed}, as an environment over the table has them unless told otherwise. The best "
        f"of many was lucky, too: {'what the other seeds say of it is the fairer figure' if others else _ALONE}."
    )
    return f"{text}\n\n{markdown(header, rows, aligned=False)}"


def _seed(table: AccuracyTable) -> int:
    """Return the first seed that measured all that the table has, else the first one."""
    return (table.whole_seeds or table.seeds)[0]


def _sensitivities(table: AccuracyTable) -> str:
    known = table.sensitivities
    assert known is not None
    rows = []
    for name, proxy in known.proxies.items():
        cost = proxy.cost
        counts = (cost.images, cost.forward, cost.backward, cost.evaluations)
        what = PROXIES[name].what if name in PROXIES else ""
        rows.append((f"`{name}`", what, f"{cost.seconds:.1f}", *(each or "-" for each in counts)))
    header = ("proxy", "what", "seconds", "images", "passed forward", "backward", "retrainings")
    text = (
        "Measured of each layer alone, with its cost; larger is worse. What searches can make of them is on the pages "
        f"[{table.name}-proxies]({table.name}-proxies.md) and [{table.name}-interaction]({table.name}-interaction.md), "
        "made by `python -m benchmarks.tables.proxies`."
    )
    return f"{text}\n\n{markdown(header, rows, aligned=False)}"


def _difficulty(table: AccuracyTable) -> str:
    seed = _seed(table)
    rows = []
    for cost in COSTS:
        known: dict[str, Any] = table.summary(seed, cost=cost)
        regrets = known["random_search_regret"]
        shown = [f"{regrets[draws]:.4f}" if draws in regrets else "-" for draws in (10, 100, 300)]
        found = math.ceil(known["random_search_evaluations"])
        rows.append((f"`{cost}`", f"{100 * known['passing']:.1f} %", known["local_optima"], found, *shown))
    header = (
        "cost",
        "keep the constraint",
        "local optima",
        "random draws to the optimum",
        "regret after 10",
        "100",
        "300",
    )
    text = (
        f"Reward `constrained`, seed {seed}. A local optimum is an assignment that no change of one layer makes "
        "better. What random search does is computed, not tried."
    )
    return f"{text}\n\n{markdown(header, rows, aligned=False)}"


def _noise(table: AccuracyTable) -> str:
    noise = table.seed_noise()
    if noise is None:
        return "One retraining seed was measured: the table says nothing of their noise."
    above = table.seed_noise(table.min_relative_accuracy)
    there = "" if above is None else f", by {100 * above:.2f} among those that keep the constraint"
    return (
        f"With another retraining seed the accuracy of an assignment differs by {100 * noise:.2f} percentage points "
        f"(root mean square){there}. Differences below that say nothing of an assignment."
    )


def _measured(table: AccuracyTable) -> str:
    about = table.about
    names = ("task", "split", "recipe", "engine", "precision", "device", "instructions", "threads", "weights")
    times = ("machine", "versions", "begun", "written")
    rows = [(name, _cell(about[name])) for name in (*names, *times) if about.get(name) is not None]
    if "seconds" in about:
        rows.append(("seconds of computing", f"{about['seconds']:.0f}"))
    rows += [("command", f"`{command}`") for command in about.get("commands", [])]
    return markdown(("", ""), rows, aligned=False) if rows else "The table does not say."


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items() if each is not None)
    return str(value)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pages of tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.page", description=main.__doc__)
    parser.add_argument("tables", nargs="+", help="names or paths")
    parser.add_argument("--out", type=Path, default=Path("docs/tables"), help="the folder (default: %(default)s)")
    args = parser.parse_args(argv)
    with ends_in_one_line():
        for name in args.tables:
            print(page(AccuracyTable.load(name), args.out))


if __name__ == "__main__":
    main()
