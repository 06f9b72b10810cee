import numpy as np
import pytest

from benchmarks.compare import ablations, curves, suite
from benchmarks.compare.facts import facts_of, from_row, unpack_front, unseen_regret
from benchmarks.compare.run import Job, Variant, run
from benchmarks.compare.schedule import variants
from releq_env.errors import ReLeQError
from releq_env.tables import AccuracyTable
from releq_env.tables.shipped import TABLES
from tests.agents.commands import rows
from tests.benchmarks.compared import small_table


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return small_table(tmp_path_factory.mktemp("tables"))


def entry(table, text=""):
    return suite.find([f"{table}{':' * bool(text)}{text}"])[0]


def job(table, algo, seed=0, budget=40, timesteps=800, text="", **variant):
    return Job(entry(table, text), Variant(algo, algo, **variant), seed, budget, timesteps)


@pytest.mark.parametrize("algo", ["local", "ppo"])
def test_a_run_is_that_of_the_training_command(algo, table, tmp_path):
    from agents.train import main

    options = f"--algo {algo} --env releq_env:ReLeQ-Tabular-v0 --budget 40 --timesteps 800 --seed 3"
    arguments = [f"table={table}", "cost=size", "max_cost=0.5"]
    main([*options.split(), "--log-dir", str(tmp_path / "run"), "--env-kwargs", *arguments])
    row = run(job(table, algo, 3, text="cost=size,max_cost=0.5"))
    recorded = rows(tmp_path / "run")
    assert row.distinct_evaluations == len(recorded) == 40
    best = np.maximum.accumulate([float(line["reward"]) for line in recorded])
    assert curves.at(curves.unpack(row.curve), np.arange(1, 41)) == pytest.approx(best)
    assert row.state_of_quantization <= 0.5


@pytest.mark.parametrize("algo", ["random", "local", "gp", "evolution"])
def test_what_a_row_says(algo, table):
    row = run(job(table, algo, budget=30))
    problem = entry(table).problem()
    bits = tuple(map(int, row.bitwidths.split()))
    found = problem.evaluator.evaluate(bits)
    assert row.distinct_evaluations == 30
    assert curves.unpack(row.curve)[-1][1] == pytest.approx(problem.objective(found))
    assert row.relative_accuracy == pytest.approx(found.relative_accuracy, abs=1e-6)
    recommended = tuple(map(int, row.recommended.split()))
    known = AccuracyTable.load(table)
    assert float(row.unseen_regret) == pytest.approx(known.regret(recommended, seed=1), abs=1e-5)
    passes = known.query(recommended, 1) / 0.98 >= 0.99
    assert float(row.unseen_passing) == passes
    assert row == run(job(table, algo, budget=30))._replace(seconds=row.seconds, own_seconds=row.own_seconds)


def test_what_an_agent_recommends_counts(table, monkeypatch):
    monkeypatch.setattr("releq_env.searchers.gp.GPSearch.recommend", lambda self: (8, 8, 8, 8))
    row = run(job(table, "gp", budget=10))
    assert row.recommended == "8 8 8 8"
    assert row.bitwidths != row.recommended
    assert row.recommended_reward == 0.0


def test_a_run_that_asks_nothing_new_ends_by_its_steps(table):
    row = run(job(table, "evolution", budget=300, timesteps=400))
    assert 400 <= row.timesteps < 440  # the last batch is whole
    assert row.distinct_evaluations < 300


def test_an_agent_that_refuses_says_so(table):
    with pytest.raises(ReLeQError, match="does not take its hyperparameters"):
        run(job(table, "local", hyperparams=("magic=1",)))


def test_what_the_environment_is_told(table):
    each_step = run(job(table, "ppo", env_kwargs=(("evaluate", "step"),)))
    at_the_end = run(job(table, "ppo"))
    assert each_step.timesteps < at_the_end.timesteps  # every prefix is an evaluation


@pytest.mark.parametrize("text", ["", "cost=size", "max_cost=0.4", "reward=ratio,max_cost=0.7"])
def test_facts_by_brute_force(table, text):
    facts = facts_of(entry(table, text))
    problem = entry(table, text).problem()
    every = problem.evaluator.evaluate_many(AccuracyTable.load(table).bitwidths.tolist())
    kept = [problem.objective(each) for each in every if problem.keeps_max_cost(each.bitwidths)]
    assert facts.optimum_reward == pytest.approx(max(kept))
    assert facts.random_reward == pytest.approx(np.mean(kept))
    assert facts.passing == pytest.approx(np.mean(list(map(problem.is_success, every))), abs=1e-6)
    front = unpack_front(facts.front)
    assert front == sorted(front)
    assert from_row({name: str(value) for name, value in facts._asdict().items()}) == facts


