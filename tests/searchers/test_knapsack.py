"""The knapsack is exact: every budget's answer is what looking at everything finds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from releq_env import ReLeQError
from releq_env.searchers import knapsack
from releq_env.searchers.knapsack import knapsack_front

whole = st.integers(-3, 9).map(float)  # few: ties
real = st.floats(-5.0, 5.0, allow_subnormal=False)


@st.composite
def knapsacks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[int]]:
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    width = max(counts)
    rows = [[draw(st.lists(kind, min_size=width, max_size=width)) for _ in counts] for kind in (whole, real)]
    costs, losses = np.abs(rows[0]), np.array(rows[draw(st.integers(0, 1))])
    return costs, losses, counts


def total(matrix: np.ndarray, row: tuple[int, ...]) -> float:
    """Add up in the order of the layers, as the dynamic programme does."""
    return float(np.add.accumulate([0.0, *(matrix[layer, index] for layer, index in enumerate(row))])[-1])


@given(knapsacks())
def test_every_budgets_answer_is_the_least_loss(drawn: tuple[np.ndarray, np.ndarray, list[int]]) -> None:
    costs, losses, counts = drawn
    found = [tuple(row) for row in knapsack_front(costs, losses, counts).tolist()]
    everything = list(itertools.product(*map(range, counts)))
    for budget in sorted({total(costs, row) for row in everything}):
        within = [row for row in found if total(costs, row) <= budget]
        least = min(total(losses, row) for row in everything if total(costs, row) <= budget)
        assert total(losses, within[-1]) == least
    known = [(total(costs, row), total(losses, row)) for row in found]
    assert known == sorted(known, key=lambda each: (each[0], -each[1]))
    assert len({loss for _, loss in known}) == len(known)  # none that a cheaper one equals


@given(knapsacks(), st.floats(0.0, 1.0))
def test_a_bound_cuts_the_front_off(drawn: tuple[np.ndarray, np.ndarray, list[int]], share: float) -> None:
    costs, losses, counts = drawn
    most = share * float(costs.max(axis=1).sum())
    whole_front = [tuple(row) for row in knapsack_front(costs, losses, counts).tolist()]
    kept = [tuple(row) for row in knapsack_front(costs, losses, counts, most).tolist()]
    assert [row for row in kept if total(costs, row) <= most] == [
        row for row in whole_front if total(costs, row) <= most
    ]


def test_as_an_integer_linear_program() -> None:
    """What the tools solve: scipy's HiGHS on the same knapsack."""
    generator = np.random.default_rng(0)
    layers, choices = 12, 7
    costs = np.cumsum(generator.integers(1, 1000, (layers, choices)), axis=1).astype(float)
    losses = np.sort(generator.random((layers, choices)), axis=1)[:, ::-1]
    front = knapsack_front(costs, losses, [choices] * layers)
    at = np.arange(layers)
    one_each = LinearConstraint(np.kron(np.eye(layers), np.ones(choices)), 1, 1)
    for share in (0.3, 0.5, 0.8):
        budget = share * costs.max(axis=1).sum()
        solved = milp(
            losses.ravel(),
            integrality=np.ones(losses.size),
            bounds=Bounds(0, 1),
            constraints=[one_each, LinearConstraint(costs.ravel()[None], -np.inf, budget)],
            options={"mip_rel_gap": 0.0},
        )
        within = [row for row in front if costs[at, row].sum() <= budget]
        assert losses[at, within[-1]].sum() == pytest.approx(solved.fun, rel=1e-6)


def test_what_does_not_fit_into_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knapsack, "_LARGEST", 10)
    generator = np.random.default_rng(0)
    costs = np.cumsum(generator.random((6, 4)), axis=1)
    with pytest.raises(ReLeQError, match="more than 10 answers after . of 6 layers"):
        knapsack_front(costs, -costs + generator.random((6, 4)) / 10, [4] * 6)
