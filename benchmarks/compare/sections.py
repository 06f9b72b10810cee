"""The sections of the report: each a function from scores to Markdown."""

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare import statistics
from benchmarks.compare.scores import Scores, family
from benchmarks.compare.statistics import Interval
from releq_env.report.markdown import table

_WITHIN = 75
"""Distinct evaluations within which `gp` is to have the optimum of every table."""


def ranking(scores: Scores) -> str:
    """Return the table of all agents, by the area under the curve."""
    header = ("agent", "family", "seeds", "area under the curve", "at 50", "at 100", "at 300",
              "optimality gap at the end", "optimum found")  # fmt: skip
    rows = table(header, [_rank_row(scores, algo) for algo in scores.algos], aligned=False)
    uniform = scores.uniform()
    if math.isnan(uniform):
        return rows
    return f"{rows}\n\nThe best uniform assignment, the same bits in all layers, is worth {uniform:.3f} on this scale."


def neighbours(scores: Scores, column: str = "at_100") -> str:
    """Return for each agent the probability that it is better than the one below it in the ranking."""
    pairs = zip(scores.algos, scores.algos[1:], strict=False)
    rows = [
        (
            first,
            second,
            said(statistics.improvement_interval(scores.column(first, column), scores.column(second, column))),
        )
        for first, second in pairs
    ]
    return table(("agent", "the one below", "probability of improvement after 100"), rows, aligned=False)


def focus(scores: Scores, algo: str, beside: str = "gp") -> str:
    """Say plainly whom an agent is above, with intervals clear of theirs, and how it stands to the best rival."""
    sentences = []
    for column in ("at_50", "at_100"):
        own = statistics.interval(scores.column(algo, column))
        groups: dict[str, list[str]] = {
            "clearly above": [],
            "with intervals that overlap beside": [],
            "clearly below": [],
        }
        for other in scores.algos:
            if other != algo:
                theirs = statistics.interval(scores.column(other, column))
                which = 0 if own.clear_of(theirs) else 2 if theirs.clear_of(own) else 1
                groups[list(groups)[which]].append(other)
        said_of = "; ".join(f"{how} {', '.join(names)}" for how, names in groups.items() if names)
        sentences.append(f"After {column[3:]} distinct evaluations `{algo}` is at {said(own)}: {said_of}.")
    if beside in scores.algos and beside != algo:
        against = statistics.improvement_interval(scores.column(algo, "at_100"), scores.column(beside, "at_100"))
        sentences.append(f"The probability that it is better than `{beside}` after 100 is {said(against)}.")
    return "\n\n".join(sentences)


def until_optimum(scores: Scores) -> str:
    """Return the table of distinct evaluations until the optimum, per agent and problem."""
    rows = [
        [algo, *(_needed(scores.until_optimum(algo, env)) for env in scores.envs), _own_seconds(scores, algo)]
        for algo in scores.algos
    ]
    return table(("agent", *scores.envs, "own seconds, most"), rows, aligned=False)


def gp_goal(scores: Scores, algo: str = "gp") -> str:
    """Say whether an agent finds the optimum of each table within 75 in 19 of 20 seeds, in under 20 s of its own."""
    lines = []
    for env in scores.envs:
        found = scores.until_optimum(algo, env)
        within = sum(number is not None and number <= _WITHIN for number in found)
        most = max(row.own_seconds for row in scores.rows(algo, env))
        met = within >= 0.95 * len(found) and most < 20.0
        lines.append((env, f"{within} of {len(found)}", f"{most:.1f}", "met" if met else "missed"))
    header = ("problem", f"seeds with the optimum within {_WITHIN}", "own seconds, most", "goal: 19 of 20, under 20 s")
    return table(header, lines, aligned=False)


def by_problem(scores: Scores, column: str = "at_100") -> str:
    """Return the mean normalised reward after 100 distinct evaluations, per agent and problem."""
    rows = [[algo, *(f"{value:.3f}" for value in scores.column(algo, column).mean(axis=0))] for algo in scores.algos]
    return table(("agent", *scores.envs), rows, aligned=False)


def problems(scores: Scores) -> str:
    """Return what each problem is like."""
    rows = []
    for env in scores.envs:
        facts = scores.facts(scores.algos[0], env)
        bound = f", q at most {facts.max_cost}" if facts.max_cost else ""
        rows.append(
            (
                env,
                facts.cost,
                f"a at least {facts.min_relative_accuracy:g}{bound}",
                facts.assignments,
                f"{100 * facts.passing:.2f} %",
                facts.optimum + (" (the smallest)" if facts.smallest else ""),
                f"{facts.optimum_reward:.4f}",
                f"{facts.random_reward:.4f}",
            )
        )
    header = ("problem", "cost", "constraint", "assignments", "pass", "optimum", "its reward", "random mean")
    return table(header, rows, aligned=False)


