"""Numbers of 1 to 8 bits, one after the other in bytes.

The first number begins at the lowest bit of the first byte, each begins with its lowest bit where the
one before ends, and what is left of the last byte is zero: `numpy.unpackbits(..., bitorder="little")`
gives the bits in order. Eight numbers of `b` bits fill `b` bytes, so eight are moved at a time.
"""

import numpy as np
from numpy.typing import NDArray

_WORD = np.dtype("<u8")


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes so many numbers take."""
    return -(-count * bits // 8)


def pack(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Return the bytes of numbers in `[0, 2**bits)`, shape `(count,)`."""
    groups = np.zeros((-(-len(numbers) // 8), 8), np.uint8)
    groups.reshape(-1)[: len(numbers)] = numbers
    words = np.zeros((len(groups), 1), _WORD)
    for place in range(8):
        words[:, 0] |= groups[:, place].astype(_WORD) << _WORD.type(place * bits)
    return words.view(np.uint8)[:, :bits].reshape(-1)[: packed_bytes(len(numbers), bits)]


def unpack(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """Return numbers, shape `(count,)`, from their bytes.

    Raises:
        ValueError: If there are not as many bytes as they take, or there is something behind the last number.
    """
    if len(packed) != packed_bytes(count, bits):
        raise ValueError(f"{count} numbers of {bits} bits are not {len(packed)} bytes")
    words = np.zeros((-(-count // 8), 1), _WORD)
    filled = np.zeros(len(words) * bits, np.uint8)
    filled[: len(packed)] = packed
    words.view(np.uint8)[:, :bits] = filled.reshape(-1, bits)
    groups = np.empty((len(words), 8), np.uint8)
    for place in range(8):
        groups[:, place] = words[:, 0] >> _WORD.type(place * bits) & _WORD.type(2**bits - 1)
    numbers = groups.reshape(-1)
    if numbers[count:].any():
        raise ValueError(f"there is something behind {count} numbers of {bits} bits")
    return numbers[:count]
