"""Where a key may be found: a packed table from a key's hash to the offsets that it may have.

A bucket is one cache line of 32 fingerprints (16 bits), with 32 positions (32 bits) beside it, filled
as a ring: what expires first was written first, so nothing is ever deleted, only written over. Says
"maybe here"; the caller compares the whole key. What finds its bucket full of live keys waits in a
dict, so no choice of keys makes it fail. Decides nothing about what is known. Called by the key table.
"""

import hashlib
import mmap
import struct
import sys
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from esnode.limits import KEY_BYTES

WAYS: Final = 32
"""Slots in a bucket: with 16-bit fingerprints, one cache line."""
_LOAD_PERCENT: Final = 55
"""How full the table is at its capacity. Then one key in 1,800 finds its bucket full (Erlang's B formula)."""
_MAX_POSITION: Final = 2**32 - 1
_EXPIRE_A_TIME: Final = 256
"""Loose keys looked at in one insertion, so that many of them at once make no pause."""
_HIT: Final = b"\x01"
_HALVES: Final = np.dtype(np.uint64)
_HIGH: Final = 1 if sys.byteorder == "little" else 0

_Hashes = tuple[NDArray[np.int64], NDArray[np.uint16]]
"""For each key its bucket, and its fingerprint."""


class KeyIndex:
    """An index for about `capacity` live keys of the offsets from `base_offset` on.

    `seed`, of 128 bits, chooses the hash function: if no client knows it, none can make keys collide.
    Its memory is mapped, not allocated, so that it can be fetched from the kernel and given back bit by
    bit: megabytes at once would stop the node for milliseconds.
    """

    def __init__(self, capacity: int, base_offset: int, seed: int) -> None:
        self.capacity = capacity
        self.base_offset = base_offset
        buckets = capacity * 100 // (WAYS * _LOAD_PERCENT) + 1
        slots = buckets * WAYS
        self._buckets = np.int64(buckets)
        self._factors = _factors(seed)
        self._memory = mmap.mmap(-1, slots * 6 + buckets, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._fingerprints = np.frombuffer(self._memory, np.uint16, slots)
        self._rows = self._fingerprints.reshape(buckets, WAYS)
        self._positions = np.frombuffer(self._memory, np.uint32, slots, slots * 2)
        self._cursors = np.frombuffer(self._memory, np.uint8, buckets, slots * 6)
        self._touched = 0
        self._released = 0
        self._loose: dict[bytes, int] = {}
        self._loose_order: deque[tuple[int, bytes]] = deque()

    @property
    def size_bytes(self) -> int:
        """The table, without the loose keys."""
        return len(self._memory)

    @property
    def loose(self) -> int:
        """Keys that found no place in the table."""
        return len(self._loose)

    def touch(self, max_bytes: int) -> bool:
        """Have the kernel fetch the next `max_bytes` of memory; True when all of it is there."""
        start, end = self._touched, self._touched + max_bytes
        np.frombuffer(self._memory, np.uint8)[start : end : mmap.PAGESIZE] = 0
        self._touched = end
        return end >= len(self._memory)

    def release(self, max_bytes: int) -> bool:
        """Give `max_bytes` back; True when nothing is left. The index is of no use after the first step."""
        start, end = self._released, min(self._released + max_bytes, len(self._memory))
        self._memory.madvise(mmap.MADV_DONTNEED, start, end - start)
        self._released = end
        return end == len(self._memory)

    def insert(self, packed: bytes | memoryview, first_offset: int, floor: int) -> None:
        """Index packed keys, the first at `first_offset`. What is before `floor` may be overwritten."""
        buckets, fingerprints = self._hashes(packed)
        first = first_offset - self.base_offset + 1
        assert 0 < first <= _MAX_POSITION - len(buckets), "the index has outlived its positions"
        positions = np.arange(first, first + len(buckets), dtype=np.uint32)
        dead_below = max(floor - self.base_offset + 1, 1)  # 0 is a slot that was never used
        self._expire_loose(floor)
        while len(buckets):
            cursors = self._cursors[buckets]
            slots = buckets * WAYS + cursors
            free = self._positions[slots] < dead_below
            if not free.all():
                self._set_loose(packed, (positions[~free] - first).tolist(), first_offset)
                buckets, fingerprints, positions = buckets[free], fingerprints[free], positions[free]
                slots, cursors = slots[free], cursors[free]
            # Of several keys for one slot the last one has it, here as there; the others go round again.
            self._positions[slots] = positions
            self._fingerprints[slots] = fingerprints
            self._cursors[buckets] = (cursors + 1) % WAYS
            left = (self._positions[slots] != positions).nonzero()[0]
            buckets, fingerprints, positions = buckets[left], fingerprints[left], positions[left]

    def find(self, keys: Sequence[bytes], packed: bytes) -> list[tuple[bytes, int]]:
        """Keys with offsets that they may have; a key may come several times. `packed` is `keys` joined.

        Empty nearly always when all keys are fresh: one in 2,000 meets a stranger's
        fingerprint in its bucket.
        """
        found: list[tuple[bytes, int]] = []
        loose = self._loose
        if loose and not loose.keys().isdisjoint(keys):
            found += [(key, loose[key]) for key in keys if key in loose]
        buckets, fingerprints = self._hashes(packed)
        same = self._rows.take(buckets, axis=0) == fingerprints[:, None]
        # Four times as fast as `same.any()`.
        if _HIT in same.tobytes():
            rows, columns = same.nonzero()
            positions = self._positions[buckets[rows] * WAYS + columns]
            before = self.base_offset - 1
            for row, position in zip(rows.tolist(), positions.tolist(), strict=True):
                if position:
                    found.append((keys[row], before + position))
        return found

    def _hashes(self, packed: bytes | memoryview) -> _Hashes:
        mixed = np.frombuffer(packed, _HALVES).reshape(-1, 2).dot(self._factors)
        # One 32-bit half, scaled to the number of buckets.
        buckets = mixed.view(np.uint32)[_HIGH::2] * self._buckets
        buckets >>= 32
        return buckets, mixed.astype(np.uint16)

    def _set_loose(self, packed: bytes | memoryview, places: Sequence[int], first_offset: int) -> None:
        for place in places:
            key = bytes(packed[place * KEY_BYTES : (place + 1) * KEY_BYTES])
            self._loose[key] = first_offset + place
            self._loose_order.append((first_offset + place, key))

    def _expire_loose(self, floor: int) -> None:
        order = self._loose_order
        for _ in range(min(len(order), _EXPIRE_A_TIME)):
            if order[0][0] >= floor:
                return
            offset, key = order.popleft()
            if self._loose.get(key) == offset:
                del self._loose[key]


def _factors(seed: int) -> NDArray[np.uint64]:
    """Two odd multipliers: multilinear hashing, universal over the whole key (Dietzfelbinger, 1996)."""
    drawn = hashlib.blake2b(seed.to_bytes(16, "big"), digest_size=16).digest()
    return np.array(struct.unpack("<QQ", drawn), np.uint64) | np.uint64(1)