def winners_curse(scores: Scores) -> str:
    """Return the regret of what is recommended, on the seed that was searched and on those that were not."""
    rows = []
    for algo in scores.algos:
        searched, unseen = scores.regrets(algo)
        known = ~np.isnan(unseen).all(axis=0)
        if not known.any():
            continue
        passing = scores.raw(algo, "unseen_passing")[:, known]
        rows.append(
            (
                algo,
                f"{searched[:, known].mean():.3f}",
                f"{unseen[:, known].mean():.3f}",
                f"{100 * passing.mean():.0f} %",
            )
        )
    if not rows:
        return "No table here has another retraining seed for all its assignments."
    header = ("agent", "regret on the searched seed", "on the others", "keeps the constraints there")
    return table(header, rows, aligned=False)


def front_shares(scores: Scores) -> str:
    """Return which share of the true front's area each agent's evaluations dominate."""
    shares = {algo: float(scores.share_of_front(algo).mean()) for algo in scores.algos}
    rows = [(algo, f"{shares[algo]:.4f}") for algo in sorted(shares, key=lambda algo: -shares[algo])]
    return table(("agent", "share of the dominated area"), rows, aligned=False)


def beside_defaults(tuned: Scores, defaults: Scores) -> str:
    """Return the area under the curve of each agent with its shipped and its untuned settings, on the same problems."""
    shared = [env for env in defaults.envs if env in tuned.envs]
    rows = []
    for algo in tuned.algos:
        if algo in defaults.algos and shared:
            of_tuned = _on(tuned, algo, shared)
            untuned = _on(defaults, algo, shared)
            gain = statistics.difference_interval(of_tuned, untuned)
            rows.append(
                (algo, said(statistics.interval(of_tuned)), said(statistics.interval(untuned)), said(gain, True))
            )
    header = ("agent", "shipped settings", "untuned default", "gain")
    return f"On {', '.join(shared)}.\n\n{table(header, rows, aligned=False)}"


def variants(scores: Scores) -> str:
    """Return a table of variants: how well each does by its own reward, and what its answers are like."""
    rows = [
        (
            algo,
            len(scores.seeds(algo)),
            *(said(statistics.interval(scores.column(algo, name))) for name in ("auc", "at_50", "at_100", "at_300")),
            f"{scores.raw(algo, 'average_bits').mean():.2f}",
            f"{scores.raw(algo, 'relative_accuracy').mean():.4f}",
        )
        for algo in scores.algos
    ]
    header = ("variant", "seeds", "area under the curve", "at 50", "at 100", "at the end", "mean bits", "mean accuracy")
    return table(header, rows, aligned=False)


def rerun(first: Scores, again: Scores) -> str:
    """Say whether a rerun with fresh seeds agrees with the comparison within the intervals."""
    rows, agreeing = [], 0
    shared = [env for env in again.envs if env in first.envs]
    algos = [algo for algo in first.algos if algo in again.algos]
    for algo in algos:
        before, now = _on(first, algo, shared), _on(again, algo, shared)
        expected = statistics.prediction_interval(before, len(now))
        value = float(statistics.interquartile_mean(now))
        agrees = expected.low <= value <= expected.high
        agreeing += agrees
        within = f"{expected.low:.3f} to {expected.high:.3f}"
        rows.append((algo, said(statistics.interval(before)), within, f"{value:.3f}", "yes" if agrees else "no"))
    count = len(again.seeds(algos[0])) if algos else 0
    header = ("agent", "the comparison", f"to be expected of {count} runs", "the rerun", "agrees")
    return (
        f"Area under the curve with {count} fresh seeds on {len(shared)} problems: {agreeing} of {len(algos)} agents "
        "are within the interval that the comparison lets expect in 95 of 100 cases.\n\n"
        + table(header, rows, aligned=False)
    )


def said(interval: Interval, signed: bool = False) -> str:
    """Return a value with its interval as it stands in tables."""
    sign = "+" if signed else ""
    return f"{interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _on(scores: Scores, algo: str, envs: Sequence[str]) -> NDArray[np.float64]:
    """Return the area under the curve on some of the problems, shape `(seeds, problems)`."""
    return scores.column(algo, "auc")[:, [scores.envs.index(env) for env in envs]]


def _rank_row(scores: Scores, algo: str) -> tuple[object, ...]:
    values = [said(statistics.interval(scores.column(algo, name))) for name in ("auc", "at_50", "at_100", "at_300")]
    gap = statistics.interval(scores.column(algo, "at_300"), statistics.optimality_gap)
    found = [number for env in scores.envs for number in scores.until_optimum(algo, env)]
    share = sum(number is not None for number in found) / len(found)
    return algo, family(algo), len(scores.seeds(algo)), *values, said(gap), f"{100 * share:.0f} %"


def _needed(found: Sequence[int | None]) -> str:
    """Return median and worst; a run that has not found it counts as worse than any that has."""
    numbers = [math.inf if number is None else float(number) for number in found]
    reached = sum(map(math.isfinite, numbers))
    middle, worst = (f"{each:g}" if math.isfinite(each) else "-" for each in (median(numbers), max(numbers)))
    return f"{middle} / {worst} ({reached} of {len(numbers)})"


def _own_seconds(scores: Scores, algo: str) -> str:
    return f"{max(row.own_seconds for env in scores.envs for row in scores.rows(algo, env)):.1f}"
