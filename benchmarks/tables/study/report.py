"""The report: a page of tables, and pictures, made from the raw rows alone."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from benchmarks.tables.study import pictures, plan, statistics
from benchmarks.tables.study.clock import Clock
from benchmarks.tables.study.recipes import FIRST, RANKED, SECOND, SLOWER, TODAY, Recipe
from benchmarks.tables.study.rows import Job, Row, Rows
from benchmarks.tables.study.statistics import Interval
from benchmarks.tables.study.training import FULL_PRECISION, LONG, LONG_EPOCHS
from releq_env.errors import ReLeQError
from releq_env.files import replace_file
from releq_env.tasks import get_task, load_pretrained

SCREENED = list(dict.fromkeys([*FIRST, *SLOWER, *SECOND]))
Lines = list[str]
Cells = dict[tuple[Recipe, int], Interval]


class Found:
    """The rows of one place.

    Args:
        rows: All.
        place: That they were measured in.
    """

    def __init__(self, rows: Rows, place: str) -> None:
        self.place = place
        self.rows = rows
        self.chosen = plan.load_chosen(rows.folder / plan.CHOSEN)

    def get(self, job: Job) -> Row | None:
        """Return a row, or `None` if it has not been measured."""
        return self.rows.get(job, self.place)

    def accuracies(self, jobs: Iterable[Job]) -> list[float]:
        """Return the accuracies, in percent, of those that have been measured."""
        return [100 * row.measured.accuracy for job in jobs if (row := self.get(job))]


def write_report(rows: Rows) -> None:
    """Write `report.md` and its pictures beside the raw rows.

    Raises:
        ReLeQError: If there are none.
    """
    if not rows.rows:
        raise ReLeQError(f"there is no row in {rows.folder}; measure some: python -m benchmarks.tables.study")
    lines = ["# The short retraining: recipe and budget", "", _LEGEND, ""]
    counts = Counter(row.place for row in rows.rows.values())
    for number, (place, _) in enumerate(counts.most_common(), start=1):
        lines += _of_place(Found(rows, place), number)
    replace_file(rows.folder / "report.md", "\n".join(lines))


_LEGEND = f"""Accuracies are of one place, a kind of processor with its precision and version of torch, and
compared only there.

**Recipes on uniform assignments**: validation accuracy in percent, mean over seeds, with the half-width of Student's
95 % interval. "change" is the mean difference from `today` with the same seeds; "seed sd" is the standard deviation of
one seed, root mean square over the bitwidths. "killed" counts step sizes that crossed zero, over all columns; "s" is
the mean time of a row, other work on the machine included. "fp" is the full-precision network, retrained likewise.

**Ranks**: Spearman's correlation of the accuracy after a short retraining (one seed) with the accuracy after
{LONG_EPOCHS} epochs (`{LONG.name}`, augmented as in pre-training; the mean of its seeds so far), over the
chosen assignments; in brackets the 95 % interval by bootstrap over assignments. Columns: images.

