"""Which values of the final recipe help, on validation only.

    nohup python -m benchmarks.reproduce.levers cifar10-lsq --bits 5,4,3,3,3 > levers.log 2>&1 &
    python -m benchmarks.reproduce.levers cifar10-lsq --bits 5,4,3,3,3 --levers average=0.999+freeze=0.1 --epochs 300

A lever is a value of `FinalRecipe`, or several joined by `+`. Every row is kept; the same command goes on, and two of
them at once share the work. What wins is written into the table of recipes by hand.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agents.run.settings import parse_pairs
from benchmarks.common.recording import RESULTS, positive
from benchmarks.reproduce.choosing import SEEDS, Validated
from benchmarks.reproduce.networks import RECIPES
from benchmarks.reproduce.rows import ROWS
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError, check_choice
from releq_env.paths import cache_folder
from releq_env.report.markdown import table
from releq_env.tasks.final import FIELDS, FinalRecipe

FOLDER = RESULTS / "reproduction" / "levers"
PLAIN = "plain"
LEVERS = (
    PLAIN,
    "learning_rate=3e-3",
    "learning_rate=3e-4",
    "distillation=1.0",
    "distillation=1.0+temperature=2.0",
    "distillation=1.0+distillation_end=0.0",
    "step_rate=3e-3",
    "average=0.999",
    "warm_start=10",
    "freeze=0.1",
)
"""What papers report gains of, in the order in which it is tried."""
_HEADER = ("lever", "recipe", "validation accuracy", "control", "loss, points")


def recipe_of(lever: str, plain: FinalRecipe) -> FinalRecipe:
    """Return the recipe that a lever stands for.

    Args:
        lever: `NAME=VALUE`, several joined by `+`, or `PLAIN`.
        plain: What is changed.

    Raises:
        ReLeQError: If a name or value is not accepted.
    """
    changes = {} if lever == PLAIN else parse_pairs(lever.split("+"), "--levers", "learning_rate=3e-3+average=0.999")
    for name in changes:
        check_choice("value of the recipe", name, FIELDS)
    return replace(plain, **changes)


def report(rows: Mapping[str, tuple[FinalRecipe, list[Mapping[str, str]]]]) -> str:
    """Return the table of levers.

    Args:
        rows: By lever: its recipe, and the rows of its seeds.
    """
    lines = []
    for lever, (_, found) in rows.items():
        accuracies = [f"{100.0 * float(row['validation_accuracy']):.2f}" for row in found]
        loss = sum(float(row["loss"]) for row in found) / len(found)
        control = ", ".join(f"{100.0 * float(row['control_accuracy']):.2f}" for row in found)
        lines.append((lever, found[0]["recipe"], ", ".join(accuracies), control, f"{loss:.2f}"))
    return table(_HEADER, lines)


def main(argv: list[str] | None = None) -> None:
    """Read the command line, retrain, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce.levers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("row", choices=list(ROWS), help="network and quantizer")
    add("--bits", required=True, metavar="B,B,...", help="the assignment that is retrained")
    add("--levers", nargs="+", default=LEVERS, metavar="LEVER", help="(default: %(default)s)")
    add("--epochs", type=positive, default=60, help="(default: %(default)s)")
    add("--output", type=Path, default=FOLDER, metavar="DIR", help="folder of the rows")
    args = parser.parse_args(argv)
    row = ROWS[args.row]
    try:
        bitwidths = tuple(map(int, args.bits.split(",")))
    except ValueError:
        raise ReLeQError(f"--bits {args.bits} is not accepted; give whole numbers, e.g. --bits 5,4,3,3,3") from None
    plain = replace(RECIPES[row.task], epochs=args.epochs)
    recipes = {lever: recipe_of(lever, plain) for lever in args.levers}  # all are checked before any is trained
    measured = {}
    for lever, recipe in recipes.items():
        validated = Validated(row, recipe, args.output / f"{row.name}.csv", cache_folder() / "reproduce")
        validated.loss(bitwidths)
        measured[lever] = recipe, validated.rows(bitwidths)
        print(f"{report(measured)}\n", flush=True)
    print(f"{args.bits}, {args.epochs} epochs, seeds {', '.join(map(str, SEEDS))}")


if __name__ == "__main__":
    with ends_in_one_line("stopped; the same command goes on from here"):
        main()
