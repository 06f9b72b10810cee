"""Which constraint how many assignments pass: measured once, resumed, and judged."""

from pathlib import Path

import pytest

from benchmarks.tables import constraint
from benchmarks.tables.constraint import Rows, choices_of, depends_of, measure
from releq_env import ReLeQError
from tests.fakes import digits_problem
from tests.tables.measured import SeededSource, accuracy, seeded_problem


def measured(path: Path, source: SeededSource | None = None, count: int = 40, again: int = 10) -> SeededSource:
    source = source or SeededSource()
    problem = seeded_problem(source)
    measure(problem, Rows(path, depends_of(problem)), count, again)
    return source


def test_shares_slack_and_noise(tmp_path: Path) -> None:
    path = tmp_path / "digits-lsq.csv"
    source = measured(path)
    assert len(source.calls) == 50
    rows = Rows(path)
    first = [bits for bits, seed in rows.rows if seed == 0]
    twice = [bits for bits, seed in rows.rows if seed == 1]
    assert twice == first[:10]
    squares = [(accuracy(bits, 0) - accuracy(bits, 1)) ** 2 for bits in twice]
    for each in rows.candidates():
        passing = sum(accuracy(bits, 0) / 0.98 >= each.least for bits in first) / 40
        assert each.passing == pytest.approx(passing)
        assert each.slack == pytest.approx(98.0 * (1.0 - each.least))
        assert each.noise == pytest.approx(100 * (sum(squares) / 10) ** 0.5)
        assert each.fits == (0.01 <= passing <= 0.2 and each.slack > each.noise)
    text = constraint.report(tmp_path)
    assert "40 assignments, noise" in text
    assert "| 0.997 |" in text


def test_resumed_after_any_kill(tmp_path: Path) -> None:
    path = tmp_path / "digits-lsq.csv"
    with pytest.raises(KeyboardInterrupt):
        measured(path, SeededSource(fails_after=25))
    assert len(Rows(path).rows) == 25
    path.write_bytes(path.read_bytes()[:-9])  # killed within a line
    assert len(measured(path).calls) == 26
    assert len(Rows(path).rows) == 50
    assert measured(path).calls == []
    assert len(measured(path, count=41).calls) == 1


def test_what_was_measured_otherwise_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "digits-lsq.csv"
    measured(path, count=5, again=1)
    assert len(measured(path, SeededSource(depends={"torch": "2"}), count=4, again=1).calls) == 5
    assert len(Rows(path).rows) == 5  # of the last
    with pytest.raises(ReLeQError, match="is not known; give its task a cache_key="):
        depends_of(digits_problem())


def test_the_bits_are_those_of_the_planned_table() -> None:
    assert choices_of("cifar10", "lsq") == [1, 2, 3, 4, 5, 6, 8]
    assert choices_of("mnist", "wrpn") == [2, 3, 4, 5, 8]
    assert choices_of("svhn", "lsq") is None


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--bits", "1,8", "--retrain-images", "0", "--assignments", "3", "--again", "1", "--workers", "1"]
    constraint.main(["--task", "digits", *few, "--out", str(tmp_path / "out")])
    assert "3 assignments, noise 0.00 points (1 pairs)" in capsys.readouterr().out
    assert "## digits-lsq" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(SystemExit, match="error: unknown task 'x'"):
        constraint.main(["--task", "x", "--out", str(tmp_path / "out")])
