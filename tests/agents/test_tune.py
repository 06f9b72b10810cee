"""Tuning: scores by hand, trials that outlive a kill, ranges that agents take."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from agents.algorithms.registry import ALGORITHMS, HYPERPARAMS
from agents.run.bare import run_bare
from agents.run.settings import Options as RunOptions
from agents.run.settings import new_settings
from agents.tune import Options, main, tune
from agents.tuning.score import PROBLEMS, area, landscape, score, with_values
from agents.tuning.trials import LARGEST_SEED, RANGES, Trials, held, read_ranges
from releq_env import ReLeQError
from releq_env.testing.landscapes import LANDSCAPES
from releq_env.testing.problems import feasible
from tests.agents import problems

QUICK = {"seeds": 1, "budget": 20, "problems": ["separable"], "fresh": 2}


def tuned(out: Path, trials: int, **more: Any) -> list[dict[str, Any]]:
    options = Options(algo="evolution", trials=trials, out=out, **(QUICK | more))
    tune(options)
    return [json.loads(line) for line in (out / "evolution.jsonl").read_text().splitlines()][1:]


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_an_area_by_hand() -> None:
    assert area([0.0, 1.0], 4) == pytest.approx(0.75)
    assert area([0.5, 0.2, 0.7], 3) == pytest.approx((0.5 + 0.5 + 0.7) / 3)
    assert area([np.nan, 0.4], 2) == pytest.approx(0.2)
    assert area([-1.0, 1.0, 5.0], 2) == pytest.approx(0.0)


@pytest.mark.parametrize("name", LANDSCAPES)
def test_a_landscape_has_the_optimum_that_it_says(name: str) -> None:
    known = landscape(name)
    merit = problems.optimum(known.problem)
    assert known.optimum == pytest.approx(merit[1])
    assert known.normalised(known.optimum) == 1.0
    assert known.normalised(known.mean) == 0.0
    assert known.mean < known.optimum
    uniform = [known.problem.objective(known.problem.evaluator.evaluate(each)) for each in known.problem.uniform()]
    assert max(uniform) < known.optimum  # or there is nothing to find


def test_a_score_is_one_for_whoever_knows_the_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    class Oracle:
        def __init__(self, problem: Any, seed: int) -> None:
            everything = problem.evaluator.reseeded(0).evaluate_many(feasible(problem))
            self._left = [max(everything, key=problem.merit).bitwidths]

        def ask(self, n: int) -> list[tuple[int, ...]]:
            return [self._left.pop()] if self._left else []

        def tell(self, evaluations: Any) -> None: ...

    monkeypatch.setitem(ALGORITHMS.maps[0], "oracle", Oracle)
    settings = new_settings(RunOptions(algo="oracle", env="releq_env:ReLeQ-v0"))
    assert score(settings, ["separable", "bounded"], range(2), 30) == {"separable": [1.0, 1.0], "bounded": [1.0, 1.0]}


def test_the_first_trial_is_the_untuned_default(tmp_path: Path) -> None:
    rows = tuned(tmp_path, 3)
    assert [row["number"] for row in rows] == [0, 1, 2]
    assert rows[0]["values"] == {}
    assert all(set(row["values"]) == {"population", "tournament"} for row in rows[1:])
    block = (tmp_path / "evolution.yml").read_text()
    best = max(rows, key=lambda row: row["score"])
    assert yaml.safe_load(block)["default"] == with_values({"n_envs": 2, "n_timesteps": 4000}, best["values"])
    assert "population 5 to 50" in block
    assert f"area {best['score']:.4f}; the untuned default {rows[0]['score']:.4f}" in block


def test_the_best_is_compared_with_the_default_on_fresh_seeds(tmp_path: Path) -> None:
    best = max(tuned(tmp_path, 6, budget=60), key=lambda row: row["score"])
    assert best["values"]  # or there is nothing to compare
    fresh = json.loads((tmp_path / "evolution-fresh.json").read_text())
    assert fresh["seeds"] == [1000, 1001]
    assert fresh["values"] == best["values"]
    settings = new_settings(RunOptions(algo="evolution", env="releq_env:ReLeQ-v0"))
    hyperparams = with_values(settings.hyperparams, best["values"])
    again = score(replace(settings, hyperparams=hyperparams), ["separable"], [1000, 1001], 60)
    assert fresh["tuned"] == again
    assert fresh["default"] == score(settings, ["separable"], [1000, 1001], 60)
    difference = np.mean(fresh["tuned"]["separable"]) - np.mean(fresh["default"]["separable"])
    block = (tmp_path / "evolution.yml").read_text()
    assert f"difference {difference:+.4f} (" in block
    marked = fresh | {"tuned": {"separable": [1.0, 1.0]}}
    (tmp_path / "evolution-fresh.json").write_text(json.dumps(marked))
    tuned(tmp_path, 6, budget=60)  # what is known is not made again
    assert json.loads((tmp_path / "evolution-fresh.json").read_text()) == marked
    tuned(tmp_path, 6, budget=60, fresh=3)
    assert json.loads((tmp_path / "evolution-fresh.json").read_text())["seeds"] == [1000, 1001, 1002]


def test_a_default_that_nothing_beats_has_no_rival(tmp_path: Path) -> None:
    tuned(tmp_path, 1)
    assert not (tmp_path / "evolution-fresh.json").exists()
    assert "fresh" not in (tmp_path / "evolution.yml").read_text()


@pytest.mark.parametrize("cut", [0, 5])
def test_a_killed_tuning_goes_on_as_if_it_never_was(cut: int, tmp_path: Path) -> None:
    whole = tuned(tmp_path / "whole", 4)
    tuned(tmp_path / "killed", 3)
    path = tmp_path / "killed" / "evolution.jsonl"
    text = path.read_text()
    path.write_text(text[:-cut] if cut else text + '{"number": 3, "val')  # the last line was under way
    assert without_time(tuned(tmp_path / "killed", 4)) == without_time(whole)


def test_trials_of_another_tuning_are_not_mixed_in(tmp_path: Path) -> None:
    tuned(tmp_path, 1)
    with pytest.raises(ReLeQError, match="a tuning with another seeds; give another --out"):
        tuned(tmp_path, 2, seeds=2)
    for damage in ("nonsense\n", "[]\n"):
        (tmp_path / "evolution.jsonl").write_text(damage)
        with pytest.raises(SystemExit, match="is damaged"):
            main(["--algo", "evolution", "--out", str(tmp_path)])


def test_one_process_tunes_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path / "evolution.jsonl"), pytest.raises(ReLeQError, match="another process tunes into"):
        tuned(tmp_path, 1)
    tuned(tmp_path, 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--algo", "nobody"], "unknown algo 'nobody'"),
        (["--algo", "random"], "unknown agent to tune 'random'"),
        (["--algo", "ppo", "--problems", "mnist"], "unknown problem 'mnist'; choose one of: separable"),
        (["--algo", "ppo", "--trials", "0"], "--trials 0 is not accepted"),
        (["--algo", "ppo", "--seed", "-1"], "--seed -1 is not accepted; give a whole number from 0"),
        (["--algo", "ppo", "--seed", "4300000"], "--seed 4300000 is not accepted"),
    ],
)
def test_mistakes_end_in_one_line(args: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*args, "--out", str(tmp_path / "out")])
    assert message in str(ended.value)
    assert "\n" not in str(ended.value)
    assert not (tmp_path / "out").exists()


def test_nothing_is_tuned_on_what_is_compared_on() -> None:
    assert set(PROBLEMS) == {*LANDSCAPES, "digits"}


RANGED = yaml.safe_load(RANGES.read_text())


@pytest.mark.parametrize("algo", RANGED)
def test_agents_take_what_is_tried(algo: str, tmp_path: Path) -> None:
    """The ends of every range, and every choice."""
    ranges = read_ranges(algo)
    trials = Trials(tmp_path / "trials.jsonl", {})
    trials.add({"number": 0, "values": {}, "score": 0.0})
    assert set(trials.suggest(ranges, 0)) == set(ranges)
    ends = [of_name.get("choices") or [of_name["low"], of_name["high"]] for of_name in ranges.values()]
    settings = new_settings(RunOptions(algo=algo, env=problems.ENV, timesteps=64))
    for end in (0, -1):
        values = {name: of_name[end] for name, of_name in zip(ranges, ends, strict=True)}
        changed = with_values(settings.hyperparams, values)
        assert set(changed) <= {*settings.hyperparams, *ranges}
        assert run_bare(replace(settings, hyperparams=changed), problems.four_layers()).evaluations


def test_the_largest_seed_is_one_of_a_sampler(tmp_path: Path) -> None:
    trials = Trials(tmp_path / "trials.jsonl", {})
    for number in range(2):
        trials.add({"number": number, "values": {}, "score": 0.0})
    assert trials.suggest(read_ranges("evolution"), LARGEST_SEED)


def test_ranges_are_of_agents_with_settings() -> None:
    assert set(RANGED) <= set(ALGORITHMS)
    assert all((HYPERPARAMS / f"{algo}.yml").exists() for algo in RANGED)
