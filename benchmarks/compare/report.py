"""Write the report of the comparison from its CSV files alone.

    python -m benchmarks.compare.report

Reads `comparison.csv`, and as far as they are there `apart.csv`, `optimum.csv`, `defaults.csv`, `ablation.csv`,
`paper.csv`, `lottery.csv` and `rerun.csv`; writes a Markdown page and its pictures.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.common import machine
from benchmarks.common.recording import RESULTS
from benchmarks.compare import pictures, sections, statistics
from benchmarks.compare.scores import Scores
from benchmarks.compare.suite import MAIN
from releq_env.command import ends_in_one_line
from releq_env.errors import ReLeQError
from releq_env.files import replace_file

Section = Callable[[Scores, Scores, Path], list[str]]
"""Of the comparison, another file and the folder of pictures: its paragraphs."""

_HOW = """A run is `agents.train` of that agent on that problem; it ends at {budget} distinct evaluations or {timesteps}
time steps, and its last best counts to the end. Rewards are normalised by the table: 0 is the mean of a uniformly
random assignment that keeps `max_cost`, 1 the optimum. Values are interquartile means over runs and problems, with 95 %
intervals of a stratified bootstrap in brackets; agents stand by the area under their best-so-far curve."""


def write_report(results: Path, out: Path) -> Path:
    """Write the page and its pictures, and return its path.

    Args:
        results: Folder of the CSV files.
        out: Folder of the page.

    Raises:
        ReLeQError: If there is no comparison, or a file is damaged.
    """
    found = {name: Scores.read(results / f"{name}.csv") for name in _FILES}
    main = found["comparison"]
    if main is None:
        raise ReLeQError(f"{results / 'comparison.csv'} is not there; make it with python -m benchmarks.compare")
    begun = [f"{name}.csv" for name, scores in found.items() if scores is not None and not scores.algos]
    if not main.algos:
        raise ReLeQError(
            f"in {results / 'comparison.csv'} no agent has a run on every problem yet; let the comparison go on"
        )
    out.mkdir(parents=True, exist_ok=True)
    parts = ["# The comparison", _how(main), *_main(main, out)]
    for name, scores in found.items():
        if scores is not None and scores.algos and name in _MORE:
            parts += _MORE[name](main, scores, out)
    parts += _lottery(results / "lottery.csv", out)
    if begun:
        parts += [f"Left out, since no agent has a run on every problem of it yet: {', '.join(begun)}."]
    parts += ["## How it was made", _made(main)]
    page = out / "README.md"
    replace_file(page, "\n\n".join(parts) + "\n")
    return page


def _how(main: Scores) -> str:
    timesteps = max(each["timesteps"] for each in main.settings.values())
    text = _HOW.format(budget=main.budget, timesteps=f"{timesteps:,}").replace("\n", " ")
    names = [entry.name for entry in MAIN]
    absent = [name for name in names if name not in main.envs]
    if 0 < len(absent) < len(names):  # else it is the suite, or tables of one's own
        text += f" Not measured yet, of the suite's {len(names)} problems: {', '.join(absent)}."
    if main.left_out:
        text += f" Not on every problem yet, and so left out: {', '.join(main.left_out)}."
    return text


def _main(main: Scores, out: Path) -> list[str]:
    drawn = {
        "headline": ("Best reward so far against distinct evaluations, a few agents", pictures.headline),
        "curves": ("Best reward so far against distinct evaluations, a line an agent", pictures.best_so_far),
        "profiles": ("Performance profiles of the same few: the share of runs above each score", pictures.profiles),
        "improvement": ("Probability that one agent is better than another", pictures.improvements),
        "fronts": ("Pareto fronts that agents have found, and the true front", pictures.fronts),
        "overhead": ("Seconds of the agents' own", pictures.overhead),
    }
    links = {}
    for name, (text, draw) in drawn.items():
        draw(main, out / f"{name}.png")
        links[name] = f"![{text}]({name}.png)"
    parts = [links["headline"], "## All agents", sections.ranking(main), links["curves"]]
    if "dyna_ppo" in main.algos:
        parts += ["## `dyna_ppo` against the others", sections.focus(main, "dyna_ppo")]
    parts += ["## Who is better than whom", sections.neighbours(main), links["improvement"], links["profiles"]]
    parts += ["## The problems", sections.problems(main)]
    parts += ["Mean normalised reward after 100 distinct evaluations:", sections.by_problem(main)]
    parts += ["Distinct evaluations until the optimum: median / worst (found in so many seeds):"]
    parts += [sections.until_optimum(main)]
    parts += ["## Regret twice: the winner's curse", _CURSE, sections.winners_curse(main)]
    parts += ["## Fronts", _FRONTS, links["fronts"], sections.front_shares(main)]
    return [*parts, "## The agents' own time", links["overhead"]]


_CURSE = (
    "What looks best of many noisy measurements is likely to have been lucky. Normalised regret of the assignment that "
    "an agent recommends: on the retraining seed that it searched, and on those that it has not seen, each against "
    "that seed's own optimum (problems whose table has several seeds)."
)
_FRONTS = (
    "No agent searches for the whole front; this is what it has measured on its way. Three seeds; dashed: the accuracy "
    "constraint. The share of the area in cost and accuracy, of that of the true front, that all evaluations dominate:"
)


def _tables(main: Scores, scores: Scores, out: Path) -> list[str]:
    parts = ["## Distinct evaluations until the optimum of each table"]
    parts += ["With each table's own constraint: median / worst (found in so many seeds)."]
    parts += [
        sections.until_optimum(scores),
        "\n".join(["Made on, on which seconds depend:", "", *machine.listed(scores.machines)]),
    ]
    return parts + ([sections.gp_goal(scores)] if "gp" in scores.algos else [])


def _apart(main: Scores, scores: Scores, out: Path) -> list[str]:
    parts = ["## Problems that stand apart", "Trivial ones, and what hyperparameters are tuned on; not averaged in."]
    return [*parts, sections.problems(scores), sections.until_optimum(scores)]


def _defaults(main: Scores, scores: Scores, out: Path) -> list[str]:
    return ["## Untuned defaults", sections.beside_defaults(main, scores)]


def _variants(title: str, name: str) -> Section:
    def write(main: Scores, scores: Scores, out: Path) -> list[str]:
        values = {algo: statistics.interval(scores.column(algo, "auc")) for algo in scores.algos}
        pictures.intervals(values, "normalised area under the best-so-far curve", out / f"{name}.png")
        return [f"## {title}", f"![{title}: a line a variant]({name}.png)", sections.variants(scores)]

    return write


def _rerun(main: Scores, scores: Scores, out: Path) -> list[str]:
    return ["## A rerun", sections.rerun(main, scores)]


_MORE: dict[str, Section] = {
    "optimum": _tables,
    "apart": _apart,
    "defaults": _defaults,
    "ablation": _variants("Ablation", "ablation"),
    "paper": _variants("The paper's own ablations", "paper"),
    "rerun": _rerun,
}
_FILES = ("comparison", *_MORE)
"""What is read, and the sections that there are if a file is there."""


def _lottery(path: Path, out: Path) -> list[str]:
    """Return the section of the hyperparameter lottery: rows of `agents.tune`, with at least `algo` and `score`."""
    if not path.exists():
        return []
    trials: dict[str, list[float]] = {}
    defaults: dict[str, float] = {}
    try:
        with path.open() as file:
            for row in csv.DictReader(file):
                if row["score"]:
                    trials.setdefault(row["algo"], []).append(float(row["score"]))
                    if row.get("trial") == "0":  # the study's first trial is the untuned default
                        defaults[row["algo"]] = float(row["score"])
    except (KeyError, ValueError) as error:
        raise ReLeQError(f"{path} is damaged ({type(error).__name__}: {error}); make it again") from error
    if not trials:
        return []
    pictures.lottery(trials, defaults, out / "lottery.png")
    return [
        "## The hyperparameter lottery",
        "Each agent's score over the hyperparameters that were tried in tuning it: how much of a result is luck with "
        "settings.",
        "![Scores of all hyperparameters that were tried, a line an agent](lottery.png)",
    ]


def _made(main: Scores) -> str:
    rows = [f"| {algo} | {main.settings[algo]['n_envs']} | `{_settings(main, algo)}` |" for algo in main.algos]
    header = ["| agent | assignments or environments at once | settings |", "|---|---|---|"]
    return "\n".join([*_COMMANDS, "", *machine.listed(main.machines), "", *header, *rows])


_COMMANDS = (
    *("```", "python -m benchmarks.compare --envs main --algos all", "python -m benchmarks.compare.report", "```"),
    *("", "Machines and versions:"),
)


def _settings(main: Scores, algo: str) -> str:
    settings = main.settings[algo]
    return ", ".join(f"{name}={value}" for name, value in settings["hyperparams"].items()) or "none"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare.report", description=main.__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--out", type=Path, help="folder of the page (default: RESULTS/comparison)")
    args = parser.parse_args(argv)
    with ends_in_one_line():
        print(write_report(args.results, args.out or args.results / "comparison"))


if __name__ == "__main__":
    main()
