"""Problems and environments over tables."""

import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from releq_env import AccuracyTable, Problem, ReLeQError
from releq_env.evaluation import Source
from releq_env.registration import OWN, OWN_TABLE, TABULAR
from releq_env.searchers.base import search_loop
from releq_env.searchers.registry import make_searcher
from releq_env.tables import TableSource
from tests.fakes import DIGITS_LAYERS, FULL_PRECISION, smooth_accuracy

CHOICES = (2, 4, 8)
ID = f"releq_env:{OWN_TABLE}"


def complete(seeds: int = 2) -> AccuracyTable:
    """All assignments of Digits' layers, every seed a little worse than the one before."""
    assignments = list(itertools.product(CHOICES, repeat=4))
    return AccuracyTable.from_records(
        np.tile(assignments, (seeds, 1)),
        np.concatenate([np.array(list(map(smooth_accuracy, assignments))) - 0.001 * seed for seed in range(seeds)]),
        seeds=np.repeat(np.arange(seeds), len(assignments)),
        layers=DIGITS_LAYERS,
        full_precision_accuracy=FULL_PRECISION,
        name="smooth",
        quantizer="lsq",
        min_relative_accuracy=0.97,
    )


PARTIAL = {(2, 2): 0.5, (2, 8): 0.7, (8, 2): 0.8, (8, 8): 0.9}


def partial() -> AccuracyTable:
    return AccuracyTable.from_records(
        list(PARTIAL), list(PARTIAL.values()), full_precision_accuracy=0.9, choices=CHOICES
    )


def test_a_table_gives_the_problem_that_it_was_made_from() -> None:
    problem = Problem.from_table(complete(), cost="size", max_cost=0.6)
    same = Problem.from_function(
        4, CHOICES, smooth_accuracy, FULL_PRECISION, DIGITS_LAYERS,
        cost="size", max_cost=0.6, min_relative_accuracy=0.97,
    )  # fmt: skip
    assignments = list(itertools.product(CHOICES, repeat=4))
    found, expected = (each.evaluator.evaluate_many(assignments) for each in (problem, same))
    assert [each.accuracy for each in found] == [each.accuracy for each in expected]
    assert list(map(problem.merit, found)) == list(map(same.merit, expected))
    best = max(expected, key=same.merit)
    assert problem.optimum().bitwidths == best.bitwidths
    assert problem.optimum().objective == same.objective(best)
    assert [problem.regret(each.bitwidths) for each in found] == [
        same.objective(best) - same.objective(each) for each in expected
    ]
    assert (problem.quantizer, problem.min_relative_accuracy, problem.name) == ("lsq", 0.97, "smooth")


def test_another_objective_has_another_optimum() -> None:
    problem = Problem.from_table(complete())
    narrow = problem.replace(bitwidths=[4, 8], cost="energy", reward="ratio")
    assert narrow.optimum() == complete().optimum(0, bitwidths=[4, 8], cost="energy", reward="ratio")
    assert narrow.optimum() != problem.optimum()
    assert narrow.evaluator is problem.evaluator


def test_seeds() -> None:
    table, bits = complete(), (4, 4, 4, 4)
    measured = {seed: Problem.from_table(table, seed=seed).evaluator.evaluate(bits).accuracy for seed in (0, 1, None)}
    assert measured == {0: table.query(bits, 0), 1: table.query(bits, 1), None: table.query(bits)}
    assert measured[0] > measured[None] > measured[1]
    assert Problem.from_table(table).evaluator.reseeded(1).evaluate(bits).accuracy == measured[1]
    with pytest.raises(ReLeQError, match="has no seed 2; choose from 0, 1"):
        Problem.from_table(table, seed=2)


def test_a_seed_that_is_not_there_is_no_other_look() -> None:
    source = TableSource(complete())
    assert source.reseeded(5) is source
    assert source.reseeded(1) is not source
    mean = TableSource(complete(), seed=None)
    assert mean.reseeded(1) is mean
    some = AccuracyTable.from_records([[1], [2], [2]], [0.5, 0.6, 0.7], seeds=[0, 0, 1], full_precision_accuracy=1.0)
    source = TableSource(some)
    assert source.reseeded(1) is source


