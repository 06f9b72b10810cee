import pytest

from benchmarks.speed.__main__ import summary
from benchmarks.speed.ablation import FUSED
from benchmarks.speed.measuring import Reading
from benchmarks.speed.table import Line, markdown


def rounds(
    row: str, side: str, values: list[float], network: str = "", setting: str = "", unit: str = "s"
) -> list[Reading]:
    return [Reading(row, side, unit, value, network, setting) for value in values]


READINGS = [
    *rounds("a", "theirs", [8.0, 7.0, 9.0]),
    *rounds("a", "theirs", [0.98, 0.98, 0.98], unit="accuracy"),
    *rounds("b", "theirs", [4.0, 4.0, 4.0]),
    *rounds("c", "brevitas", [3.0, 3.0, 3.0], setting="fp32"),
    *rounds("c", "modelopt", [2.0, 2.0, 2.0], setting="fp32"),
    *rounds("c", "modelopt", [1.0, 1.0, 1.0], setting="tuned"),
    *rounds("d", "plain", [0.100, 0.100, 0.100], "svhn8"),
    *rounds("d", "quantized", [0.108, 0.105, 0.120], "svhn8"),
    *rounds("e", "peak", [2000.0, 2000.0, 2000.0], setting="bf16", unit="GFLOP/s"),
    *rounds("e", "retraining", [600.0, 500.0, 400.0], "svhn8", "bf16", "GFLOP/s"),
    *rounds("f", "one", [0.9, 1.0, 1.1], "lenet"),
    *rounds("f", "two", [0.5, 0.5, 0.5], "lenet"),
    *rounds("g", "memory", [1e-6, 1e-6, 1e-6]),
    *rounds("g", "vector", [100_000.0, 100_000.0, 100_000.0], unit="steps/s"),
    *rounds("h", "with", [0.010, 0.010, 0.010], "simplenet", FUSED),
    *rounds("h", "without", [0.012, 0.013, 0.014], "simplenet", FUSED),
    *rounds("m", "env", [1.2], unit="GB"),
]


def line(part: str, readings: list[Reading] = READINGS) -> Line:
    (found,) = [line for line in summary(readings) if part in line.what]
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
        ("simplenet: step without", 1.3, True),
        ("CIFAR-10, env", 1.2, True),
    ],
)
def test_the_value_is_the_ratio_of_medians(part: str, value: float, met: bool | None) -> None:
    assert line(part).value == pytest.approx(value)
    assert line(part).met is met


def test_the_spread_is_that_of_the_rounds() -> None:
    assert line("svhn8: retraining").spread == pytest.approx((0.2, 0.3))


def test_without_ours_there_is_nothing_to_judge() -> None:
    alone = line("a fresh process / ours", rounds("a", "theirs", [8.0]))
    assert (alone.value, alone.met, alone.measured) == (None, None, "8 s")


def test_the_table_has_a_line_each() -> None:
    text = markdown(summary(READINGS)).splitlines()
    assert len({row.count("|") for row in text}) == 1
    assert sum(row.startswith("| d ") for row in text) == 1
