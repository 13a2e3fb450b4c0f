"""Where the entries are in the files of the segment engine: a sparse index, and the parts that are dead.

A place is `segment << 40 | byte`, so places sort as they were written. One is kept for the first frame with
rows of each file, and then at most one for each `EVERY_BYTES`: whoever looks for an entry begins at the
last place before it, and walks on. Where entries were replaced, what they took stays in the file as a dead
range, which a walk leaps over. Pure. Called by `segments`.
"""

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from typing import Final

EVERY_BYTES: Final = 16 * 1024
SEGMENT_SHIFT: Final = 40
_PAIR: Final = struct.Struct(">QQ")


def place(segment: int, at: int) -> int:
    """The place of byte `at` in the file `segment`."""
    return segment << SEGMENT_SHIFT | at


def segment_of(where: int) -> int:
    """The number of the file that a place is in."""
    return where >> SEGMENT_SHIFT


def byte_of(where: int) -> int:
    """The byte in that file."""
    return where & (1 << SEGMENT_SHIFT) - 1


class FrameIndex:
    """The places of the frames, by the index and the base offset of their first rows."""

    def __init__(self) -> None:
        self.dead: list[tuple[int, int]] = []
        """From a row to the frame after the last dead one, in order, none within another."""
        self._indexes = array("Q")
        self._offsets = array("Q")
        self._wheres = array("Q")

    def add(self, index: int, base_offset: int, where: int) -> None:
        """A frame whose first row is this one begins at `where`."""
        if self._wheres:
            last = self._wheres[-1]
            if where - last < EVERY_BYTES and segment_of(last) == segment_of(where):
                return
        self._indexes.append(index)
        self._offsets.append(base_offset)
        self._wheres.append(where)

    def before_index(self, index: int) -> int | None:
        """Where to begin to look for `index`; None: it is nowhere."""
        at = bisect_right(self._indexes, index) - 1
        return self._wheres[at] if at >= 0 else None

    def before_offset(self, offset: int, first_index: int) -> int | None:
        """Where to begin to look for the last entry from `first_index` on that begins at `offset` or before.

        Entries before `first_index` may have any offsets: a snapshot may have replaced them by others.
        """
        first = bisect_right(self._indexes, first_index) - 1
        at = bisect_right(self._offsets, offset, lo=first + 1) - 1
        return self._wheres[max(at, 0)] if self._wheres else None

    def first_index_after(self, segment: int) -> int | None:
        """The first index of the files after this one, as far as is known here."""
        at = bisect_left(self._wheres, place(segment + 1, 0))
        return self._indexes[at] if at < len(self._indexes) else None

    def kill(self, begin: int, end: int) -> None:
        """All entries from `begin` on are dead; what lives goes on at `end`."""
        self._forget(begin, end)
        while self.dead and self.dead[-1][0] >= begin:
            self.dead.pop()
        self.dead.append((begin, end))

    def forget_before(self, segment: int) -> None:
        """The files before this one are gone."""
        at = bisect_left(self._wheres, place(segment, 0))
        for each in (self._indexes, self._offsets, self._wheres):
            del each[:at]
        self.dead = [(begin, end) for begin, end in self.dead if segment_of(end) >= segment]

    # --- on disk ---

    def pack(self, segment: int) -> bytes:
        """The places in one file."""
        begin = bisect_left(self._wheres, place(segment, 0))
        return b"".join(_big(each[begin:]) for each in (self._indexes, self._offsets, self._wheres))

    def load(self, packed: bytes) -> None:
        """Add those of a file; those of the files before it are there."""
        size = len(packed) // 3
        for at, each in enumerate((self._indexes, self._offsets, self._wheres)):
            each.extend(_native(packed[at * size : (at + 1) * size]))

    def pack_dead(self) -> bytes:
        """The dead ranges."""
        return b"".join(_PAIR.pack(begin, end) for begin, end in self.dead)

    def load_dead(self, packed: bytes) -> None:
        """The dead ranges are these; forget the places in them."""
        self.dead = [(begin, end) for begin, end in _PAIR.iter_unpack(packed)]
        for begin, end in self.dead:
            self._forget(begin, end)

    def _forget(self, begin: int, end: int) -> None:
        first, last = bisect_left(self._wheres, begin), bisect_left(self._wheres, end)
        for each in (self._indexes, self._offsets, self._wheres):
            del each[first:last]


def _big(numbers: "array[int]") -> bytes:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


def _native(packed: bytes) -> "array[int]":
    numbers = array("Q", packed)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