def test_a_table_is_a_source() -> None:
    source = TableSource(complete())
    assert isinstance(source, Source)
    again = pickle.loads(pickle.dumps(source))
    assert again.fingerprint == source.fingerprint != TableSource(complete(), seed=1).fingerprint


def test_look_ups_count_like_retrainings() -> None:
    evaluator = Problem.from_table(complete()).evaluator
    evaluator.evaluate_many([(2, 2, 2, 2), (2, 2, 2, 2), (4, 2, 2, 2)])
    assert evaluator.distinct_evaluations == 2


def test_what_is_lacking_is_an_error_and_costs_nothing() -> None:
    problem = Problem.from_table(partial())
    with pytest.raises(ReLeQError, match=r'lacks the assignment \(4, 8\): 4 of 9 were measured .* give fill="nearest"'):
        problem.evaluator.evaluate_many([(2, 2), (4, 8)])
    assert problem.evaluator.distinct_evaluations == 0
    assert problem.filled is None


def test_what_is_lacking_is_filled_in_if_asked_for() -> None:
    problem = Problem.from_table(partial(), fill="nearest")
    filled = {(4, 8): 0.7, (4, 2): 0.5, (4, 4): 0.5, (8, 4): 0.8}
    for bitwidths, accuracy in (PARTIAL | filled).items():
        assert problem.evaluator.evaluate(bitwidths).accuracy == accuracy
        assert problem.filled is not None
        assert problem.filled(bitwidths) == (bitwidths in filled)
    assert problem.optimum().bitwidths in PARTIAL
    with pytest.raises(ReLeQError, match="is not among the 4 that were measured"):
        problem.regret((4, 8))
    with pytest.raises(ReLeQError, match="does not fit the table"):
        problem.evaluator.evaluate((3, 8))


def test_what_a_seed_lacks_is_filled_in_from_that_seed() -> None:
    table = AccuracyTable.from_records(
        [[2], [4], [8], [2], [8]], [0.5, 0.6, 0.7, 0.1, 0.3], seeds=[0, 0, 0, 1, 1], full_precision_accuracy=1.0
    )
    problem = Problem.from_table(table, seed=1, fill="nearest")
    assert problem.evaluator.evaluate((4,)).accuracy == 0.1


def test_equally_near_ones_are_averaged() -> None:
    table = AccuracyTable.from_records([[2], [4]], [0.5, 0.8], full_precision_accuracy=1.0, choices=[2, 3, 4])
    assert Problem.from_table(table, fill="nearest").evaluator.evaluate((3,)).accuracy == pytest.approx(0.65)


def test_without_a_table_no_optimum_is_known() -> None:
    problem = Problem.from_function(1, [2, 4], lambda bits: 0.9)
    for ask in (problem.optimum, lambda: problem.regret((2,))):
        with pytest.raises(ReLeQError, match="only of a table is the optimum known, and function has none"):
            ask()


def test_searchers_search_tables() -> None:
    problem = Problem.from_table(complete())
    told = search_loop(problem, make_searcher("random", problem), budget=81)
    best = max((each for evaluations in told for each in evaluations), key=problem.merit)
    assert problem.regret(best.bitwidths) == 0.0


