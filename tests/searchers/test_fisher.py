"""Searches from sensitivities: exact where losses add up, quick to the constraint, and refused where there are none."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest

from releq_env import AccuracyTable, Problem, ReLeQError
from releq_env.evaluation import Evaluation
from releq_env.searchers import make_searcher, search_loop
from releq_env.searchers.fisher_lp import FisherLP, answers
from releq_env.tables.sensitivities import Cost, Proxy, Sensitivities
from tests.searchers.test_gp import BITS, CLIFFS, LAYERS, noisy, regret

NEEDS = (2.0, 1.0, 3.0, 0.5)
LOSSES = [[need * 4.0**-bits for bits in range(1, 6)] for need in NEEDS]


def adding_up(bitwidths: Sequence[int]) -> float:
    return 0.9 - 0.1 * sum(need * 4.0**-bits for need, bits in zip(NEEDS, bitwidths, strict=True))


def problem(**decision: Any) -> Problem:
    return Problem.from_function(4, range(1, 6), adding_up, 0.9, LAYERS[:4], **decision)


def found_by(searcher: Any, of: Problem, **limits: Any) -> list[Evaluation]:
    return list(itertools.chain(*search_loop(of, searcher, **limits)))


@pytest.mark.parametrize("cost", ["mean_bits", "size", "energy"])
@pytest.mark.parametrize("batch", [1, 3])
def test_where_losses_add_up_bisection_finds_the_optimum(cost: str, batch: int) -> None:
    of = problem(cost=cost, min_relative_accuracy=0.97)
    searcher = FisherLP(of, sensitivities=LOSSES)
    count = searcher.about["answers"]
    rounds = int(np.ceil(np.log(count + 1) / np.log(batch + 1)))
    found = found_by(searcher, of, budget=batch * rounds, batch=batch)
    everything = of.evaluator.reseeded(0).evaluate_many(list(itertools.product(*of.choices)))
    best = max(everything, key=of.merit)
    assert of.merit(max(found, key=of.merit)) == of.merit(best)


def test_answers_are_the_best_of_every_budget_and_keep_max_cost() -> None:
    of = problem(cost="size", max_cost=0.6)
    everything = [each for each in itertools.product(*of.choices) if of.keeps_max_cost(each)]
    known = answers(of, np.array(LOSSES))
    for assignment in known:
        q = of.state_of_quantization(assignment)
        assert adding_up(assignment) == max(
            adding_up(each) for each in everything if of.state_of_quantization(each) <= q
        )
    assert max(map(adding_up, known)) == max(map(adding_up, everything))


@pytest.mark.parametrize("batch", [1, 7])
def test_every_answer_once_and_then_it_ends(batch: int) -> None:
    of = problem()
    searcher = FisherLP(of, 0, sensitivities=LOSSES)
    found = [each.bitwidths for each in found_by(searcher, of, batch=batch)]
    assert sorted(found) == sorted(answers(of, np.array(LOSSES)))
    assert len(found) == searcher.about["answers"] < 5**4


ROUGH = [[width * depth / (1 + 2.0 ** (bits - where)) for bits in BITS] for where, depth, width in CLIFFS[:4]]
"""What a proxy may know of the cliffs: about where, and about how deep."""


def test_fisher_gp_needs_fewer_evaluations_than_gp() -> None:
    def curve(name: str, seed: int, **more: Any) -> float:
        of = Problem.from_function(4, list(BITS), noisy, 0.97, LAYERS[:4], cost="size")
        searcher = make_searcher(name, of, seed, **more)
        return regret(of, found_by(searcher, of, budget=15))

    with_prior = [curve("fisher_gp", seed, sensitivities=ROUGH) for seed in range(4)]
    without = [curve("gp", seed) for seed in range(4)]
    assert mean(with_prior) < mean(without)
    assert mean(with_prior) < 0.05


def test_fisher_gp_is_not_ruined_by_what_says_nothing() -> None:
    generator = np.random.default_rng(0)
    of = Problem.from_function(4, list(BITS), noisy, 0.97, LAYERS[:4], cost="size")
    searcher = make_searcher("fisher_gp", of, 0, sensitivities=generator.random((4, 7)).tolist())
    assert regret(of, found_by(searcher, of, budget=45)) < 0.05


def stored(proxies: Sequence[str] = ("fisher", "loss")) -> AccuracyTable:
    everything = list(itertools.product(range(1, 6), repeat=4))
    values = tuple(map(tuple, LOSSES))
    known = {name: Proxy(values, Cost(1.5, 64, 640, 64)) for name in proxies}
    sensitivities = Sensitivities((tuple(range(1, 6)),) * 4, known)
    return AccuracyTable.from_records(
        everything, list(map(adding_up, everything)), full_precision_accuracy=0.9, layers=LAYERS[:4], name="mine",
        about={"sensitivities": sensitivities.as_dict()} if proxies else None,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["fisher_lp", "fisher_gp"])
def test_on_a_table_the_stored_ones_are_taken(name: str, tmp_path: Path) -> None:
    stored().save(tmp_path / "mine.npz")
    of = Problem.from_table(tmp_path / "mine.npz", bitwidths=[1, 3, 4], min_relative_accuracy=0.97)
    searcher: Any = make_searcher(name, of, 0, proxy="loss")
    assert searcher.about["from"] == "the table mine"
    assert searcher.about["cost"] == {"seconds": 1.5, "images": 64, "forward": 640, "backward": 64, "evaluations": 0}
    best = max(found_by(searcher, of, budget=20), key=of.merit)
    assert best.bitwidths == of.optimum().bitwidths


@pytest.mark.parametrize("name", ["fisher_lp", "fisher_gp"])
def test_without_sensitivities_it_is_refused_in_one_line(name: str) -> None:
    for of, message in (
        (problem(), "function has neither a table nor a network to take sensitivities from; give sensitivities="),
        (Problem.from_table(stored(())), "the table 'mine' holds no sensitivities 'fisher'; build it again with"),
        (Problem.from_table(stored(("loss",))), "the table 'mine' holds no sensitivities 'fisher'"),
    ):
        with pytest.raises(ReLeQError, match=message) as refused:
            make_searcher(name, of)
        assert "\n" not in str(refused.value)
    with pytest.raises(ReLeQError, match="unknown proxy 'alone'; choose one of: loss, fisher, hessian"):
        make_searcher(name, problem(), 0, proxy="alone")
    for wrong in ([[1.0]], [[1.0, 2.0]] * 4, "abcd", 3, [[float("nan")] * 5] * 4, [["a"] * 5] * 4):
        with pytest.raises(ReLeQError, match=r"sensitivities=.* does not fit .*give 4 rows, one a layer"):
            make_searcher(name, problem(), 0, sensitivities=wrong)


def test_a_source_of_ones_own_may_have_them() -> None:
    of = problem()
    of.evaluator.source.sensitivities = LOSSES  # type: ignore[attr-defined]
    narrowed = of.replace(bitwidths=[1, 2, 5], min_relative_accuracy=0.97)
    best = max(found_by(make_searcher("fisher_lp", narrowed), narrowed, budget=5), key=narrowed.merit)
    assert narrowed.is_success(best)


def test_on_a_network_they_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from releq_env.sensitivity import measure

    calls: list[Any] = []
    real = measure.measured
    monkeypatch.setattr(measure, "measured", lambda *args: calls.append(args) or real(*args))
    of = Problem.from_task("digits", bitwidths=[2, 8], cache=None, retrain_images=0, workers=1)
    searchers = [FisherLP(of, images=32), FisherLP(of, images=32, seed=1), FisherLP(of, images=16)]
    assert len(calls) == 2
    assert searchers[0].about["cost"]["forward"] == 32
    assert of.evaluator.distinct_evaluations == 0
    assert searchers[0].ask(3) == searchers[1].ask(3)


def test_a_run_says_what_they_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from agents.train import main

    stored().save(tmp_path / "mine.npz")
    run = ["--algo", "fisher_lp", "--budget", "5", "--log-dir", str(tmp_path / "run"), "--hyperparams", "proxy=loss"]
    main([*run, "--env", "releq_env:ReLeQ-Tabular-v0", "--env-kwargs", f"table={tmp_path / 'mine.npz'}"])
    assert '"from": "the table mine", "cost": {"seconds": 1.5,' in capsys.readouterr().out
    known = json.loads((tmp_path / "run" / "report.json").read_text())["agent"]
    assert (known["proxy"], known["cost"]["forward"]) == ("loss", 640)
    with pytest.raises(SystemExit, match="error: the table 'mine' holds no sensitivities 'hessian'"):
        main([*run[:4], *run[6:-1], "proxy=hessian", "--env", "releq_env:ReLeQ-Tabular-v0", "--env-kwargs",
              f"table={tmp_path / 'mine.npz'}"])  # fmt: skip
