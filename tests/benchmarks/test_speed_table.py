import pytest

from benchmarks.speed_table import Line, markdown, summary

SERIES = {
    "a/seconds": [8.0, 7.0, 9.0],
    "a/accuracy": [0.98, 0.98, 0.98],
    "b/seconds": [4.0, 4.0, 4.0],
    "c/brevitas/fp32/seconds": [3.0, 3.0, 3.0],
    "c/modelopt/fp32/seconds": [2.0, 2.0, 2.0],
    "c/modelopt/tuned/seconds": [1.0, 1.0, 1.0],
    "d/svhn8/plain": [0.100, 0.100, 0.100],
    "d/svhn8/quantized": [0.108, 0.105, 0.120],
    "e/peak/bf16": [2000.0, 2000.0, 2000.0],
    "e/svhn8/bf16": [600.0, 500.0, 400.0],
    "f/lenet/one": [0.9, 1.0, 1.1],
    "f/lenet/two": [0.5, 0.5, 0.5],
    "g/memory": [1e-6, 1e-6, 1e-6],
    "g/vector": [100_000.0, 100_000.0, 100_000.0],
    "m/env": [1.2],
}


def line(part: str, series: dict[str, list[float]] = SERIES) -> Line:
    (found,) = [line for line in summary(series) if part in line.what]
    return found


@pytest.mark.parametrize(
    ("part", "value", "met"),
    [
        ("a fresh process / ours", 16.0, True),
        ("the same in one process / ours", 8.0, True),
        ("modelopt (fp32", 4.0, True),
        ("brevitas (fp32", 6.0, None),  # the faster peer is judged
        ("modelopt (with bf16", 2.0, None),
        ("svhn8: quantized step", 1.08, True),
        ("svhn8: retraining, share of bf16 peak", 0.25, True),
        ("lenet: 2 one-thread workers", 2.0, True),
        ("from the memory, ms", 0.001, True),
        ("64 vector environments", 100_000.0, False),
        ("CIFAR-10, env", 1.2, True),
    ],
)
def test_the_value_is_the_ratio_of_medians(part: str, value: float, met: bool | None) -> None:
    assert line(part).value == pytest.approx(value)
    assert line(part).met is met


def test_the_spread_is_that_of_the_rounds() -> None:
    assert line("svhn8: retraining").spread == pytest.approx((0.2, 0.3))


def test_without_ours_there_is_nothing_to_judge() -> None:
    alone = line("a fresh process / ours", {"a/seconds": [8.0]})
    assert (alone.value, alone.met, alone.measured) == (None, None, "8 s")


def test_the_table_has_a_line_each_and_the_notes() -> None:
    text = markdown(summary(SERIES), {"c/brevitas": "not installed: python -m pip install brevitas"}).splitlines()
    assert len({row.count("|") for row in text if row.startswith("|")}) == 1
    assert text[-1] == "- c/brevitas: not installed: python -m pip install brevitas"
    assert sum(row.startswith("| d ") for row in text) == 1
