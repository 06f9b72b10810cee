"""What a table says of sensitivities: known answers on tables that add up, and on tables that do not."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tables import proxies
from benchmarks.tables.additive import fitted, indices_of, parts, spearman, spearman_at_equal_cost, summed
from benchmarks.tables.proxy_study import FITTED, SUMMED, Study
from releq_env import AccuracyTable
from releq_env.layer_info import LayerInfo
from releq_env.tables.sensitivities import Cost, Proxy, Sensitivities
from tests.tables.test_page import pictures

BITS = (1, 2, 3, 4)
CHOICES = (BITS, BITS, BITS, (2, 8))
EVERYTHING = list(itertools.product(*CHOICES))
NEEDS = (1.0, 2.5, 0.4, 0.7)
LAYERS = [
    LayerInfo(f"layer{index}", n=1, c=1, k=1, weights=weights, macs=weights, std=1.0)
    for index, weights in enumerate((10, 90, 40, 25))
]


def adding_up(bitwidths: Sequence[int]) -> float:
    return 0.9 - 0.1 * sum(need * 3.0**-bits for need, bits in zip(NEEDS, bitwidths, strict=True))


def interacting(bitwidths: Sequence[int]) -> float:
    """The first layer hurts only where the second one does not: by a look at each alone it needs all its bits."""
    first, second, *others = (need * 3.0**-bits for need, bits in zip(NEEDS, bitwidths, strict=True))
    return 0.9 - 0.1 * (max(4.0 * first, second) + sum(others))


def table(accuracy: Callable[[Sequence[int]], float], noise: float = 0.0, seeds: int = 1, **more: Any) -> AccuracyTable:
    generator = np.random.default_rng(0)
    records = [(bits, seed, accuracy(bits) + noise * generator.standard_normal()) for seed in range(seeds) for bits in EVERYTHING]  # noqa: E501  # fmt: skip
    known = {
        "fisher": Proxy(tuple(tuple(n * 3.0**-b for b in of) for n, of in zip(NEEDS, CHOICES, strict=True)), Cost(1.0, 9, 9, 9)),  # noqa: E501
        "loss": Proxy(tuple(tuple(-n * 3.0**-b for b in of) for n, of in zip(NEEDS, CHOICES, strict=True)), Cost(2.0, 9, 99)),  # noqa: E501
    }  # fmt: skip
    bitwidths, of_record, values = zip(*records, strict=True)
    return AccuracyTable.from_records(
        bitwidths, values, seeds=of_record, full_precision_accuracy=0.9, choices=CHOICES, layers=LAYERS, name="mine",
        **({"about": {"sensitivities": Sensitivities(CHOICES, known).as_dict()}, "min_relative_accuracy": 0.97} | more),
    )  # fmt: skip


def test_where_losses_add_up_the_knapsack_is_the_optimum() -> None:
    study = Study(table(adding_up))
    assert study.ranks(study.predicted("fisher")) == pytest.approx((1.0, 1.0, 1.0))
    assert study.ranks(study.predicted("loss")) == pytest.approx((-1.0, -1.0, -1.0))
    for cost in SUMMED:
        known = study.gaps("fisher", cost)
        assert known.gaps == pytest.approx(0.0, abs=1e-9)
        best = study.table.optimum(cost=cost)
        assert known.cheapest == pytest.approx(best.state_of_quantization)
        wrong = study.gaps("loss", cost)
        assert np.nanmax(wrong.gaps) > 5.0
        assert (wrong.gaps >= 0.0).all()
    of_accuracy, _ = study.parts
    assert of_accuracy.main == pytest.approx(1.0)
    assert of_accuracy.by_pair == pytest.approx(0.0, abs=1e-9)


def test_every_budgets_optimum_and_answer_by_looking_at_everything() -> None:
    study = Study(table(interacting, noise=0.005, seeds=3))
    q = study.table.landscape(cost="size").costs
    known = study.gaps("fisher", "size")
    predicted = study.predicted("fisher")
    for budget, optimum, answer in zip(known.budgets, known.optimum, known.answer, strict=True):
        within = np.flatnonzero(q <= budget * (1 + 1e-12))
        assert optimum == study.accuracy[within].max()
        assert answer == study.accuracy[within[predicted[within].argmin()]]


def test_nothing_that_unseen_seeds_judge_has_seen_them() -> None:
    """Answers to budgets are the same, and so are their gaps but for what judges them, whatever the other seeds say."""
    known = table(interacting, noise=0.02, seeds=3)
    bitwidths, seeds, accuracy = known.records()
    by_seed = [accuracy[seeds == seed] for seed in range(3)]
    order = bitwidths[seeds == 0]
    study = Study(known)
    study_of_one = Study(
        AccuracyTable.from_records(
            order, by_seed[0], full_precision_accuracy=0.9, choices=CHOICES, layers=LAYERS, about=known.about,
            min_relative_accuracy=0.97,
        )
    )  # fmt: skip
    others = dict(zip(map(tuple, order.tolist()), (by_seed[1] + by_seed[2]) / 2, strict=True))
    q = study_of_one.table.landscape(cost="size").costs
    predicted = study_of_one.predicted(FITTED)
    judge = np.array([others[tuple(row)] for row in study_of_one.bitwidths.tolist()])
    found = study.gaps(FITTED, "size")
    for budget, unseen in zip(found.budgets, found.unseen, strict=True):
        within = np.flatnonzero(q <= budget * (1 + 1e-12))
        best = within[study_of_one.accuracy[within].argmax()]
        assert unseen == pytest.approx(100 * (judge[best] - judge[within[predicted[within].argmin()]]))


def test_interaction_is_found_between_the_layers_that_have_it() -> None:
    study = Study(table(interacting))
    of_accuracy, _ = study.parts
    assert of_accuracy.main < 0.95
    assert of_accuracy.main + of_accuracy.pairs == pytest.approx(1.0)
    assert of_accuracy.by_pair[0, 1] == pytest.approx(of_accuracy.pairs)
    assert of_accuracy.by_pair[0, 2] == pytest.approx(0.0, abs=1e-9) == of_accuracy.by_pair[1, 2]
    assert study.gaps("fisher", "size").gaps.max() > 0.5


@given(st.integers(0, 1000))
def test_the_fit_is_what_adds_up_and_leaves_nothing_of_it(seed: int) -> None:
    generator = np.random.default_rng(seed)
    indices = indices_of(np.array(EVERYTHING, dtype=np.uint8), CHOICES)
    matrix = generator.standard_normal((4, 4))
    values = summed(matrix, indices)
    assert summed(fitted(indices, values, CHOICES), indices) == pytest.approx(values)
    noisy = values + generator.standard_normal(len(values))
    found = parts(indices, noisy, CHOICES)
    assert found.main + found.pairs + found.rest == pytest.approx(1.0)
    assert min(found[:3]) >= -1e-9
    assert found.by_pair.sum() == pytest.approx(found.pairs)  # of a complete table: pairs are orthogonal


def test_ranks_at_equal_cost_know_nothing_of_the_cost() -> None:
    generator = np.random.default_rng(0)
    costs = np.repeat(np.arange(10.0), 30)
    luck = generator.random(300)
    assert spearman(-costs, costs) == pytest.approx(1.0)
    assert np.isnan(spearman_at_equal_cost(-costs, costs, costs))
    assert abs(spearman_at_equal_cost(-costs - luck, costs + generator.random(300), costs)) < 0.2
    assert spearman_at_equal_cost(-costs - luck, costs + luck**3, costs) == pytest.approx(1.0)
    assert np.isnan(spearman(costs[:2], costs[:2]))


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_pages(seeds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(interacting, noise=0.002, seeds=seeds).save(tmp_path / "mine.npz")
    proxies.main([str(tmp_path / "mine.npz"), "--out", str(tmp_path / "pages")])
    names = [Path(line).name for line in capsys.readouterr().out.split()]
    assert names == ["mine-proxies.md", "mine-interaction.md"]
    ranks, gaps = ((tmp_path / "pages" / name).read_text() for name in names)
    study = Study(AccuracyTable.load(tmp_path / "mine.npz"))
    numbers = " | ".join(f"{each:.3f}" for each in study.ranks(study.predicted("fisher")))
    assert f"| {numbers} | 1.0 | 9 | 9 | - |" in ranks
    assert ("another seed" in ranks) == (seeds == 3)
    assert f"over 128 of 128 assignments, {'mean of the seeds 0, 1, 2' if seeds == 3 else 'with the seed 0'}" in ranks
    known = study.gaps("fisher", "size")
    assert f"| `fisher` | {known.gaps[known.usable].mean():.2f} | {known.gaps[known.usable].max():.2f} |" in gaps
    assert ("has one seed" in gaps) == (seeds == 1)
    assert "not measured and are left out" not in gaps
    for text in (ranks, gaps):
        for name in pictures(text):
            assert matplotlib.image.imread(tmp_path / "pages" / name)[..., :3].std() > 0.05


def test_a_partial_table_says_what_is_lacking(tmp_path: Path) -> None:
    whole = table(adding_up)
    bitwidths, seeds, accuracy = whole.records()
    part = AccuracyTable.from_records(
        bitwidths[::3], accuracy[::3], seeds=seeds[::3], full_precision_accuracy=0.9, choices=CHOICES, layers=LAYERS,
        about=whole.about, name="part",
    )  # fmt: skip
    text = proxies.interaction_page(Study(part), tmp_path).read_text()
    assert "answers were not measured and are left out" in text
    assert "over 43 of 128 assignments" in proxies.ranking_page(Study(part), tmp_path).read_text()


def test_a_table_without_sensitivities_is_refused(tmp_path: Path) -> None:
    table(adding_up, about={}).save(tmp_path / "mine.npz")
    with pytest.raises(SystemExit, match="error: the table 'mine' holds no sensitivities; build it again with"):
        proxies.main([str(tmp_path / "mine.npz"), "--out", str(tmp_path / "pages")])
    assert not (tmp_path / "pages").exists()