def test_regret_is_known_on_other_seeds_only_if_there_are_some(tmp_path):
    path = small_table(tmp_path, "single", seeds=1)
    assert unseen_regret(entry(path).problem(), (1, 1, 1, 1)) is None
    assert run(job(path, "random")).unseen_regret == ""


def test_the_main_suite():
    names = [each.name for each in suite.MAIN]
    assert len(set(names)) == 8
    assert {each.table for each in suite.MAIN} <= set(TABLES) - {"digits"}  # hyperparameters are tuned on Digits
    assert not set(names) & {each.name for each in suite.APART}
    decisions = [each.decision for each in suite.MAIN]
    assert {"size", "energy"} <= {decision.get("cost") for decision in decisions}
    assert any("max_cost" in decision for decision in decisions)
    assert any("min_relative_accuracy" in decision and "max_cost" not in decision for decision in decisions)


def test_names_of_problems(table, tmp_path):
    assert [each.name for each in suite.find(["main", "cifar10/energy"])] == [each.name for each in suite.MAIN]
    own = entry(table, "cost=size,max_cost=0.5")
    assert own.name == "toy/cost=size,max_cost=0.5"
    assert own.decision == {"cost": "size", "max_cost": 0.5}
    of_lists = entry(table, "bitwidths=[[2, 4], [2, 4, 8], [8], [1, 8]],max_cost=0.9")
    assert of_lists.problem().choices == ((2, 4), (2, 4, 8), (8,), (1, 8))
    assert of_lists.decision["max_cost"] == 0.9
    assert suite.find(["digits:cost=energy"])[0].name == "digits/cost=energy"
    small_table(tmp_path, "digits")
    assert suite.find(["digits/default"], tmp_path)[0].problem().num_layers == 4


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "neither a problem nor a table"),
        ("cifar10/none", "neither a problem nor a table"),
        ("digits:bits=3", "unknown argument"),
        ("digits:cost", "cost"),
        ("digits:bitwidths=[2,4", "no number, text, list or dictionary in YAML"),
    ],
)
def test_what_is_no_problem(name, told, tmp_path):
    small_table(tmp_path, "digits")
    with pytest.raises(ReLeQError, match=told):
        suite.find([name], tmp_path)[0].problem()


def test_what_a_problem_is_like(table):
    line = suite.check_line(entry(table))
    assert line["assignments"] == 256
    assert line["smallest"] == "no"
    trivial = suite.check_line(entry(table, "min_relative_accuracy=0.1"))
    assert (trivial["smallest"], trivial["optimum"]) == ("yes", "1 1 1 1")


def test_names_of_agents():
    found = variants(["ppo", "wide=ppo", "random", "ppo"], ["wide:n_steps=4", "random:n_envs=1"])
    assert [(each.label, each.algo, each.hyperparams) for each in found] == [
        ("ppo", "ppo", ()),
        ("wide", "ppo", ("n_steps=4",)),
        ("random", "random", ("n_envs=1",)),
    ]
    assert "exhaustive" not in {each.label for each in variants(["all"], [])}


@pytest.mark.parametrize(
    ("names", "overrides"),
    [(["nobody"], []), (["a=nobody"], []), (["ppo"], ["dqn:gamma=1"]), (["ppo"], ["ppo"]), (["ppo"], ["ppo:gamma"])],
)
def test_what_is_no_agent(names, overrides):
    with pytest.raises(ReLeQError):
        variants(names, overrides)


@pytest.mark.parametrize("variant", ablations.PAPER, ids=lambda variant: variant.label)
def test_the_papers_ablations_run_and_differ_in_one_thing(variant, table):
    base = ablations.PAPER[0]
    parts = ("algo", "env_kwargs", "decision", "hyperparams")
    differing = [part for part in parts if getattr(variant, part) != getattr(base, part)]
    assert len(differing) == (variant is not base) or differing == ["algo", "hyperparams"]  # no LSTM, else the same
    decision = dict(variant.decision)
    row = run(Job(entry(table, f"reward={decision['reward']}"), variant, 0, 12, 240))
    assert row.distinct_evaluations == 12
    assert row.reward == decision["reward"]


@pytest.mark.parametrize("variant", ablations.DYNA_PPO, ids=lambda variant: variant.label)
def test_each_part_of_dyna_ppo_can_be_switched_off(variant, table):
    assert run(Job(entry(table), variant, 0, 8, 160)).distinct_evaluations == 8
