"""The page of a table."""

import re
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from benchmarks.tables import page
from benchmarks.tables.build import Growing, in_random_order
from releq_env import AccuracyTable, Problem
from tests.tables.measured import seeded_problem, with_sensitivities


def built(path: Path, seeds: tuple[int, ...], count: int | None = None, known: bool = False) -> AccuracyTable:
    problem = seeded_problem()
    growing = Growing(path, problem, "mine", "build --it", 1e9)
    if known:
        growing._about["sensitivities"] = with_sensitivities(problem)
    growing.measure(in_random_order(problem, count), seeds)
    return AccuracyTable.load(path)


def pictures(text: str) -> list[str]:
    return re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)


def test_everything_is_on_it(tmp_path: Path) -> None:
    table = built(tmp_path / "table.npz", (0, 1))
    text = page.page(table, tmp_path / "pages").read_text()
    assert "81 of 81 assignments of 4 layers, out of 1, 2, 4 bits (lsq); seed 0: complete, seed 1: complete" in text
    best = table.optimum(0, reward="ratio", cost="size")
    bits = " ".join(map(str, best.bitwidths))
    other = Problem.from_table(table, seed=1, reward="ratio", cost="size")
    objective = other.objective(other.evaluator.evaluate(best.bitwidths))
    accuracies = [f"{100 * table.query(best.bitwidths, seed):.2f}" for seed in (0, 1)]
    numbers = [f"{best.state_of_quantization:.4f}", f"{best.objective:.4f}", f"{objective:.4f}", *accuracies]
    assert f"| `ratio` | `size` | {bits} | {' | '.join(numbers)} |" in text
    known: dict[str, Any] = table.summary(0, cost="energy")
    assert f"| `energy` | {100 * known['passing']:.1f} % | {known['local_optima']} |" in text
    assert f"differs by {100 * (table.seed_noise() or 0):.2f} percentage points" in text
    above = table.seed_noise(table.min_relative_accuracy)
    assert (above is not None) == ("among those that keep the constraint" in text)
    assert "`build --it`" in text
    assert len(pictures(text)) == 4
    for name in pictures(text):
        picture = matplotlib.image.imread(tmp_path / "pages" / name)
        assert picture[..., :3].std() > 0.05  # something is drawn


def test_sensitivities_are_shown_with_what_they_cost(tmp_path: Path) -> None:
    table = built(tmp_path / "table.npz", (0,), known=True)
    text = page.page(table, tmp_path / "pages").read_text()
    assert "| `fisher` | half the diagonal Fisher information times" in text
    assert "| 1.2 | 64 | 640 | 128 | - |" in text
    assert "| `alone` |" in text
    assert "mine-measured.png" in pictures(text)
    assert "mine-interaction.md" in text


@pytest.mark.parametrize("count", [1, 30])
def test_a_partial_table_of_one_seed_is_not_called_complete(tmp_path: Path, count: int) -> None:
    table = built(tmp_path / "table.npz", (3,), count)
    text = page.page(table, tmp_path / "pages").read_text()
    assert "complete" not in text.partition("## ")[0]
    assert f"seed 3: {100 * count / 81:.1f} %" in text
    assert "One retraining seed was measured" in text
    assert len(pictures(text)) == 3


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = AccuracyTable.from_records([[1], [2], [4]], [0.5, 0.8, 0.9], full_precision_accuracy=0.9, name="own")
    table.save(tmp_path / "own.npz")
    page.main([str(tmp_path / "own.npz"), "--out", str(tmp_path / "pages")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "pages" / "own.md")
    assert "The table does not say." in (tmp_path / "pages" / "own.md").read_text()
    with pytest.raises(SystemExit, match="there is no table 'nowhere'"):
        page.main(["nowhere"])
