"""One set of bitwidths for all layers, a list of sets, or a dictionary of them."""

from typing import Any

import numpy as np
import pytest

from releq_env.choices import check_choices
from releq_env.errors import ReLeQError
from releq_env.problem import Problem
from tests.fakes import digits_problem

NAMES = ("conv", "fc")
AVAILABLE = ((1, 2, 3, 4), (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("given", "choices"),
    [
        (None, AVAILABLE),
        ([2, 4], ((2, 4), (2, 4))),
        ((3,), ((3,), (3,))),
        (range(1, 4), ((1, 2, 3), (1, 2, 3))),
        (np.array([2, 4]), ((2, 4), (2, 4))),
        ([np.int64(2), np.int8(4)], ((2, 4), (2, 4))),
        ([[2, 4], [1]], ((2, 4), (1,))),
        (((2, 4), range(1, 3)), ((2, 4), (1, 2))),
        (np.array([[2, 4], [1, 3]]), ((2, 4), (1, 3))),
        ({"fc": [4], "conv": (1, 2)}, ((1, 2), (4,))),
        ({"fc": [4]}, ((1, 2, 3, 4), (4,))),
        ({}, AVAILABLE),
    ],
    ids=str,
)
def test_forms(given: Any, choices: Any) -> None:
    checked = check_choices(given, NAMES, AVAILABLE, "lsq")
    assert checked == choices
    assert all(type(bits) is int for of_layer in checked for bits in of_layer)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "bitwidths is empty; give ascending, distinct integers from 1 to 4 .lsq."),
        (4, "bitwidths=4 is not a list"),
        ("24", "bitwidths='24' is not a list"),
        ({2, 4}, "is not a list"),  # it has no order
        ([2.0, 4.0], r"\[2.0, 4.0\] are not all integers"),
        ([2, None], "are not all integers"),
        ([True, 2], "are not all integers"),
        ([0, 2], "has 0, which lsq does not support; .* from 1 to 4"),
        ([2, 5], "has 5, which lsq does not support"),
        ([4, 2], r"\(4, 2\) is unsorted or has repeats"),
        ([2, 2], r"\(2, 2\) is unsorted or has repeats"),
        ([[2, 4], []], "bitwidths.* is empty"),
        ([[2, 4], 4], "bitwidths.*=4 is not a list"),
        ([[2, 4], "24"], "bitwidths.*='24' is not a list"),
        ([[2, 4], [4, 2]], r"bitwidths.*=\(4, 2\) is unsorted"),
        ({"fc": [9]}, "bitwidths.* has 9, which lsq does not support"),
        ({"fc": None}, "bitwidths.*=None is not a list"),
        ([9] * 1_000_000, "has 9, which lsq does not support"),
        (["4"] * 1_000_000, "are not all integers"),
    ],
    ids=range(19),
)
def test_what_does_not_fit_gets_one_line(given: Any, message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        check_choices(given, NAMES, AVAILABLE, "lsq")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[2, 4]], "bitwidths has 1 sets for 2 layers; give one a layer, or one for all"),
        ([[2], [2], [2]], "bitwidths has 3 sets for 2 layers"),
        ({"fc2": [4]}, "bitwidths names the layer 'fc2'; the layers are conv, fc"),
        ({0: [4]}, "bitwidths names the layer 0; the layers are conv, fc"),
        ([[2, 4], [9]], "bitwidths of fc=.* has 9"),
    ],
    ids=str,
)
def test_what_does_not_fit_the_layers_gets_one_line(given: Any, message: str) -> None:
    with pytest.raises(ReLeQError, match=message) as raised:
        check_choices(given, NAMES, AVAILABLE, "lsq")
    assert "\n" not in str(raised.value)


def test_what_is_available_may_have_gaps() -> None:
    available = ((2, 4, 8), (3,))
    assert check_choices({"conv": [2, 8]}, NAMES, available, "the table") == ((2, 8), (3,))
    with pytest.raises(ReLeQError, match=r"has 3, which the table does not support; .* out of 2, 4, 8 .the table"):
        check_choices([[2, 3], [3]], NAMES, available, "the table")
    with pytest.raises(ReLeQError, match="has 2, which the table does not support"):
        check_choices([2], NAMES, available, "the table")


def test_environments_take_all_forms() -> None:
    expected = ((2, 4), (1, 2, 3, 4, 5, 6, 7, 8), (8,), (1, 2, 3, 4, 5, 6, 7, 8))
    by_name = {"conv1": [2, 4], "fc1": [8]}
    assert Problem.from_task("digits", bitwidths=by_name, cache=None).choices == expected
    assert digits_problem(bitwidths=by_name).choices == digits_problem(bitwidths=expected).choices == expected
    wrpn = Problem.from_task("digits", bitwidths=by_name, quantizer="wrpn", cache=None)
    assert wrpn.choices == ((2, 4), (2, 3, 4, 5, 6, 7, 8), (8,), (2, 3, 4, 5, 6, 7, 8))