@pytest.mark.parametrize("env_id", TABULAR)
def test_an_id_without_its_table_says_how_to_get_it(
    env_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("releq_env.tables.shipped.DATA", tmp_path)
    assert gym.spec(env_id).entry_point == gym.spec(env_id.replace("-Tabular", "")).entry_point
    with pytest.raises(ReLeQError, match="does not come with this version of releq_env; build it in a checkout"):
        gym.make(f"releq_env:{env_id}")
    complete().save(tmp_path / f"{TABULAR[env_id]}.npz")
    env = gym.make(f"releq_env:{env_id}", cost="bitops", evaluate="step", bitwidths=[2, 8])
    check_env(env.unwrapped, skip_render_check=True)
    assert env.get_wrapper_attr("problem").optimum() == complete().optimum(0, cost="bitops", bitwidths=[2, 8])


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    complete().save(tmp_path / "mine.npz")
    by_path = gym.make(ID, table=str(tmp_path / "mine.npz"), seed=1)
    by_table = gym.make_vec(ID, 2, vectorization_mode="vector_entry_point", table=complete(), seed=1)
    by_path.reset()
    by_table.reset()
    for _ in range(4):
        *_, info = by_path.step(1)
        *_, infos = by_table.step(np.array([1, 1]))
    assert info["accuracy"] == complete().query((4, 4, 4, 4), 1)
    assert infos["accuracy"].tolist() == [info["accuracy"]] * 2


def test_a_problem_replaces_the_ids_own_table() -> None:
    problem = Problem.from_table(complete())
    for env_id in (OWN_TABLE, *TABULAR):
        assert gym.make(f"releq_env:{env_id}", problem=problem).get_wrapper_attr("problem") is problem
    with pytest.raises(ReLeQError, match="cost= was given beside a problem"):
        gym.make(ID, problem=problem, cost="size")


@pytest.mark.parametrize("table", ["mine.npz", Path("mine.npz"), complete()], ids=["path", "Path", "table"])
def test_a_table_that_was_given_beside_a_problem_is_refused(table: Any) -> None:
    with pytest.raises(ReLeQError, match="table= was given beside a problem"):
        gym.make(OWN, problem=Problem.from_table(complete()), table=table)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "table=None is neither a name nor a path"),
        ({"table": "nowhere.npz"}, "there is no table 'nowhere.npz'"),
        (
            {"table": complete(), "device": "cuda"},
            "a table got an unexpected keyword argument 'device'; acc",
        ),
        ({"table": complete(), "fill": "mean"}, "unknown fill 'mean'; choose one of: nearest"),
        ({"table": complete(), "bitwidths": [1, 2]}, "1, which the table 'smooth' does not support"),
        ({"table": complete(), "max_cost": 0.01}, "max_cost=0.01 cannot be met"),
        ({"table": complete(), "problem": "digits"}, "problem='digits' is a task, and this id is over a table"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ReLeQError, match=message):
        gym.make(ID, **arguments)


def test_an_episode_on_a_table_needs_no_torch(tmp_path: Path, python: Callable[..., str]) -> None:
    complete().save(tmp_path / "mine.npz")
    code = """
import sys
sys.modules["torch"] = sys.modules["torchvision"] = None  # importing one raises
import gymnasium as gym
env = gym.make("releq_env:ReLeQ-Tabular-v0", table=sys.argv[1])
env.reset(seed=0)
for action in (1, 2, 1, 1):
    *_, terminated, truncated, info = env.step(action)
problem = env.unwrapped.problem
print(terminated, info["bitwidths"].tolist(), problem.regret(problem.optimum().bitwidths))
"""
    assert python(code, str(tmp_path / "mine.npz")).strip() == "True [4, 8, 4, 4] 0.0"


def test_a_mean_that_nothing_has_is_refused() -> None:
    table = AccuracyTable.from_records([[1], [2]], [0.9, 0.95], seeds=[0, 1], full_precision_accuracy=1.0)
    with pytest.raises(ReLeQError, match="was measured with all its seeds; give seed="):
        Problem.from_table(table, seed=None, fill="nearest")


def test_the_optimum_is_that_of_the_costs_that_episodes_have(tmp_path: Path) -> None:
    path, table = tmp_path / "costs.csv", complete()

    def write(cost: Callable[[int], float]) -> None:
        lines = [f"{layer.name},{bits},{cost(bits)}" for layer in table.layers for bits in table.choices[0]]
        path.write_text("\n".join(["layer,bits,cost", *lines]) + "\n")

    write(float)
    problem = Problem.from_table(table, cost=f"csv:{path}")
    assert problem.costs.max() > problem.costs.min()  # they are read
    write(lambda bits: 10.0 - bits)  # too late
    best = max(map(problem.evaluator.evaluate, map(tuple, table.bitwidths.tolist())), key=problem.merit)
    assert problem.optimum().objective == problem.objective(best)
