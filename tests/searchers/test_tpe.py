"""Optuna's TPE: told of the objective, repaired where it proposes what is known or above the bound."""

import itertools
import sys
from statistics import mean
from typing import Any

import numpy as np
import pytest

from releq_env import ReLeQError
from releq_env.searchers import make_searcher, search_loop
from releq_env.searchers.moves import within_max_cost
from releq_env.searchers.tpe import TPESearch
from tests.agents import problems
from tests.searchers.test_searchers import found_by


def test_begins_at_the_uniform_assignments_then_proposes() -> None:
    problem = problems.four_layers()
    searcher = TPESearch(problem, startup=6)
    first = searcher.ask(8)
    assert first[:4] == problem.uniform()
    assert len(first) == 6
    searcher.tell(problem.evaluator.evaluate_many(first))
    assert len(set(searcher.ask(3)) - set(first)) == 3


def test_the_starts_are_all_uniform_assignments_and_a_random_one_at_least() -> None:
    problem = problems.like_digits()
    first = TPESearch(problem, startup=5).ask(50)
    assert first[:8] == problem.uniform()
    assert len(first) == 9


def test_learns_which_layer_needs_bits() -> None:
    """What it proposes after 30 evaluations is better than chance on average."""
    problem = problems.like_digits()
    found = found_by("tpe", problem, budget=50)
    chance = mean(map(problem.objective, found_by("random", problems.like_digits(), budget=50)))
    assert mean(map(problem.objective, found[30:])) > chance


def test_a_value_that_is_no_number_is_told_as_the_worst() -> None:
    problem = problems.sometimes_nan()
    found = found_by("tpe", problem, budget=40)
    assert len(found) == 40
    best = max(found, key=problem.merit)
    assert problem.objective(best) == problem.objective(best)


def test_is_quiet(capfd: pytest.CaptureFixture[str], recwarn: Any) -> None:
    found_by("tpe", problems.four_layers(), budget=15)
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_without_optuna_one_line_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ReLeQError, match=r'need optuna; pip install "releq_env\[agents\]"'):
        make_searcher(name, problems.four_layers())


def test_above_max_cost_layers_get_cheaper_until_it_is_kept() -> None:
    problem, generator = problems.bounded(), np.random.default_rng(0)
    for assignment in itertools.product(*problem.choices):
        kept = within_max_cost(problem, assignment, generator)
        assert problem.keeps_max_cost(kept)
        assert all(bits <= before for bits, before in zip(kept, assignment, strict=True))
        assert kept == assignment or not problem.keeps_max_cost(assignment)


def test_a_batch_is_told_in_any_order() -> None:
    problem = problems.four_layers()
    searcher = TPESearch(problem)
    for _ in range(6):
        searcher.tell(problem.evaluator.evaluate_many(searcher.ask(4))[::-1])
    assert problem.evaluator.distinct_evaluations == 22  # the starts were ten


def test_what_was_not_asked_for_may_be_told() -> None:
    problem = problems.four_layers()
    searcher = TPESearch(problem)
    searcher.tell([problem.evaluator.evaluate((4, 4, 4, 4))])
    told = next(search_loop(problem, searcher))
    assert len(told) == 1
