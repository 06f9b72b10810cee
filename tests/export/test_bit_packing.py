import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from releq_env.export.bit_packing import pack, packed_bytes, unpack

BITS = range(1, 9)


def by_unpackbits(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """NumPy's own reading of the bytes."""
    stream = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    return np.packbits(stream, axis=1, bitorder="little").reshape(count)


@pytest.mark.parametrize("bits", BITS)
@given(data=st.data())
def test_round_trip(bits: int, data: st.DataObject) -> None:
    given = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=67))
    numbers = np.array(given, np.uint8)
    packed = pack(numbers, bits)
    assert packed.dtype == np.uint8
    assert len(packed) == packed_bytes(len(given), bits) == -(-len(given) * bits // 8)
    assert unpack(packed, bits, len(given)).tolist() == given
    assert by_unpackbits(packed, bits, len(given)).tolist() == given


@pytest.mark.parametrize("bits", BITS)
@given(data=st.data())
def test_any_bytes_are_read_as_numpy_reads_them(bits: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 67))
    content = data.draw(st.binary(min_size=packed_bytes(count, bits), max_size=packed_bytes(count, bits)))
    packed = np.frombuffer(content, np.uint8)
    if np.unpackbits(packed, bitorder="little")[count * bits :].any():
        with pytest.raises(ValueError, match="behind"):
            unpack(packed, bits, count)
    else:
        assert unpack(packed, bits, count).tolist() == by_unpackbits(packed, bits, count).tolist()


def test_by_hand() -> None:
    # 1, 2, 3, 7 with the lowest bits first: 100 010 110 111
    assert pack(np.array([1, 2, 3, 7], np.uint8), 3).tolist() == [0b11010001, 0b1110]


@pytest.mark.parametrize("bits", BITS)
def test_many_numbers(bits: int) -> None:
    numbers = np.random.default_rng(0).integers(0, 2**bits, 100_003, dtype=np.uint8)
    packed = pack(numbers, bits)
    assert np.array_equal(unpack(packed, bits, len(numbers)), numbers)
    assert np.array_equal(by_unpackbits(packed, bits, len(numbers)), numbers)


@pytest.mark.parametrize("size", [0, 1, 3, 4])
def test_as_many_bytes_as_needed(size: int) -> None:
    with pytest.raises(ValueError, match=f"5 numbers of 3 bits are not {size} bytes"):
        unpack(np.zeros(size, np.uint8), 3, 5)
