"""What an assignment costs: closed forms, matrices, and costs of one's own."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env import WithinMask
from releq_env.cost import COSTS, CostTerms, cost_matrix
from releq_env.cost.energy import MEMORY_TO_MAC_ENERGY
from releq_env.decision import ACTION_MODES
from releq_env.env import ReLeQEnv
from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo
from releq_env.problem import Problem
from tests.fakes import bits_of, digits_problem, smooth_accuracy

LAYERS = (
    LayerInfo("conv", n=4, c=1, k=3, weights=100, macs=6000, std=0.1, scales=4),
    LayerInfo("fc", n=10, c=30, k=0, weights=300, macs=300, std=0.2, scales=10),
    LayerInfo("out", n=10, c=61, k=0, weights=610, macs=610, std=0.3, scales=10),
)
ASSIGNMENTS = st.tuples(*[st.integers(1, 8)] * 3)
LINEAR = (
    "mean_bits",
    "weighted_bits",
    "bitops",
    "energy",
    "bit_serial",
)  # in the bits of every layer, with nothing besides


def problem(cost: str = "mean_bits", choices: Any = range(1, 9), layers: Any = LAYERS, **decision: Any) -> Problem:
    return Problem.from_function(len(layers), choices, smooth_accuracy, layers=layers, cost=cost, **decision)


@pytest.mark.parametrize(
    ("name", "cost", "dearest"),
    [
        ("mean_bits", 2 + 4 + 8, 3 * 8),
        ("weighted_bits", 2 * 100 + 4 * 300 + 8 * 610, 8 * 1010),
        ("bitops", 2 * 6000 + 4 * 300 + 8 * 610, 8 * 6910),
        (
            "energy",
            2 * (100 * 120 + 6000) + 4 * (300 * 120 + 300) + 8 * (610 * 120 + 610),
            8 * (1010 * 120 + 6910),
        ),
        # Windows are 60, 1 and 1: 4, 1 and 1 of 16; weights of a filter 25, 30 and 61: 2, 2 and 4 of 16.
        ("bit_serial", 2 * 4 * 2 + 4 * 1 * 2 + 8 * 1 * 4, 8 * (4 * 2 + 2 + 4)),
        ("size", 25 + 150 + 610 + 4 * 24, 100 + 300 + 610 + 4 * 24),
    ],
)
def test_closed_form(name: str, cost: float, dearest: float) -> None:
    assert problem(name).state_of_quantization((2, 4, 8)) == pytest.approx(cost / dearest, rel=1e-12)
    matrix = problem(name).costs
    assert matrix[0, 1] + matrix[1, 3] + matrix[2, 7] == cost
    assert matrix[:, -1].sum() == dearest


def test_every_cost_has_a_closed_form_above() -> None:
    ours = {name for name, model in COSTS.items() if model.__module__.startswith("releq_env.")}
    assert ours == {*LINEAR, "size"}
    assert MEMORY_TO_MAC_ENERGY == 120


@pytest.mark.parametrize("name", COSTS)
@given(bits=ASSIGNMENTS)
def test_in_zero_one(name: str, bits: tuple[int, ...]) -> None:
    q = problem(name).state_of_quantization(bits)
    assert isinstance(q, float)
    assert 0.0 < q <= 1.0


@pytest.mark.parametrize("name", COSTS)
@given(bits=ASSIGNMENTS, layer=st.integers(0, 2))
def test_one_more_bit_costs_more(name: str, bits: tuple[int, ...], layer: int) -> None:
    more = [b + (index == layer) for index, b in enumerate(bits)]
    cost = problem(name, range(1, 10)).state_of_quantization
    assert cost(more) > cost(bits)


@pytest.mark.parametrize("name", LINEAR)
@given(bits=st.integers(1, 8))
def test_uniform_bits_cost_their_share_of_the_largest(name: str, bits: int) -> None:
    assert problem(name).state_of_quantization([bits] * 3) == pytest.approx(bits / 8, rel=1e-12)


def test_costs_rank_assignments_differently() -> None:
    # A layer of few weights and many multiply-accumulates is cheap by one measure and dear by another.
    first, last = (8, 1, 1), (1, 1, 8)
    by_weights, by_macs = (problem(name).state_of_quantization for name in ("weighted_bits", "bitops"))
    assert by_weights(first) < by_weights(last)
    assert by_macs(first) > by_macs(last)


def test_mean_bits_of_layers_and_of_weights() -> None:
    terms = problem().terms((2, 4, 8))
    assert terms["average_bits"] == pytest.approx(14 / 3)
    assert terms["weighted_bits"] == pytest.approx((200 + 1200 + 4880) / 1010)


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("repeats", [1, 2, 7, 40])
def test_all_terms_are_the_same_alone_and_in_batches(name: str, repeats: int) -> None:
    # Bit for bit: trajectories of single and vector environments must agree.
    layers = tuple(dataclasses.replace(layer, name=f"{layer.name}.{n}") for n in range(repeats) for layer in LAYERS)
    made = problem(name, layers=layers)
    batch = np.random.default_rng(0).integers(0, 8, (50, len(layers)))
    terms = made.cost_terms
    assert CostTerms.names == ("state_of_quantization", "average_bits", "weighted_bits", "energy", "bitops")
    alone = [terms(choices).tolist() for choices in batch]
    assert terms(batch).tolist() == alone
    assert [list(made.terms(choices + 1).values()) for choices in batch] == alone
    assert terms(batch.reshape(5, 10, -1)).shape == (5, 10, 5)
    expected = [problem(each, layers=layers).state_of_quantization(batch[0] + 1) for each in (name, "energy", "bitops")]
    assert [alone[0][0], *alone[0][3:]] == expected


def test_unknown_cost_is_named() -> None:
    with pytest.raises(ReLeQError, match="unknown cost 'watts'.*mean_bits.*energy.*size"):
        problem("watts")


# Size


@pytest.mark.parametrize("bits", [(1, 1, 1, 1), (2, 3, 1, 5), (8, 8, 8, 8)])
def test_size_is_that_of_packed_codes_and_of_the_scales_that_the_quantizer_stores(bits: tuple[int, ...]) -> None:
    weights, channels = (144, 4_608, 32_768, 640), (16, 32, 64, 10)
    codes = sum(-(-weight * b // 8) for weight, b in zip(weights, bits, strict=True))
    lsq = Problem.from_task("digits", quantizer="lsq", cost="size", cache=None)
    assert lsq.size_in_bytes(bits) == codes + 4 * sum(channels)
    assert lsq.state_of_quantization(bits) == pytest.approx((codes + 4 * 122) / (sum(weights) + 4 * 122))
    if min(bits) > 1:
        wrpn = Problem.from_task("digits", quantizer="wrpn", cost="size", cache=None)
        assert wrpn.size_in_bytes(bits) == codes + 4 * 4
        assert wrpn.state_of_quantization(bits) == pytest.approx((codes + 4 * 4) / (sum(weights) + 4 * 4))


def test_size_of_a_problem_with_another_cost() -> None:
    made = digits_problem(cost="energy")
    assert made.size_in_bytes((1, 1, 1, 1)) == 18 + 576 + 4096 + 80 + 4 * 122
    assert type(made.size_in_bytes((1, 1, 1, 1))) is int


# Choices that differ by layer


def test_a_matrix_of_choices_that_differ_by_layer() -> None:
    choices = ((2, 4, 8), (3,), (1, 8))
    matrix = cost_matrix("mean_bits", COSTS["mean_bits"], LAYERS, choices)
    assert matrix.tolist() == [[2, 4, 8], [3, 3, 3], [1, 8, 8]]
    with pytest.raises(ValueError):
        matrix[0, 0] = 0
    made = problem("mean_bits", choices)
    assert made.state_of_quantization((2, 3, 8)) == pytest.approx(13 / 19)  # of every layer's dearest choice
    assert made.terms((2, 3, 8))["average_bits"] == pytest.approx(13 / 3)


# Costs of one's own


def fewer_is_dearer(layer: LayerInfo, bits: int) -> float:
    """Unpacking few bits may take longer than it saves: here 4 bits are the cheapest, 1 bit the dearest."""
    return layer.weights * {1: 9.0, 2: 5.0, 4: 1.0, 8: 3.0}[bits]


@pytest.fixture
def upside_down(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(COSTS, "upside-down", fewer_is_dearer)
    return "upside-down"


def test_where_fewer_bits_are_dearer_q_is_still_in_zero_one(upside_down: str) -> None:
    made = problem(upside_down, [1, 2, 4, 8])
    assert made.state_of_quantization((1, 1, 1)) == 1.0
    assert made.state_of_quantization((4, 4, 4)) == made.cheapest == pytest.approx(1 / 9)
    assert made.state_of_quantization((8, 2, 1)) == pytest.approx((300 + 1500 + 5490) / 9090)


@pytest.mark.parametrize("mode", ACTION_MODES)
def test_where_fewer_bits_are_dearer_episodes_start_and_end_as_ever(upside_down: str, mode: str) -> None:
    env = ReLeQEnv(problem(upside_down, [1, 2, 4, 8]), action_mode=mode)
    observation, info = env.reset()
    assert bits_of(info) == ((8, 8, 8) if mode == "flexible" else (2, 2, 2))
    assert env.observation_space.contains(observation)
    assert info["state_of_quantization"] == pytest.approx((3 if mode == "flexible" else 5) / 9)
    for _ in range(env.episode_steps):
        *_, terminated, _, info = env.step(0)
    assert terminated
    assert bits_of(info) == (1, 1, 1)
    assert info["state_of_quantization"] == 1.0


@pytest.mark.parametrize("mode", ACTION_MODES)
def test_where_fewer_bits_are_dearer_masks_keep_max_cost(upside_down: str, mode: str) -> None:
    made = problem(upside_down, [1, 2, 4, 8], max_cost=0.3)
    env: Any = WithinMask(ReLeQEnv(made, action_mode=mode))
    for seed in range(20):
        random = np.random.default_rng(seed)
        env.reset()
        done = False
        while not done:
            *_, done, _, info = env.step(int(random.integers(env.action_space.n)))
        assert made.keeps_max_cost(bits_of(info))
        assert info["state_of_quantization"] <= 0.3 + 1e-9
    env.reset()
    for _ in range(env.unwrapped.episode_steps):
        assert env.action_masks().any()
        *_, info = env.step(0)  # towards the fewest bits, which are the dearest
    assert made.keeps_max_cost(bits_of(info))


def test_where_fewer_bits_are_dearer_a_bound_is_checked_against_the_cheapest(upside_down: str) -> None:
    with pytest.raises(ReLeQError, match=r"max_cost=0.1 cannot be met: .* costs 0.1111; give a number in \[0.1112, 1"):
        problem(upside_down, [1, 2, 4, 8], max_cost=0.1)
    for bound in (0.1112, 1 / 9):
        assert problem(upside_down, [1, 2, 4, 8], max_cost=bound).max_cost == bound


@pytest.mark.parametrize("cost", [-1.0, math.nan, math.inf, None, "cheap", [1.0], 1j], ids=repr)
def test_a_cost_that_is_no_number_from_zero_gets_one_line(monkeypatch: pytest.MonkeyPatch, cost: Any) -> None:
    monkeypatch.setitem(COSTS, "mine", lambda layer, bits: cost if layer.name == "fc" and bits == 4 else bits)
    with pytest.raises(ReLeQError, match="cost='mine' is .* for fc at 4 bits; it has to be a number from 0") as raised:
        problem("mine")
    assert "\n" not in str(raised.value)


def test_an_assignment_has_to_cost_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COSTS, "free", lambda layer, bits: bits - 1)
    with pytest.raises(ReLeQError, match="cost='free' lets an assignment cost nothing"):
        problem("free")
    monkeypatch.setitem(COSTS, "free", lambda layer, bits: bits - (layer.name != "fc"))
    made = problem("free")  # one layer is enough
    assert made.cheapest == pytest.approx(1 / (7 + 8 + 7))
