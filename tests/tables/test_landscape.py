"""Everything a table says exactly, against trying all assignments."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from releq_env import AccuracyTable, ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.problem import Problem
from releq_env.tables import Answer
from tests.failing import no_warning
from tests.tables.strategies import Made, objectives, tables

pytestmark = no_warning


class Tried:
    """All assignments of a table, each evaluated as a problem does that knows no table."""

    def __init__(self, made: Made, seed: int, objective: dict[str, Any]) -> None:
        table = made.table
        known = {bitwidths: accuracy for bitwidths, its, accuracy in made.records if its == seed}
        assume(known)
        try:
            self.problem = Problem.from_function(
                table.num_layers,
                table.choices,
                known.__getitem__,
                table.full_precision_accuracy,
                table.layers,
                **objective,
            )
        except ReLeQError:  # max_cost cannot be met
            assume(False)
        self.evaluations = self.problem.evaluator.evaluate_many(sorted(known))
        self.merits = {each.bitwidths: self.problem.merit(each) for each in self.evaluations}

    @property
    def best(self) -> Evaluation:
        return max(self.evaluations, key=self.problem.merit)

    def points(self) -> dict[tuple[int, ...], tuple[float, float]]:
        return {
            each.bitwidths: (self.problem.state_of_quantization(each.bitwidths), each.accuracy)
            for each in self.evaluations
        }


def bits(answers: Sequence[Answer]) -> list[tuple[int, ...]]:
    return [answer.bitwidths for answer in answers]


@given(tables(), objectives)
def test_optimum_regret_and_rank(made: Made, objective: dict[str, Any]) -> None:
    for seed in made.table.seeds:
        tried = Tried(made, seed, objective)
        best, landscape = tried.best, made.table.landscape(seed, **objective)
        assert made.table.optimum(seed, **objective) == landscape.optimum()
        assert landscape.optimum() == Answer(
            best.bitwidths,
            best.accuracy,
            best.relative_accuracy,
            tried.problem.state_of_quantization(best.bitwidths),
            tried.problem.objective(best),
        )
        for each in tried.evaluations:
            regret = tried.problem.objective(best) - tried.problem.objective(each)
            assert landscape.regret(each.bitwidths) == regret
            better = sum(merit > tried.merits[each.bitwidths] for merit in tried.merits.values())
            assert landscape.rank(list(each.bitwidths)) == 1 + better
            assert made.table.rank(each.bitwidths, seed, **objective) == 1 + better
            assert landscape.answer(each.bitwidths).objective == tried.problem.objective(each)
        success = [tried.problem.is_success(each) for each in tried.evaluations]
        assert landscape.passing() == pytest.approx(np.mean(success))


@given(tables(seeds=1), objectives)
def test_pareto_front_curve_and_hypervolume(made: Made, objective: dict[str, Any]) -> None:
    objective.pop("max_cost", None)
    seed = 0
    points = Tried(made, seed, objective).points()
    landscape = made.table.landscape(seed, **objective)

    def beaten(cost: float, accuracy: float) -> bool:
        return any(q <= cost and a >= accuracy and (q, a) != (cost, accuracy) for q, a in points.values())

    front = landscape.pareto_front()
    assert sorted(bits(front)) == sorted(each for each, point in points.items() if not beaten(*point))
    assert [answer.state_of_quantization for answer in front] == sorted(
        answer.state_of_quantization for answer in front
    )
    curve = landscape.curve()
    assert [budget for budget, _ in curve] == sorted({q for q, _ in points.values()})
    for budget, answer in curve:
        affordable = [(a, -q) for q, a in points.values() if q <= budget]
        assert (answer.accuracy, -answer.state_of_quantization) == max(affordable)
        assert points[answer.bitwidths] == (answer.state_of_quantization, answer.accuracy)
    for reference in ((1.0, 0.0), (0.8, 0.35)):
        for chosen in (list(points), list(points)[::2], []):
            area = covered([points[each] for each in chosen], reference)
            assert landscape.hypervolume(chosen, reference) == pytest.approx(area)
    assert landscape.hypervolume() == landscape.hypervolume(list(points))
    assert made.table.hypervolume(None, (0.8, 0.35), seed, **objective) == landscape.hypervolume(None, (0.8, 0.35))


def covered(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area, rectangle by rectangle of the grid that the points make."""
    costs = sorted({q for q, _ in points if q < reference[0]} | {reference[0]})
    accuracies = sorted({a for _, a in points if a > reference[1]} | {reference[1]})
    return sum(
        (right - left) * (above - below)
        for left, right in itertools.pairwise(costs)
        for below, above in itertools.pairwise(accuracies)
        if any(q <= left and a >= above for q, a in points)
    )


