import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env.cost import COSTS, MEMORY_TO_MAC_ENERGY, Cost, CostTerms, average_bits, weighted_bits
from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo

LAYERS = (
    LayerInfo("conv", n=4, c=1, k=3, weights=100, macs=6000, std=0.1),
    LayerInfo("fc", n=10, c=30, k=0, weights=300, macs=300, std=0.2),
    LayerInfo("out", n=10, c=60, k=0, weights=600, macs=600, std=0.3),
)
ASSIGNMENTS = st.tuples(*[st.integers(1, 8)] * 3)


@pytest.mark.parametrize(
    ("name", "weighted_sum", "total"),
    [
        ("mean_bits", 2 + 4 + 8, 3),
        ("weighted_bits", 2 * 100 + 4 * 300 + 8 * 600, 1000),
        ("bitops", 2 * 6000 + 4 * 300 + 8 * 600, 6900),
        (
            "energy",
            2 * (100 * 120 + 6000) + 4 * (300 * 120 + 300) + 8 * (600 * 120 + 600),
            1000 * 120 + 6900,
        ),
    ],
)
def test_closed_form(name: str, weighted_sum: float, total: float) -> None:
    assert Cost(name, LAYERS, largest=8)((2, 4, 8)) == pytest.approx(weighted_sum / (total * 8), rel=1e-12)


def test_every_cost_has_a_closed_form_above() -> None:
    assert set(COSTS) == {"mean_bits", "weighted_bits", "energy", "bitops"}
    assert MEMORY_TO_MAC_ENERGY == 120


@pytest.mark.parametrize("name", COSTS)
@given(bits=ASSIGNMENTS)
def test_in_zero_one(name: str, bits: tuple[int, ...]) -> None:
    q = Cost(name, LAYERS, largest=8)(bits)
    assert isinstance(q, float)
    assert 0.0 < q <= 1.0 + 1e-12


@pytest.mark.parametrize("name", COSTS)
@given(bits=ASSIGNMENTS, layer=st.integers(0, 2))
def test_one_more_bit_costs_more(name: str, bits: tuple[int, ...], layer: int) -> None:
    more = [b + (index == layer) for index, b in enumerate(bits)]
    cost = Cost(name, LAYERS, largest=9)
    assert cost(more) > cost(bits)


@pytest.mark.parametrize("name", COSTS)
@given(bits=st.integers(1, 8))
def test_uniform_bits_cost_their_share_of_the_largest(name: str, bits: int) -> None:
    assert Cost(name, LAYERS, largest=8)([bits] * 3) == pytest.approx(bits / 8, rel=1e-12)


def test_costs_rank_assignments_differently() -> None:
    # A layer of few weights and many multiply-accumulates is cheap by one measure and dear by another.
    first, last = (8, 1, 1), (1, 1, 8)
    assert Cost("weighted_bits", LAYERS, 8)(first) < Cost("weighted_bits", LAYERS, 8)(last)
    assert Cost("bitops", LAYERS, 8)(first) > Cost("bitops", LAYERS, 8)(last)


def test_mean_bits_of_layers_and_of_weights() -> None:
    assert average_bits((2, 4, 8)) == pytest.approx(14 / 3)
    assert weighted_bits((2, 4, 8), LAYERS) == pytest.approx(6.2)


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("repeats", [1, 2, 7, 40])
def test_all_terms_in_one_pass_are_those_one_by_one(name: str, repeats: int) -> None:
    # Bit for bit, alone and in batches: trajectories of single and vector environments must agree.
    layers = LAYERS * repeats
    cost = Cost(name, layers, 8)
    batch = np.random.default_rng(0).integers(1, 9, (50, len(layers)))
    expected = [
        [
            cost(bits),
            average_bits(bits),
            weighted_bits(bits, layers),
            Cost("energy", layers, 8)(bits),
            Cost("bitops", layers, 8)(bits),
        ]
        for bits in batch.tolist()
    ]
    terms = CostTerms(cost, layers)
    assert CostTerms.names == ("state_of_quantization", "average_bits", "weighted_bits", "energy", "bitops")
    assert terms(batch).tolist() == expected
    assert [terms(bits).tolist() for bits in batch.tolist()] == expected
    assert terms(batch.reshape(5, 10, -1)).shape == (5, 10, 5)


def test_unknown_cost_is_named() -> None:
    with pytest.raises(ReLeQError, match="unknown cost 'watts'.*mean_bits.*energy"):
        Cost("watts", LAYERS, 8)
