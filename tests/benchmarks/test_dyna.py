"""The comparison of `dyna_ppo` on synthetic landscapes: its rows, and what is said of them."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.dyna.__main__ import main
from benchmarks.dyna.landscapes import landscape
from benchmarks.dyna.report import complete_seeds, made_on, tables
from benchmarks.dyna.rows import Job, Row, Rows, run
from tests.failing import one_line

COLUMNS = "landscape,agent,seed,budget,distinct_evaluations,at_25,at_50,at_100,at_300,auc,found_at,own_seconds"
"""Of the files that were begun before machine and revision were recorded."""


def row(landscape: str, agent: str, seed: int, score: float, found_at: str = "", seconds: float = 1.0) -> Row:
    return Row(landscape, agent, seed, 25, 25, f"{score:.6f}", "", "", "", score, found_at, seconds)


ROWS = [row(name, "dyna_ppo", seed, 1.0, "9") for name in ("a", "b") for seed in range(3)]
ROWS += [row(name, "gp", seed, 0.5, "9") for name in ("a", "b") for seed in (1, 2)]
STOPPED = row("a", "gp", 0, -9.0, seconds=99.0)
"""Of a seed that was stopped before the other landscape."""


def test_all_numbers_are_of_the_seeds_that_are_complete() -> None:
    whole, again = (tables(rows, ("dyna_ppo", "gp"), 25) for rows in (ROWS, [*ROWS, STOPPED]))
    assert complete_seeds([*ROWS, STOPPED], "gp", ("a", "b")) == [1, 2]
    assert again == whole
    assert "| gp | 4 | 0.500 (0.500 to 0.500) | 100% | 1.00 | 1.00 (1.00 to 1.00) |" in whole
    assert "| a | 1.000, 100% | 0.500, 100% |" in whole
    assert tables([STOPPED, *ROWS[:3]], ("gp",), 50) == "No seed is complete yet.\n"


def test_agents_are_set_against_each_other_on_the_seeds_that_both_have() -> None:
    """On both of its seeds the other one is worse; beside the first two of ours it would look better."""
    ours = [row("a", "dyna_ppo", seed, score) for seed, score in enumerate((0.0, 0.8, 0.9))]
    theirs = [row("a", "gp", seed, score) for seed, score in ((1, 0.7), (2, 0.8))]
    assert "| gp | 2 | 0.750 (0.700 to 0.800) | 0% | 1.00 | 1.00 (1.00 to 1.00) |" in tables(
        ours + theirs, ("dyna_ppo", "gp"), 25
    )


def test_where_rows_were_made_is_recorded_from_now_on(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f"{COLUMNS}\na,gp,0,25,25,0.500000,,,,0.5,,1.25\na,gp,1,2")  # as a kill leaves it
    rows = Rows(path)
    new = row("a", "gp", 1, 0.25)._replace(processor="Maker, Model", revision="abc")
    rows.append(new)
    rows.append(new._replace(seed=2))
    again = Rows(path).rows
    assert [each.seed for each in again.values()] == [0, 1, 2]
    assert again == rows.rows
    assert made_on(again.values()) == (
        "- machine and revision not recorded: 1 runs, seeds 0\n- Maker, Model, revision abc: 2 runs, seeds 1, 2\n"
    )


def test_a_landscape_is_known_completely() -> None:
    drawn = landscape("cliff/5^4/size/0.6", 3)
    problem = drawn.problem
    kept = [each for each in itertools.product(*problem.choices) if problem.keeps_max_cost(each)]
    assert len(kept) < 5**4
    assert problem.evaluator.distinct_evaluations == 0
    objectives = [problem.objective(each) for each in problem.evaluator.evaluate_many(kept)]
    assert drawn.optimum == pytest.approx(max(objectives))
    assert drawn.mean == pytest.approx(np.mean(objectives))


@pytest.mark.parametrize("agent", ["random", "local"])
def test_a_run_says_where_it_was_made(agent: str) -> None:
    found = run(Job("separable/5^4/size", agent, 0, 25), agent, {})
    assert found.distinct_evaluations == 25
    assert float(found.at_25) <= 1.0
    assert found.processor


def test_the_command_reports_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = Rows(tmp_path / "runs.csv")
    for each in [row("separable/8^4/size", "gp", 0, 0.5), row("pairs/7^5/mean_bits", "gp", 0, 1.0)]:
        rows.append(each)
    main(["--report", "--results", str(tmp_path)])
    page = (tmp_path / "README.md").read_text()
    assert page.strip() == capsys.readouterr().out.strip()
    assert "| gp | 2 | 0.750" in page
    assert "machine and revision not recorded: 2 runs, seeds 0" in page
    assert "--agents 'nobody' is unknown" in one_line(main, "--agents", "nobody")
