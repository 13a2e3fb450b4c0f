"""Keys as 64-bit hashes, many in one step: what the indexes of keys are built on.

Decides the hash function, which no client can know. Called by the key table and the admission.
"""

import hashlib
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
"""One for each key, in order. Keys of one event have equal hashes; the other way round it is not certain."""

_HALVES: Final = np.dtype("<u8")  # the same function on every machine
_IDENTITY: Final = np.array((0xFFFF_FFFF_0000_0000, 0xFFFF_FFFF_FFFF_FFFF), np.uint64)
"""What of a key's halves is its identity: all but the token, its first 4 bytes."""
_FOLD: Final = np.uint64(32)
_REPEATED: Final = b"\x01"
_SORTED_FROM: Final = 128
"""Fewer are sooner counted in a set."""


class KeyHash:
    """A function from the identities in packed keys to hashes; `seed`, of 128 bits, chooses it.

    Each half is multiplied, folded and multiplied again by odd numbers that no client knows, then both are
    added. Without the fold, keys that differ in the highest bits of both halves would collide whatever
    the seed: of a product only what is below a bit decides it.
    """

    def __init__(self, seed: int) -> None:
        drawn = hashlib.blake2b(seed.to_bytes(16, "big"), digest_size=32).digest()
        factors = np.array(struct.unpack("<QQQQ", drawn), np.uint64) | np.uint64(1)
        self._first, self._second = factors[:2], factors[2:]

    def __call__(self, packed: bytes | memoryview) -> Hashes:
        """The hashes of packed keys, 16 bytes each."""
        halves = np.frombuffer(packed, _HALVES).reshape(-1, 2) & _IDENTITY
        halves *= self._first
        halves ^= halves >> _FOLD
        halves *= self._second
        hashes: Hashes = halves[:, 0] + halves[:, 1]
        hashes ^= hashes >> _FOLD  # so that the low bits, too, depend on all of the key
        return hashes


def has_repeats(hashes: Hashes) -> bool:
    """Whether two of them are equal."""
    if len(hashes) < _SORTED_FROM:
        return len(set(hashes.tolist())) < len(hashes)
    in_order = np.sort(hashes)
    return _REPEATED in (in_order[1:] == in_order[:-1]).tobytes()
