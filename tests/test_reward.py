import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env.errors import ReLeQError, check_fraction
from releq_env.reward import (
    REWARDS,
    Objective,
    ReleasedConstants,
    RewardSettings,
    constrained,
    difference,
    make_objective,
    ratio,
    released,
    shaped,
)

Q = st.floats(0.01, 1.0)
A = st.floats(0.0, 1.1)
LENET = ReleasedConstants(threshold=0.8, A=0.6, B=3.0)


def objective(reward: str | Objective, max_cost: float | None = None) -> Objective:
    return make_objective(reward, RewardSettings(0.9, cheapest=0.25, released_constants=LENET), max_cost)


def test_constrained_where_the_accuracy_is_kept() -> None:
    assert constrained(0.99, 0.25, min_relative_accuracy=0.99) == pytest.approx(1 - 0.25**0.2)
    assert constrained(1.01, 1.0, min_relative_accuracy=0.99) == 0.0


def test_constrained_where_it_is_not() -> None:
    assert constrained(0.495, 0.25, min_relative_accuracy=0.99) == pytest.approx(-0.5)
    assert constrained(0.0, 0.25, min_relative_accuracy=0.99) == -1.0


@given(a=A, q=Q, least=st.floats(0.01, 1.0))
def test_constrained_is_negative_exactly_below_the_constraint(a: float, q: float, least: float) -> None:
    value = constrained(a, q, min_relative_accuracy=least)
    assert -1.0 <= value < 1.0
    assert (value < 0) == (a < least)


@given(q=Q, more=Q, a=st.floats(0.9, 1.1))
def test_constrained_prefers_fewer_bits(q: float, more: float, a: float) -> None:
    low, high = sorted((q, more))
    assert constrained(a, low, min_relative_accuracy=0.9) >= constrained(a, high, min_relative_accuracy=0.9)


def test_shaped() -> None:
    assert shaped(0.39, 0.5) == -1.0
    assert shaped(0.8, 0.5) == pytest.approx((1 - 0.5**0.2) * 0.8 ** (0.4 / 0.8))
    assert shaped(0.4, 0.5) == pytest.approx((1 - 0.5**0.2) * 0.4)
    assert shaped(1.0, 1.0) == 0.0


def test_ratio_and_difference() -> None:
    assert ratio(0.9, 0.3) == pytest.approx(3.0)
    assert difference(0.9, 0.3) == pytest.approx(0.6)


def test_released() -> None:
    x = 0.5 - 2 / 8
    expected = 2 * ((1 - x**0.6) * 0.9 ** (3 / 0.9) - 0.5)
    assert released(0.9, 0.5, cheapest=0.25, constants=LENET) == pytest.approx(expected)
    assert released(0.79, 0.5, cheapest=0.25, constants=LENET) == -1.0
    # The cheapest assignment at full accuracy is the most that it pays.
    assert released(1.0, 0.25, cheapest=0.25, constants=LENET) == pytest.approx(1.0)


@pytest.mark.parametrize("towards", [0.0, 1.0])
def test_released_takes_a_cost_that_rounding_put_beside_the_cheapest(towards: float) -> None:
    value = released(1.0, math.nextafter(0.25, towards), cheapest=0.25, constants=LENET)
    assert value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constrained", 1 - 0.5**0.2),
        ("shaped", (1 - 0.5**0.2) * 0.95 ** (0.4 / 0.95)),
        ("ratio", 0.95 / 0.5),
        ("difference", 0.45),
        ("released", 2 * ((1 - 0.25**0.6) * 0.95 ** (3 / 0.95) - 0.5)),
    ],
)
def test_objective_by_name(name: str, expected: float) -> None:
    assert objective(name)(0.95, 0.5) == pytest.approx(expected)
    assert name in REWARDS


def test_objective_of_ones_own() -> None:
    assert objective(lambda a, q: 10 * a + q)(0.5, 0.25) == 5.25


@pytest.mark.parametrize("name", [*REWARDS, "own"])
@given(a=A, q=Q, max_cost=st.floats(0.01, 1.0))
def test_max_cost(name: str, a: float, q: float, max_cost: float) -> None:
    reward = (lambda a, q: 5.0 + a) if name == "own" else name
    bounded, free = objective(reward, max_cost)(a, q), objective(reward)(a, q)
    if q > max_cost + 1e-8:
        assert bounded == pytest.approx(min(free, -1.0) - (q - max_cost))
        assert bounded < min(free, -1.0)
    elif q <= max_cost:
        assert bounded == free


def test_above_max_cost_further_is_worse() -> None:
    bounded = objective("ratio", 0.25)
    assert -1 > bounded(1.0, 0.3) > bounded(1.0, 0.9)
    assert bounded(1.0, 0.3) == pytest.approx(-1.05)
    # Whatever the accuracy: only the cost counts there.
    assert bounded(0.1, 0.3) == bounded(1.0, 0.3)


def test_a_reward_below_minus_one_stays_below_the_bounds_penalty() -> None:
    bounded = objective(lambda a, q: 10 * (a - 1), 0.25)
    assert bounded(0.5, 0.2) == pytest.approx(-5.0)
    assert bounded(0.5, 0.3) == pytest.approx(-5.05)
    assert bounded(1.0, 0.3) == pytest.approx(-1.05)


def test_unknown_reward_is_named() -> None:
    with pytest.raises(ReLeQError, match="unknown reward 'profit'.*constrained.*released"):
        objective("profit")


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda a: a, "failed at a=1, q=1 .*TypeError"),
        (lambda a, q: 1 / 0, "failed at a=1, q=1 .*ZeroDivisionError"),
        (lambda a, q: None, "failed at a=1, q=1 .*TypeError"),
        (lambda a, q: "much", "failed at a=1, q=1 .*ValueError"),
        (lambda a, q: math.nan, "is not a number at a=1, q=1"),
    ],
)
def test_a_reward_that_cannot_be_one_gets_one_line(reward: Objective, message: str) -> None:
    with pytest.raises(ReLeQError, match=f"{message}.*give a function of two numbers") as raised:
        objective(reward)
    assert "\n" not in str(raised.value)


def test_a_reward_added_to_the_registry_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARDS, "lenient", lambda settings: lambda a, q: a - settings.min_relative_accuracy * q)
    assert objective("lenient")(1.0, 0.5) == pytest.approx(0.55)
    assert objective("lenient", 0.4)(1.0, 0.5) == pytest.approx(-1.1)


@pytest.mark.parametrize("value", [1, 1.0, 0.5, 1e-9])
def test_fraction_is_accepted(value: float) -> None:
    assert check_fraction("max_cost", value) == value


@pytest.mark.parametrize("value", [0, 0.0, -0.1, 1.0001, math.nan, math.inf, "much", [0.5], {}])
def test_fraction_is_refused(value: object) -> None:
    with pytest.raises(ReLeQError, match=r"max_cost=.*\(0, 1\]"):
        check_fraction("max_cost", value)
