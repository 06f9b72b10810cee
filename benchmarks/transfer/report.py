"""The page of the transfer, from its files alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.algorithms.transfer.sight import HORIZON
from agents.algorithms.transfer.weights import SHIPPED, read_policy
from benchmarks.common import machine
from benchmarks.compare.scores import Scores
from benchmarks.compare.statistics import Interval, difference_interval, improvement_interval, interval, mean
from benchmarks.transfer.pictures import draw
from benchmarks.transfer.results import AT, TransferResults
from benchmarks.transfer.suite import AGENTS, LOOKED_AT
from releq_env.files import replace_file
from releq_env.report.markdown import table

Floats = NDArray[np.float64]

OURS = "transfer"


class Group(NamedTuple):
    """Runs that are reported together.

    Attributes:
        title: What they are.
        problems: Their names.
        best: Of each agent the normalised best after each of 1 to 20 evaluations, shape `(runs, problems, 20)`.
    """

    title: str
    problems: Sequence[str]
    best: dict[str, Floats]

    def at(self, label: str, number: int) -> Floats:
        """Return the best of an agent after a number of evaluations, shape `(runs, problems)`."""
        return self.best[label][:, :, number - 1]


def write(output: Path) -> str:
    """Write the page and its picture beside the rows, and return the page."""
    results = TransferResults(output)
    names = list(dict.fromkeys(env for env, _, _ in sorted(results.rows)))
    looked_at = [name for name in names if name.partition("/")[0] in LOOKED_AT]
    later = [name for name in names if name not in looked_at]
    parts = ["# Transfer: 20 evaluations on a network that the policy has never seen\n", _HOW]
    groups = [
        _group(results, envs, title)
        for title, envs in (("Tables measured after the agent was made", later), ("Tables its makers knew", looked_at))
        if envs
    ]
    for group in groups:
        parts += [f"## {group.title}\n", verdict(group), "", _main(group), "", _each(group), ""]
    folder = output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    if groups:
        draw({group.title: group.best for group in groups}, folder / "best.png")
        parts += ["![Normalised best so far after 1 to 20 evaluations](best.png)\n"]
    parts += ["## Made with\n", _tables(results), "", _policies(), "", *machine.listed(results.machines)]
    text = "\n".join(parts) + "\n"
    replace_file(folder / "README.md", text)
    return text


def verdict(group: Group) -> str:
    """Say in words how the policy stands to its rivals after 20 evaluations."""
    if OURS not in group.best or len(group.best) == 1:
        return "Not all of the agents have runs yet."
    lines = []
    for other in [label for label in group.best if label != OURS]:
        ours, theirs = group.at(OURS, HORIZON), group.at(other, HORIZON)
        gap = difference_interval(ours, theirs, mean)
        better = improvement_interval(ours, theirs)
        said = "above" if gap.low > 0 else "below" if gap.high < 0 else "not told apart from"
        worse = int((ours.mean(axis=0) < theirs.mean(axis=0)).sum())
        lines.append(
            f"- {said} `{other}`: mean best after 20 differs by {_said(gap, True)}; a run is better with probability "
            f"{_said(better)}, ties counting one half; worse on {worse} of {len(group.problems)} problems"
        )
    return f"After 20 evaluations `{OURS}` is\n\n" + "\n".join(lines)


def _group(results: TransferResults, envs: Sequence[str], title: str) -> Group:
    scores = Scores(results, envs)
    labels = [variant.label for variant in AGENTS if variant.label in scores.algos]
    return Group(title, scores.envs, {label: scores.at(label, range(1, HORIZON + 1)) for label in labels})


def _main(group: Group) -> str:
    header = ("agent", "runs", *(f"at {number}" for number in AT), "mean of 1 to 20", "optimum found")
    lines = []
    for label, best in group.best.items():
        values = [*(group.at(label, number) for number in AT), best.mean(axis=2)]
        found = (best[:, :, -1] >= 1.0 - 1e-6).mean()
        lines.append(
            (label, str(best[:, :, 0].size), *(_said(interval(each, mean)) for each in values), f"{found:.0%}")
        )
    return table(header, lines, aligned=False)


def _each(group: Group) -> str:
    lines = [
        [problem, *(f"{group.at(label, HORIZON)[:, index].mean():.3f}" for label in group.best)]
        for index, problem in enumerate(group.problems)
    ]
    return table(["mean at 20", *group.best], lines, aligned=False)


def _tables(results: TransferResults) -> str:
    found = {each.table: (each.table, str(each.assignments), each.digest) for each in results.facts.values()}
    return table(("table", "assignments", "digest"), [found[name] for name in sorted(found)], aligned=False)


def _policies() -> str:
    lines = []
    for path in sorted(SHIPPED.glob("*.npz")):
        _, about = read_policy(path)
        lines.append((path.stem, about["trained_on"], str(about["seed"]), f"`{about['command']}`"))
    return table(("policy", "trained on", "seed", "command"), lines, aligned=False)


def _said(found: Interval, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


_HOW = """Made by `python -m benchmarks.transfer` (this page alone, from the rows: `--report`); rows: `../transfer.csv`,
`runs.csv` with whole curves, `problems.csv` with the optima. 0 is the mean of a uniformly random assignment that keeps
`max_cost`, 1 the optimum. Values are means over problems and seeds; the 95 % intervals are of a bootstrap over the runs
of each problem, so they say nothing of other networks. Every searcher asks for one assignment at a time.

`transfer` is the trained policy. `transfer/improvement` takes the largest expected improvement by the same belief in
its place: what that has above `gp` is the prior's, what `transfer` has above that is the training's.
`transfer/untrained` is the policy's network before training, `transfer/published` a policy over the paper's eight
features, trained on the same made-up networks and further in the search. The others begin anew with each problem.

The policy has seen none of these tables. Its makers had some before them when they wrote the prior and the
features; who has seen what, and what follows, is in [docs/transfer.md](../../../docs/transfer.md).
"""
