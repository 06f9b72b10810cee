from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.tables.study import plan, statistics
from benchmarks.tables.study.recipes import FIRST, RANKED, SECOND, SLOWER, TODAY, Recipe
from benchmarks.tables.study.report import write_report
from benchmarks.tables.study.rows import Job, Row, Rows
from benchmarks.tables.study.training import FULL_PRECISION, LONG, Measured, Retrainer
from releq_env.errors import ReLeQError

BITWIDTHS = (2, 1, 4, 3)


@pytest.fixture(scope="module")
def digits() -> Retrainer:
    return Retrainer("digits", "lsq")


def test_todays_recipe_is_the_engines():
    retrainer, engine = Retrainer("digits", "lsq", "fp32"), Retrainer("digits", "lsq", "fp32").engine
    engine.retrain_images = 320
    # Its layers are not fused: sums are taken in another order, which may turn an image of 500; in bf16 several.
    measured = engine.measure(BITWIDTHS, 3)[0]
    assert retrainer.short(BITWIDTHS, TODAY, 320, 3).accuracy == pytest.approx(measured, abs=1.5 / 500)


@pytest.mark.parametrize("recipe", [*FIRST, *SLOWER, *SECOND], ids=lambda recipe: recipe.name)
def test_a_name_says_the_whole_recipe(recipe):
    assert Recipe.of(recipe.name) == recipe


@pytest.mark.parametrize("name", ["yesterday", "distil", "distil=much", "speed=1", "steps=few", "a=b=c"])
def test_names_that_are_no_recipes(name):
    with pytest.raises(ReLeQError):
        Recipe.of(name)


@pytest.mark.parametrize("recipe", RANKED, ids=lambda recipe: recipe.name)
def test_every_recipe_recovers_accuracy(digits, recipe):
    before = digits.short(BITWIDTHS, recipe, 0, 0)
    after = digits.short(BITWIDTHS, recipe, 800, 0)
    assert after.validation_loss < before.validation_loss
    assert after.seconds > 0


def test_logarithmic_steps_never_cross_zero(digits):
    wild = Recipe(steps="log", step_rate=0.5)
    assert digits.short((4, 4, 4, 4), wild, 800, 0).killed == 0
    assert digits.short((4, 4, 4, 4), replace(wild, steps="relative"), 800, 0).killed > 0


def test_full_precision_is_retrained_too():
    retrainer = Retrainer("digits", FULL_PRECISION)
    assert retrainer.short(None, TODAY, 320, 0).accuracy > 0.95
    assert retrainer.long(None, LONG, 1, 0).accuracy > 0.95


def test_rows_survive_half_a_line(tmp_path):
    rows = Rows(tmp_path)
    jobs = [Job("short", "digits", "lsq", "1 2 3 4", "today", 320, seed) for seed in range(3)]
    measured = Measured(0.5, 1.0, float("nan"), 0, 0.1)
    for job in jobs[:2]:
        rows.append(Row(job, measured, "here"))
    path = tmp_path / "short.csv"
    path.write_bytes(path.read_bytes()[:-7])
    again = Rows(tmp_path)
    assert again.get(jobs[0], "here").measured.accuracy == 0.5
    assert again.get(jobs[1], "here") is None
    assert again.get(jobs[0], "elsewhere") is None
    again.append(Row(jobs[2], measured, "here"))
    assert [Rows(tmp_path).get(job, "here") is not None for job in jobs] == [True, False, True]


def test_a_long_row_counts_wherever_it_was_measured(tmp_path):
    rows = Rows(tmp_path)
    job = Job("long", "digits", "lsq", "1 2 3 4", LONG.name, 30, 0)
    rows.append(Row(job, Measured(0.5, 1.0, 1.0, 0, 0.1), "there"))
    assert Rows(tmp_path).get(job, "here") is not None


def test_the_plan_measures_nothing_twice():
    jobs = plan.plan(plan.with_stand_ins({}))
    assert len(jobs) == len(set(jobs))
    one_bit = plan.job("screen", "digits", "lsq", (1, 1, 1, 1), LONG, 320, 0)
    assert one_bit == plan.job("screen", "digits", "lsq", (1, 1, 1, 1), LONG.without_steps, 320, 0)


def test_chosen_assignments_are_kept(tmp_path):
    chosen = {"digits/lsq": {"random": [(1, 2, 3, 4), (8, 8, 8, 8)], "near": [(1, 1, 1, 1)]}}
    plan.save_chosen(chosen, tmp_path / "assignments.json")
    assert plan.load_chosen(tmp_path / "assignments.json") == chosen


def test_the_report_is_made_of_the_rows_alone(tmp_path):
    rows = Rows(tmp_path)
    with pytest.raises(ReLeQError, match="measure some"):
        write_report(rows)
    for seed in (0, 1):
        for bits in (None, *((bits,) * 4 for bits in plan.UNIFORM["lsq"])):
            job = plan.job("screen", "digits", "lsq" if bits else FULL_PRECISION, bits, TODAY, 1600, seed)
            rows.append(Row(job, Measured(0.95 + seed / 100, 1.0, 1.0, 0, 0.1), "here"))
    write_report(Rows(tmp_path))
    report = (tmp_path / "report.md").read_text()
    assert "| screen | digits | 12 |" in report
    assert "| `today` | 2 | 95.50" in report
    assert (tmp_path / "screen-digits-lsq-1.png").exists()


def test_rank_correlation_is_scipys():
    generator = np.random.default_rng(1)
    short = generator.integers(10, size=30).astype(float)
    long = short + generator.normal(size=30)
    interval = statistics.spearman(short, long)
    assert interval.value == pytest.approx(stats.spearmanr(short, long).statistic)
    assert interval.low < interval.value < interval.high
