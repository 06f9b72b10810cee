import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from releq_env.errors import ReLeQError
from releq_env.layer_info import LayerInfo
from releq_env.observation import FEATURES, Observer

LAYERS = (
    LayerInfo("conv1", n=4, c=1, k=5, weights=100, macs=6000, std=0.1),
    LayerInfo("conv2", n=8, c=4, k=3, weights=288, macs=900, std=0.4),
    LayerInfo("fc", n=10, c=32, k=0, weights=320, macs=320, std=0.2),
)


def test_paper_state_by_hand() -> None:
    observation = Observer("paper", LAYERS, largest=8, full_precision_accuracy=0.98)(1, (2, 4, 8), q=0.58, a=0.9)
    expected = [0.5, 0.8, 4 / 32, 0.6, 1.0, 0.5, 0.58, 0.9]
    assert observation.dtype == np.float32
    np.testing.assert_allclose(observation, expected, rtol=1e-6)


def test_history_adds_all_bitwidths() -> None:
    history = Observer("history", LAYERS, 8, 0.98)(1, (2, 4, 8), q=0.58, a=0.9)
    paper = Observer("paper", LAYERS, 8, 0.98)(1, (2, 4, 8), q=0.58, a=0.9)
    np.testing.assert_array_equal(history[: len(FEATURES)], paper)
    np.testing.assert_allclose(history[len(FEATURES) :], [0.25, 0.5, 1.0])


def test_bounds() -> None:
    space = Observer("history", LAYERS, 8, full_precision_accuracy=0.8).space
    assert space.shape == (8 + len(LAYERS),)
    assert (space.low == 0).all()
    np.testing.assert_allclose(np.delete(space.high, FEATURES.index("a")), 1.0)
    assert space.high[FEATURES.index("a")] == pytest.approx(1.25, rel=1e-6)


def test_single_layer() -> None:
    # Index / (layers - 1) has no value there, and a linear layer has no kernel.
    observer = Observer("paper", LAYERS[2:], 8, 0.98)
    observation = observer(0, (8,), 1.0, 1.0)
    assert observer.space.contains(observation)
    assert observation[0] == 0.0
    assert observation[3] == 0.0


def test_arrays_are_fresh() -> None:
    observer = Observer("history", LAYERS, 8, 0.98)
    first = observer(0, (2, 4, 8), 0.5, 1.0)
    first[:] = -1
    assert observer.space.contains(observer(0, (2, 4, 8), 0.5, 1.0))


@pytest.mark.parametrize("kind", ["paper", "history"])
@given(
    layer=st.integers(0, 2),
    bits=st.tuples(*[st.integers(1, 8)] * 3),
    q=st.floats(1e-3, 1.0),
    full=st.floats(0.05, 1.0),
    accuracy=st.floats(0.0, 1.0),
)
def test_always_inside_the_space(
    kind: str, layer: int, bits: tuple[int, ...], q: float, full: float, accuracy: float
) -> None:
    observer = Observer(kind, LAYERS, 8, full)
    assert observer.space.contains(observer(layer, bits, q, accuracy / full))


@pytest.mark.parametrize("kind", ["paper", "history"])
def test_a_batch_is_the_same_bit_for_bit(kind: str) -> None:
    observer = Observer(kind, LAYERS, 7, 0.98)
    random = np.random.default_rng(0)
    layers, bits = random.integers(0, 3, 100), random.integers(1, 8, (100, 3))
    q, a = random.random(100), random.random(100)
    rows = zip(layers.tolist(), bits.tolist(), q.tolist(), a.tolist(), strict=True)
    batch = observer.batch(layers, bits, q, a)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, [observer(*row) for row in rows])


def test_unknown_kind_is_named() -> None:
    with pytest.raises(ReLeQError, match="unknown observation 'pixels'.*paper, history"):
        Observer("pixels", LAYERS, 8, 0.98)
