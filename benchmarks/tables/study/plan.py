"""What is measured, in which order: the most telling first, so that a part of the rows is a study, too.

1. Screening (`screen`): every recipe on uniform assignments and on the full-precision network.
2. A pool (`pool`) of random assignments, measured as today. From it 40 assignments are chosen, once: half at
   random, half cheap and near the accuracy constraint. `assignments.json` keeps them.
3. The reference (`long`): their accuracy after long retraining.
4. Ranks (`short`): their accuracy after short retraining, by recipe and budget.
"""

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.tables.study.recipes import FINALISTS, FIRST, RANKED, SECOND, SLOWER, TODAY, Recipe
from benchmarks.tables.study.rows import FOLDER, Job, Rows, joined
from benchmarks.tables.study.training import FULL_PRECISION, FULL_PRECISION_BITS, LONG, LONG_EPOCHS
from releq_env.files import replace_file
from releq_env.tasks import get_task, load_pretrained

SCREENED = ("cifar10", "mnist", "fashion-mnist", "digits")
UNIFORM = {"lsq": (1, 2, 3, 4, 8), "wrpn": (2, 3, 4, 8)}
IMAGES = {"digits": 1_600, "mnist": 10_000, "fashion-mnist": 10_000, "cifar10": 45_000}
"""Of the retraining that the study began with."""
CHOICES = {"lsq": (1, 2, 3, 4, 5, 6, 7, 8), "wrpn": (2, 3, 4, 5, 8)}
_BUDGETS = (0, 640, 1_280, 2_560, 5_000, 10_000, 20_000, 45_000)
BUDGETS = {
    "digits": (0, 160, 320, 640, 1_600, 3_200, 6_400),
    "mnist": _BUDGETS,
    "fashion-mnist": _BUDGETS,
    "cifar10": _BUDGETS,
}

SEEDS = (0, 1, 2, 3)
"""Of the screening."""
FRESH = tuple(range(100, 108))
"""Of what confirms it: they have chosen nothing."""
LONG_SEEDS = (0, 1)
"""Of the long retraining, and of the short ones beside it."""

RANDOM, NEAR = 20, 20
_POOL = 120
_POOL_SEED = 1000
"""Not a seed that is ranked: what was chosen for its luck with one must not be judged by it."""
_MARGIN = 0.01
"""How far below the accuracy constraint still counts as near."""

CHOSEN = "assignments.json"
Chosen = dict[str, dict[str, list[tuple[int, ...]]]]


def job(
    part: str, task: str, quantizer: str, bitwidths: Sequence[int] | None, recipe: Recipe, images: int, seed: int
) -> Job:
    """Return a row's definition; recipes that come to the same there become one."""
    if quantizer != "lsq" or set(bitwidths or ()) == {1}:  # no step sizes were trained, then
        recipe = recipe.without_steps
    if len(different := set(bitwidths or (FULL_PRECISION_BITS,))) == 1:
        recipe = recipe.at(*different)
    if images == 0:
        recipe, seed = TODAY, 0
    return Job(part, task, quantizer, joined(bitwidths), recipe.name, images, seed)


def screen(quantizer: str, recipes: Iterable[Recipe], seeds: Iterable[int], part: str = "screen") -> Iterator[Job]:
    """Yield the rows of recipes on uniform assignments, and on the full-precision network."""
    for seed in seeds:
        for name in SCREENED:
            layers = len(load_pretrained(get_task(name)).layers)
            for recipe in recipes:
                yield job(part, name, FULL_PRECISION, None, recipe, IMAGES[name], seed)
                for bits in UNIFORM[quantizer]:
                    yield job(part, name, quantizer, (bits,) * layers, recipe, IMAGES[name], seed)


def pool(task: str, quantizer: str) -> Iterator[Job]:
    """Yield the rows that assignments are chosen from: half of them uniformly random, half cheap."""
    for bitwidths in _random(task, quantizer):
        yield job("pool", task, quantizer, bitwidths, TODAY, IMAGES[task], _POOL_SEED)


def _random(task: str, quantizer: str) -> list[tuple[int, ...]]:
    generator = random.Random(f"{task} {quantizer}")
    choices, layers = CHOICES[quantizer], len(load_pretrained(get_task(task)).layers)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < _POOL:
        largest = len(choices) if len(found) < _POOL // 2 else generator.randint(2, len(choices) - 1)
        found[tuple(generator.choice(choices[:largest]) for _ in range(layers))] = None
    return list(found)


