"""The accelerator's cycles, against a count of what its units do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env.cost.bit_serial import FILTERS, INPUTS, WINDOWS, bit_serial
from releq_env.layer_info import LayerInfo


def layer(filters: int, each: int, windows: int) -> LayerInfo:
    weights = filters * each
    return LayerInfo("conv", n=filters, c=each, k=1, weights=weights, macs=weights * windows, std=0.1)


def counted(filters: int, each: int, windows: int, bits: int) -> int:
    """Go through the work as the units do: every cycle one bit of as many products as there are units."""
    return sum(
        1
        for _ in range(0, filters, FILTERS)
        for _ in range(0, windows, WINDOWS)
        for _ in range(0, each, INPUTS)
        for _ in range(bits)
    )


@given(st.integers(1, 600), st.integers(1, 100), st.integers(1, 100), st.integers(1, 8))
def test_cycles_are_those_that_the_units_need(filters: int, each: int, windows: int, bits: int) -> None:
    assert bit_serial(layer(filters, each, windows), bits) == counted(filters, each, windows, bits)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_full_units_do_as_many_products_a_cycle_as_there_are_units(bits: int) -> None:
    full = layer(FILTERS, INPUTS * 4, WINDOWS * 9)
    assert bit_serial(full, bits) == full.macs * bits / (FILTERS * WINDOWS * INPUTS)


def test_units_that_idle_make_a_layer_dear() -> None:
    linear, convolution = layer(FILTERS, INPUTS, 1), layer(FILTERS, INPUTS, WINDOWS)
    assert bit_serial(linear, 4) == bit_serial(convolution, 4)  # 1/16 of the work in the same time
