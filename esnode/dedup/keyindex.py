"""Where a key may be found: a packed table from a key's hash to the offsets that it may have.

A bucket is one cache line: 31 fingerprints (16 bits) and the place of the next one, with 32 positions
(32 bits) beside it, filled as a ring. What expires first was written first, so nothing is ever deleted,
only written over. Says "maybe here"; the caller compares the whole key. What finds its bucket full of live
keys waits in a dict, so no choice of keys makes it fail. Decides nothing about what is known. Called by
the key table and the memory of recent keys.
"""

import contextlib
import mmap
import sys
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from esnode.dedup.keyhash import Hashes

WAYS: Final = 31
"""Fingerprints in a bucket."""
_SLOTS: Final = WAYS + 1
"""Of 16 bits in a bucket: one cache line. The last one is the cursor, and its position stays 0."""
_LOAD_PERCENT: Final = 50
"""How full the table is at its capacity. Then one key in 5,500 finds its bucket full (Erlang's B formula)."""
_MAX_POSITION: Final = 2**32 - 1
_EXPIRE_A_TIME: Final = 256
"""Loose keys looked at in one insertion, so that many of them at once make no pause."""
_HIGH: Final = 1 if sys.byteorder == "little" else 0

_Places = tuple[NDArray[np.int64], NDArray[np.uint16]]
"""For each key its bucket, and its fingerprint."""


class KeyIndex:
    """An index for about `capacity` live keys of the offsets from `base_offset` on.

    Its memory is mapped, not allocated, so that it can be fetched from the kernel and given back bit by
    bit: megabytes at once would stop the node for milliseconds.
    """

    def __init__(self, capacity: int, base_offset: int) -> None:
        self.capacity = capacity
        self.base_offset = base_offset
        buckets = capacity * 100 // (WAYS * _LOAD_PERCENT) + 1
        slots = buckets * _SLOTS
        self._buckets = np.int64(buckets)
        self._memory = _mapped(slots * 6)
        self._fingerprints = np.frombuffer(self._memory, np.uint16, slots)
        self._rows = self._fingerprints.reshape(buckets, _SLOTS)
        self._positions = np.frombuffer(self._memory, np.uint32, slots, slots * 2)
        self._touched = 0
        self._released = 0
        self._loose: dict[int, list[int]] = {}
        """By hash, the offsets of the keys that found no place."""
        self._loose_order: deque[tuple[int, int]] = deque()

    @property
    def size_bytes(self) -> int:
        """The table, without the loose keys."""
        return len(self._memory)

    @property
    def loose(self) -> int:
        """Keys that found no place in the table."""
        return len(self._loose_order)

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

    def insert(self, hashes: Hashes, first_offset: int, floor: int) -> None:
        """Index keys, the first at `first_offset`. What is before `floor` may be overwritten."""
        buckets, fingerprints = self._places(hashes)
        first = first_offset - self.base_offset + 1
        assert 0 < first <= _MAX_POSITION - len(hashes), "the index has outlived its positions"
        positions = np.arange(first, first + len(hashes), dtype=np.uint32)
        dead_below = max(floor - self.base_offset + 1, 1)  # 0 is a slot that was never used
        self._expire_loose(floor)
        lines = buckets * _SLOTS
        while len(lines):
            cursors = self._fingerprints[lines + WAYS]
            slots = lines + cursors
            free = self._positions[slots] < dead_below
            if not free.all():
                self._set_loose(hashes, (positions[~free] - first).tolist(), first_offset)
                lines, fingerprints, positions = lines[free], fingerprints[free], positions[free]
                slots, cursors = slots[free], cursors[free]
            # Of several keys for one slot the last one has it, here as there; the others go round again.
            self._positions[slots] = positions
            self._fingerprints[slots] = fingerprints
            self._fingerprints[lines + WAYS] = (cursors + 1) % WAYS
            left = (self._positions[slots] != positions).nonzero()[0]
            lines, fingerprints, positions = lines[left], fingerprints[left], positions[left]

    def find(self, hashes: Hashes) -> list[tuple[int, int]]:
        """Places in `hashes` with offsets that these keys may have; a place may come several times.

        Empty nearly always when all keys are fresh: one in 2,200 meets a stranger's fingerprint in its
        bucket, that of an expired key included.
        """
        found: list[tuple[int, int]] = []
        loose = self._loose
        if loose and not loose.keys().isdisjoint(each := hashes.tolist()):
            found += [(place, offset) for place, one in enumerate(each) for offset in loose.get(one, ())]
        buckets, fingerprints = self._places(hashes)
        same = self._rows.take(buckets, axis=0) == fingerprints[:, None]
        # Eight slots at a time.
        hits = same.view(np.uint64).ravel().nonzero()[0]
        if len(hits):
            places = hits // (_SLOTS // 8)
            eights, columns = same.reshape(-1, 8)[hits].nonzero()
            columns += hits[eights] % (_SLOTS // 8) * 8
            places = places[eights]
            positions = self._positions[buckets[places] * _SLOTS + columns]
            before = self.base_offset - 1
            for place, position in zip(places.tolist(), positions.tolist(), strict=True):
                if position:
                    found.append((place, before + position))
        return found

    def _places(self, hashes: Hashes) -> _Places:
        # One 32-bit half, scaled to the number of buckets.
        buckets = hashes.view(np.uint32)[_HIGH::2] * self._buckets
        buckets >>= 32
        return buckets, hashes.astype(np.uint16)

    def _set_loose(self, hashes: Hashes, places: list[int], first_offset: int) -> None:
        for place in places:
            one, offset = int(hashes[place]), first_offset + place
            self._loose.setdefault(one, []).append(offset)
            self._loose_order.append((offset, one))

    def _expire_loose(self, floor: int) -> None:
        order = self._loose_order
        for _ in range(min(len(order), _EXPIRE_A_TIME)):
            if order[0][0] >= floor:
                return
            offset, one = order.popleft()
            self._loose[one].remove(offset)
            if not self._loose[one]:
                del self._loose[one]


def _mapped(size_bytes: int) -> mmap.mmap:
    """Zeros; in large pages where the kernel has them, since every key is in another one."""
    memory = mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