@given(tables(), objectives)
def test_local_optima(made: Made, objective: dict[str, Any]) -> None:
    seed = made.table.seeds[-1]
    merits = Tried(made, seed, objective).merits

    def neighbours(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        return sum(a != b for a, b in zip(one, other, strict=True)) == 1

    optima = [
        each for each in merits if not any(merits[other] > merits[each] for other in merits if neighbours(each, other))
    ]
    found = bits(made.table.landscape(seed, **objective).local_optima())
    assert sorted(found) == sorted(optima)
    assert [merits[each] for each in found] == sorted((merits[each] for each in found), reverse=True)


@given(tables(seeds=1), objectives)
def test_random_search_is_the_mean_over_all_draws(made: Made, objective: dict[str, Any]) -> None:
    tried = Tried(made, 0, objective)
    landscape = made.table.landscape(0, **objective)
    kept = [each for each in tried.merits if tried.problem.keeps_max_cost(each)] or list(tried.merits)
    regrets = [landscape.regret(each) for each in kept]
    expected = landscape.random_search_regret(4)
    assert len(expected) == min(4, len(kept))
    for draws, regret in enumerate(expected, start=1):
        if math.comb(len(kept), draws) > 3000:
            break
        every = [min(chosen) for chosen in itertools.combinations(regrets, draws)]
        assert regret == pytest.approx(np.mean(every))
    first = [order.index(min(regrets)) + 1 for order in itertools.permutations(regrets[:6])] if len(kept) <= 6 else []
    assert not first or landscape.random_search_evaluations() == pytest.approx(np.mean(first))


@given(tables(), st.data())
def test_fewer_choices_are_a_table_of_their_own(made: Made, data: st.DataObject) -> None:
    chosen = [sorted(data.draw(st.sets(st.sampled_from(of_layer), min_size=1))) for of_layer in made.table.choices]
    records = [each for each in made.records if all(b in of for b, of in zip(each[0], chosen, strict=True))]
    seed = made.table.seeds[0]
    if not [each for each in records if each[1] == seed]:
        with pytest.raises(ReLeQError, match="nothing that was measured is among these choices"):
            made.table.optimum(seed, bitwidths=chosen)
        return
    assignments, seeds, accuracy = zip(*records, strict=True)
    smaller = AccuracyTable.from_records(
        assignments,
        accuracy,
        seeds=seeds,
        layers=made.table.layers,
        choices=chosen,
        full_precision_accuracy=made.table.full_precision_accuracy,
    )
    for cost in ("size", "energy"):
        assert made.table.optimum(seed, bitwidths=chosen, cost=cost) == smaller.optimum(seed, cost=cost)


def test_a_reward_that_is_no_number_is_the_worst() -> None:
    table = AccuracyTable.from_records([[1], [2], [4]], [0.5, 0.6, 0.9], full_precision_accuracy=1.0)
    landscape = table.landscape(reward=lambda a, q: math.nan if a == 0.9 else a)
    assert landscape.optimum().bitwidths == (2,)
    assert landscape.regret((4,)) == math.inf
    assert landscape.rank((4,)) == 3
    assert landscape.random_search_regret(3).tolist() == [math.inf, pytest.approx(0.1 / 3), 0.0]


def test_a_callable_may_prefer_what_breaks_max_cost_and_the_optimum_keeps_it() -> None:
    table = AccuracyTable.from_records([[1], [8]], [0.5, 0.9], full_precision_accuracy=1.0)
    landscape = table.landscape(reward=lambda a, q: -100.0 if a < 0.6 else 0.0, max_cost=0.5)
    assert landscape.optimum().bitwidths == (1,)
    assert (landscape.rank((1,)), landscape.rank((8,))) == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": "best"}, "unknown reward 'best'"),
        ({"cost": "money"}, "unknown cost 'money'"),
        ({"max_cost": 2}, r"max_cost=2 is out of range"),
        ({"max_cost": 0.1}, r"max_cost=0.1 cannot be met: the cheapest assignment costs 0.1250"),
        ({"min_relative_accuracy": 0}, "min_relative_accuracy=0 is out of range"),
        ({"bitwidths": [3]}, "3, which the table 'table' does not support"),
        ({"seed": 7}, "has no seed 7; choose from 0"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    table = AccuracyTable.from_records([[1], [8]], [0.5, 0.9], full_precision_accuracy=1.0)
    with pytest.raises(ReLeQError, match=message):
        table.landscape(**arguments)


def test_what_was_not_measured_has_no_regret() -> None:
    table = AccuracyTable.from_records([[1], [8]], [0.5, 0.9], full_precision_accuracy=1.0, choices=[1, 4, 8])
    for wrong in ((4,), (1, 1), ("1",), None):
        with pytest.raises(ReLeQError, match="is not among the 2 that were measured"):
            table.regret(wrong)  # type: ignore[arg-type]
