"""Keys as 64-bit hashes, many in one step: what the indexes of keys are built on.

Decides the hash function, which no client can know. Called by the key table and the admission.
"""

import hashlib
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
"""One for each key, in order. Equal keys have equal hashes; the other way round it is not certain."""

_HALVES: Final = np.dtype("<u8")  # the same function on every machine
_REPEATED: Final = b"\x01"
_SORTED_FROM: Final = 128
"""Fewer are sooner counted in a set."""


class KeyHash:
    """A function from packed keys to hashes; `seed`, of 128 bits, chooses it.

    Multilinear, universal over the whole key (Dietzfelbinger, 1996): two odd multipliers, of which a client
    that does not know the seed can choose no keys that collide.
    """

    def __init__(self, seed: int) -> None:
        drawn = hashlib.blake2b(seed.to_bytes(16, "big"), digest_size=16).digest()
        self._first, self._second = (np.uint64(factor | 1) for factor in struct.unpack("<QQ", drawn))

    def __call__(self, packed: bytes | memoryview) -> Hashes:
        """The hashes of packed keys, 16 bytes each."""
        halves = np.frombuffer(packed, _HALVES)
        hashes: Hashes = halves[::2] * self._first  # two products and a sum: a dot takes five times as long
        hashes += halves[1::2] * self._second
        return hashes


def has_repeats(hashes: Hashes) -> bool:
    """Whether two of them are equal."""
    if len(hashes) < _SORTED_FROM:
        return len(set(hashes.tolist())) < len(hashes)
    in_order = np.sort(hashes)
    return _REPEATED in (in_order[1:] == in_order[:-1]).tobytes()