def choose(task: str, quantizer: str, rows: Rows, place: str) -> dict[str, list[tuple[int, ...]]] | None:
    """Return the assignments to rank, or `None` while the pool is not complete."""
    measured = [rows.get(each, place) for each in pool(task, quantizer)]
    if not all(measured):
        return None
    everything = _random(task, quantizer)
    found = get_task(task)
    least = (found.min_relative_accuracy - _MARGIN) * load_pretrained(found).accuracy
    passing = [
        bitwidths
        for bitwidths, row in zip(everything, measured, strict=True)
        if row is not None and row.measured.accuracy >= least and bitwidths not in everything[:RANDOM]
    ]
    return {"random": everything[:RANDOM], "near": sorted(passing, key=sum)[:NEAR]}


def load_chosen(path: Path = FOLDER / CHOSEN) -> Chosen:
    """Return the assignments that were chosen: by `task/quantizer`, `random` and `near`."""
    if not path.exists():
        return {}
    known = json.loads(path.read_text())
    return {
        where: {kind: [tuple(each) for each in found] for kind, found in kinds.items()}
        for where, kinds in known.items()
    }


def save_chosen(chosen: Chosen, path: Path = FOLDER / CHOSEN) -> None:
    """Keep the assignments that were chosen, about a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, re.sub(r"\s+(?=\d|\]\s*[,\]])", " ", json.dumps(chosen, indent=1)) + "\n")


def with_stand_ins(chosen: Chosen) -> Chosen:
    """Return the same with random assignments where none have been chosen yet, so that a plan's rows can be counted."""
    every = {f"{task}/{quantizer}": _random(task, quantizer) for task, quantizer in SETTINGS}
    return {
        where: {"random": each[:RANDOM], "near": each[RANDOM : RANDOM + NEAR]} for where, each in every.items()
    } | chosen


def ranked(
    task: str,
    quantizer: str,
    chosen: Chosen,
    recipes: Sequence[Recipe],
    seed: int,
    part: slice = slice(None),
    long: bool = True,
) -> Iterator[Job]:
    """Yield, assignment by assignment, the long retraining and the short ones of all budgets.

    Random ones and those near the front take turns. Nothing while they have not been chosen.
    """
    kinds = chosen.get(f"{task}/{quantizer}", {"random": [], "near": []})
    turns = [each for pair in zip(kinds["random"], kinds["near"], strict=False) for each in pair]
    for bitwidths in turns[part]:
        if long:
            yield job("long", task, quantizer, bitwidths, LONG, LONG_EPOCHS, seed)
        for recipe in recipes:
            for images in BUDGETS[task]:
                yield job("short", task, quantizer, bitwidths, recipe, images, seed)


def plan(chosen: Chosen) -> list[Job]:
    """Return all rows in the order in which they are measured, each once."""

    def finalists(task: str, seed: int, part: slice = slice(None), long: bool = True) -> Iterator[Job]:
        return ranked(task, "lsq", chosen, FINALISTS, seed, part, long)

    blocks: list[Iterable[Job]] = [
        pool("digits", "lsq"),
        pool("cifar10", "lsq"),
        pool("fashion-mnist", "lsq"),
        finalists("digits", 0),
        finalists("digits", 1),
        finalists("cifar10", 0, slice(0, 20)),
        finalists("cifar10", 1, slice(0, 20), long=False),
        finalists("fashion-mnist", 0, slice(0, 12)),
        finalists("cifar10", 0),
        finalists("fashion-mnist", 0),
        screen("lsq", [*FIRST, *SLOWER], (0, 1)),
        screen("lsq", FIRST, (2, 3)),
        screen("lsq", SECOND, (0, 1)),
        screen("wrpn", FIRST, (0, 1)),
        ranked("digits", "lsq", chosen, RANKED, 0),
        ranked("digits", "lsq", chosen, RANKED, 1),
        screen("lsq", SECOND, (2, 3)),
        screen("wrpn", FIRST, (2, 3)),
        pool("cifar10", "wrpn"),
        ranked("cifar10", "wrpn", chosen, RANKED, 0),
        ranked("cifar10", "lsq", chosen, RANKED, 0),
        ranked("fashion-mnist", "lsq", chosen, RANKED, 0),
        ranked("cifar10", "lsq", chosen, RANKED, 1),
        ranked("fashion-mnist", "lsq", chosen, RANKED, 1),
        ranked("cifar10", "wrpn", chosen, RANKED, 1),
    ]
    return list(dict.fromkeys(each for block in blocks for each in block))


SETTINGS = (("cifar10", "lsq"), ("digits", "lsq"), ("fashion-mnist", "lsq"), ("cifar10", "wrpn"))
"""Where assignments are ranked."""
