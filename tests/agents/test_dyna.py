"""`dyna_ppo` as a whole: nothing is paid for twice, bounds are kept, and its parts can be switched off."""

import itertools
from statistics import mean
from typing import Any

import pytest

from agents.algorithms.dyna_ppo import DynaPPO
from releq_env import Problem, ReLeQError
from releq_env.searchers import make_searcher, search_loop
from tests.agents import problems

pytestmark = pytest.mark.usefixtures("no_pictures")

OFF: dict[str, dict[str, Any]] = {
    "all on": {},
    "model": {"model": False},
    "imitation": {"imitation": 0},
    "quantile": {"quantile": 1.0},
    "warm_start": {"warm_start": False},
    "learn": {"learn": False},
}


def asked(problem: Problem, seed: int = 0, budget: int | None = None, batch: int = 1, **settings: Any) -> list[Any]:
    """Return what the agent asked for, in order."""
    told = search_loop(problem, DynaPPO(problem, seed, **settings), budget=budget, batch=batch)
    return [evaluation.bitwidths for evaluation in itertools.chain(*told)]


@pytest.mark.parametrize("part", OFF)
@pytest.mark.parametrize("name", ["uneven", "bounded", "fewer_bits_dearer"])
def test_a_small_space_is_searched_completely_and_nothing_twice(name: str, part: str) -> None:
    problem = getattr(problems, name)()
    kept = [each for each in itertools.product(*problem.choices) if problem.keeps_max_cost(each)]
    assert sorted(asked(problem, batch=5, rounds=2, rollouts=16, **OFF[part])) == sorted(kept)


@pytest.mark.parametrize("name", ["sometimes_nan", "always_nan"])
def test_objectives_may_be_no_number(name: str) -> None:
    problem = getattr(problems, name)()
    found = asked(problem, budget=40, batch=4, rounds=2, rollouts=16)
    assert len(set(found)) == 40
    assert all(map(problem.keeps_max_cost, found))


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_needs_a_fraction_of_what_chance_needs(batch: int) -> None:
    """256 assignments: chance meets the optimum after 128 on average."""
    needed = [asked(problems.four_layers(), seed, 40, batch).index(problems.NEEDED) for seed in range(2)]
    assert mean(needed) < 30


@pytest.mark.parametrize(
    "part", [part if part == "all on" else pytest.param(part, marks=pytest.mark.slow) for part in OFF]
)
def test_it_is_a_function_of_its_seed_and_of_what_it_was_told(part: str) -> None:
    runs = [asked(problems.like_digits(), seed, 24, rounds=3, **OFF[part]) for seed in (5, 5, 6)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_warm_start_is_the_uniform_assignments() -> None:
    warm = DynaPPO(problems.bounded()).ask(99)
    assert warm[:1] == [(1, 1, 1, 1)]  # (2, 2, 2, 2) and above break the bound
    assert DynaPPO(problems.like_digits()).ask(8) == problems.like_digits().uniform()
    assert len(DynaPPO(problems.like_digits(), warm_start=False).ask(8)) < 8


def test_repeating_is_what_never_repeat_prevents() -> None:
    def first(never_repeat: bool) -> list[Any]:
        problem = problems.bounded()
        agent = DynaPPO(problem, never_repeat=never_repeat, rounds=2, rollouts=16)
        found = []
        for told in itertools.islice(search_loop(problem, agent), 15):
            found += [each.bitwidths for each in told]
        return found

    assert len(set(first(True))) == len(first(True))
    assert len(set(first(False))) < len(first(False))


@pytest.mark.parametrize("model", [True, False])
def test_many_layers_under_a_tight_bound(model: bool) -> None:
    problem = Problem.from_function(20, list(range(1, 9)), lambda bits: 0.9 + sum(bits) / 2000, max_cost=0.2)
    found = asked(problem, budget=30, batch=4, model=model, rounds=2)
    assert len(set(found)) == 30
    assert all(problem.keeps_max_cost(each) for each in found)


@pytest.mark.slow
def test_learning_pays_where_a_space_is_too_large_to_guess_in() -> None:
    """Of 8**12 assignments, what the policy has learned to take promises more than what chance takes."""

    def accuracy(bitwidths: tuple[int, ...]) -> float:
        return 1.0 - sum(0.0006 * 5.0 ** (index % 4) * 3.0 ** (1 - bits) for index, bits in enumerate(bitwidths))

    def best(name: str, **settings: Any) -> float:
        problem = Problem.from_function(12, list(range(1, 9)), accuracy)
        searcher = DynaPPO(problem, 0, **settings) if name == "dyna_ppo" else make_searcher(name, problem, 0)
        told = search_loop(problem, searcher, budget=30)
        return max(problem.objective(each) for each in itertools.chain(*told))

    learned = best("dyna_ppo")
    assert learned > best("dyna_ppo", learn=False) + 0.005
    assert learned > best("local") + 0.005


def test_recommends_what_it_measured() -> None:
    problem = problems.four_layers()
    agent = DynaPPO(problem)
    assert agent.recommend() is None
    told = list(itertools.chain(*search_loop(problem, agent, budget=30)))
    assert agent.recommend() in [each.bitwidths for each in told]
    assert agent.recommend() == max(told, key=problem.merit).bitwidths  # without noise


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": 1}, "model=1; give true or false"),
        ({"members": ["logarithms"]}, "logarithm"),
        ({"members": "step"}, "give a list of: logarithm, step"),
        ({"members": []}, "give a list of"),
        ({"trust": 1.0}, "below 1"),
        ({"trust": "high"}, "below 1"),
        ({"quantile": 0.0}, "quantile=0.0 is out of range"),
        ({"imitation": -1}, "imitation=-1 is not accepted"),
        ({"rollouts": 0}, "rollouts=0 is not accepted"),
        ({"explore": float("nan")}, "explore=nan"),
        ({"entropy": "much"}, "entropy='much'; give a number from 0"),
    ],
)
def test_what_is_not_accepted_is_said_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as error:
        DynaPPO(problems.four_layers(), **settings)
    assert "\n" not in str(error.value)