**Levels**: how many points the accuracy after a short retraining (first seed) is below the one after the long, mean
over the assignments, and the most of any."""


def _of_place(found: Found, number: int) -> Lines:
    lines = [f"## Place {number}: {found.place}", "", *_summary(found)]
    for title, seeds in (("Recipes on uniform assignments", plan.SEEDS), ("Confirmed with fresh seeds", plan.FRESH)):
        screened = [
            line
            for task in plan.SCREENED
            for quantizer in plan.UNIFORM
            for line in _screen(found, task, quantizer, seeds, number)
        ]
        if screened:
            lines += [f"### {title}", "", *screened]
    ranked = [line for task, quantizer in plan.SETTINGS for line in _ranks(found, task, quantizer, number)]
    return [*lines, "### Ranks", "", *ranked] if ranked else lines


def _summary(found: Found) -> Lines:
    planned: Counter[tuple[str, str]] = Counter()
    present: Counter[tuple[str, str]] = Counter()
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    missing: dict[tuple[str, str], float] = defaultdict(float)
    clock = Clock()
    for job in plan.plan(plan.with_stand_ins(found.chosen)):
        key = job.part, job.task
        planned[key] += 1
        if row := found.get(job):
            present[key] += 1
            seconds[key] += row.measured.seconds
            clock.took(job, row.measured.seconds)
        else:
            missing[key] += clock.expect(job)
    lines = [
        "Hours are those of one core, other work on the machine included; those left are estimated.",
        "",
        "| part | task | rows | planned | hours | hours left |",
        "|---|---|---|---|---|---|",
    ]
    for key, count in planned.items():
        hours = f"{seconds[key] / 3600:.2f} | {clock.hours(missing[key]):.1f}"
        lines.append(f"| {key[0]} | {key[1]} | {present[key]} | {count} | {hours} |")
    hours = f"{sum(seconds.values()) / 3600:.2f} | {clock.hours(sum(missing.values())):.1f}"
    return [*lines, f"| all | | {present.total()} | {planned.total()} | {hours} |", ""]


def _screen(found: Found, task: str, quantizer: str, seeds: Sequence[int], number: int) -> Lines:
    layers = len(load_pretrained(get_task(task)).layers)
    images = plan.IMAGES[task]
    columns: list[tuple[int, ...] | None] = [None, *((bits,) * layers for bits in plan.UNIFORM[quantizer])]
    recipes = list(dict.fromkeys(each if quantizer == "lsq" else each.without_steps for each in SCREENED))

    def jobs(recipe: Recipe, column: tuple[int, ...] | None) -> list[Job]:
        name = quantizer if column else FULL_PRECISION
        return [plan.job("screen", task, name, column, recipe, images, seed) for seed in seeds]

    original = 100 * load_pretrained(get_task(task)).accuracy
    heads = ["fp", *(f"{bits} bits" if bits > 1 else "1 bit" for bits in plan.UNIFORM[quantizer])]
    accuracy: dict[str, list[Interval | None]] = {}
    lines = [f"#### {task}, {quantizer}, {images:,} images", "", f"Original network: {original:.2f}.", ""]
    lines += [f"| recipe | seeds | {' | '.join(heads)} | seed sd | killed | s |", "|---" * (len(heads) + 5) + "|"]
    changes = [f"| change by | seeds | {' | '.join(heads)} | mean |", "|---" * (len(heads) + 3) + "|"]
    for recipe in recipes:
        every = [jobs(recipe, column) for column in columns]
        rows = [row for column in every[1:] for job in column if (row := found.get(job))]
        counts = [len(found.accuracies(column)) for column in every]
        if not all(counts):  # not begun, but for what it has in common with another, or not a seed complete
            continue
        means = [statistics.mean(values) if (values := found.accuracies(column)) else None for column in every]
        accuracy[recipe.name] = means
        killed = sum(row.measured.killed for row in rows)
        seconds = sum(row.measured.seconds for row in rows) / len(rows)
        cells = " | ".join(_percent(each) for each in means)
        noise = statistics.noise([found.accuracies(column) for column in every[1:]])
        lines.append(
            f"| `{recipe.name}` | {_range(counts)} | {cells} | {'' if math.isnan(noise) else f'{noise:.2f}'} "
            f"| {killed} | {seconds:.2f} |"
        )
        if recipe != TODAY:
            paired = [_paired(found, jobs(recipe, column), jobs(TODAY, column)) for column in columns]
            cells = " | ".join(_percent(statistics.mean(each) if each else None, sign=True) for each in paired)
            # One mean a seed, so that its interval is over seeds, too; only seeds that have every column.
            whole = list(zip(*paired, strict=False)) if len({len(each) for each in paired}) == 1 else []
            average = _percent(statistics.mean([sum(each) / len(each) for each in whole]) if whole else None, sign=True)
            changes.append(f"| `{recipe.name}` | {_range([len(each) for each in paired])} | {cells} | {average} |")
    if not accuracy:
        return []
    if seeds is not plan.SEEDS:
        return [*lines, "", *changes, ""]
    path = f"screen-{task}-{quantizer}-{number}.png"
    pictures.screen(found.rows.folder / path, f"{task}, {quantizer}", heads, accuracy, original)
    return [*lines, "", *changes, "", f"![]({path})", ""]


def _paired(found: Found, jobs: Sequence[Job], others: Sequence[Job]) -> list[float]:
    pairs = [(found.get(job), found.get(other)) for job, other in zip(jobs, others, strict=True)]
    return [100 * (a.measured.accuracy - b.measured.accuracy) for a, b in pairs if a and b]


def _ranks(found: Found, task: str, quantizer: str, number: int) -> Lines:
    kinds = found.chosen.get(f"{task}/{quantizer}")
    short = any(
        (job.part, job.task, job.quantizer, place) == ("short", task, quantizer, found.place)
        for job, place in found.rows.rows
    )
    if kinds is None or not short:
        return []
    every = [*kinds["random"], *kinds["near"]]

    def long(bitwidths: tuple[int, ...]) -> list[float]:
        return found.accuracies(
            plan.job("long", task, quantizer, bitwidths, LONG, LONG_EPOCHS, seed) for seed in plan.LONG_SEEDS
        )

    reference = {bitwidths: sum(values) / len(values) for bitwidths in every if (values := long(bitwidths))}
    if len(reference) < 4:
        return []
    near = {bitwidths for bitwidths in kinds["near"] if bitwidths in reference}
    lines = [f"#### {task}, {quantizer}", ""]
    lines += _reference(long, reference, near)
    recipes = list(dict.fromkeys(each if quantizer == "lsq" else each.without_steps for each in RANKED))
    budgets = plan.BUDGETS[task]
    cells: Cells = {}
    levels: dict[tuple[str, int], str] = {}
    scatter: dict[str, tuple[list[float], list[float]]] = {}
    groups: tuple[tuple[str, Callable[[tuple[int, ...]], bool]], ...] = (
        ("all", lambda _: True),
        ("near the front", near.__contains__),
    )
    for title, belongs in groups:
        chosen = [bitwidths for bitwidths in reference if belongs(bitwidths)]
        lines += [
            f"Spearman, {title}:",
            "",
            f"| recipe | seed | assignments | {' | '.join(f'{b:,}' for b in budgets)} |",
        ]
        lines += ["|---" * (len(budgets) + 3) + "|"]
        for recipe in recipes:
            for seed in plan.LONG_SEEDS:
                jobs = {
                    each: [plan.job("short", task, quantizer, each, recipe, images, seed) for images in budgets]
                    for each in chosen
                }
                whole = {each: rows for each, of in jobs.items() if all(rows := [found.get(job) for job in of])}
                if len(whole) < 4:
                    continue
                after = [reference[each] for each in whole]
                row = []
                for images, column in zip(budgets, zip(*whole.values(), strict=True), strict=True):
                    before = [100 * measured.measured.accuracy for measured in column if measured]
                    interval = statistics.spearman(before, after)
                    row.append(f"{interval.value:.3f} [{interval.low:.2f}, {interval.high:.2f}]")
                    if title == "all" and seed == plan.LONG_SEEDS[0]:
                        cells[recipe, images] = interval
                        below = [b - a for a, b in zip(before, after, strict=True)]
                        levels[recipe.name, images] = f"{sum(below) / len(below):.1f}, {max(below):.1f}"
                        if images == plan.IMAGES[task]:
                            scatter[recipe.name] = before, after
                lines.append(f"| `{recipe.name}` | {seed} | {len(whole)} | {' | '.join(row)} |")
        lines.append("")
    lines += _levels(levels, recipes, budgets)
    measured = [recipe for recipe in recipes if (recipe, budgets[0]) in cells]
    drawn = {recipe.name: [cells[recipe, images] for images in budgets] for recipe in measured}
    where = f"{task}-{quantizer}-{number}.png"
    folder = found.rows.folder
    pictures.ranks(folder / f"ranks-{where}", f"{task}, {quantizer}", budgets, drawn)
    pictures.scatter(folder / f"scatter-{where}", f"{task}, {quantizer}", scatter)
    pictures.front(folder / f"front-{where}", f"{task}, {quantizer}", reference, near)
    return [*lines, *(f"![]({kind}-{where})" for kind in ("ranks", "scatter", "front")), ""]


def _levels(levels: dict[tuple[str, int], str], recipes: Sequence[Recipe], budgets: Sequence[int]) -> Lines:
    lines = ["Levels:", "", f"| recipe | {' | '.join(f'{b:,}' for b in budgets)} |", "|---" * (len(budgets) + 1) + "|"]
    for recipe in recipes:
        if any((recipe.name, images) in levels for images in budgets[1:]):
            lines.append(f"| `{recipe.name}` | {' | '.join(levels.get((recipe.name, b), '') for b in budgets)} |")
    return [*lines, ""]


def _reference(
    long: Callable[[tuple[int, ...]], list[float]], reference: dict[tuple[int, ...], float], near: set[tuple[int, ...]]
) -> Lines:
    values = list(reference.values())
    ends = f"{min(values):.2f} to {max(values):.2f} %"
    lines = [f"Reference: {len(reference)} assignments ({len(near)} near the front), {ends}."]
    both = [each for bitwidths in reference if len(each := long(bitwidths)) > 1]
    if len(both) > 3:
        first, second = [each[0] for each in both], [each[1] for each in both]
        noise = math.sqrt(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) / (2 * len(both)))
        agreement = statistics.spearman(first, second)
        lines += [
            f"Its two seeds agree with Spearman {agreement.value:.3f} [{agreement.low:.2f}, {agreement.high:.2f}] over "
            f"{len(both)} assignments; their standard deviation is {noise:.2f} points."
        ]
    return [*lines, ""]


def _percent(interval: Interval | None, sign: bool = False) -> str:
    if interval is None:
        return ""
    value = f"{interval.value:+.2f}" if sign else f"{interval.value:.2f}"
    half = interval.high - interval.value
    return value if math.isnan(half) else f"{value} ± {half:.2f}"


def _range(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
