"""Bytes read as choices and numbers: so that any bytes are a case, whichever engine made them.

Past the end everything is 0. Never fails. Used by the targets whose cases are more than one message.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

EDGES: Final = (
    0,
    1,
    2,
    2**16,
    2**31,
    2**32 - 1,
    2**48,
    2**48 + 1,
    2**56,
    2**56 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
"""Numbers at which something ends."""


class Source:
    """One case, taken from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """The next byte."""
        at = self._at
        if at >= len(self._data):
            return 0
        self._at = at + 1
        return self._data[at]

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`; the first when there is nothing left."""
        return choices[self.byte() % len(choices)]

    def number(self, near: Sequence[int]) -> int:
        """Mostly one of `near` or beside it, sometimes an edge, sometimes anything; 64 bits."""
        how = self.byte()
        if how < 160:
            return min(max(0, near[how % len(near)]), 2**64 - 1)
        if how < 208:
            return min(max(0, near[how % len(near)] + (-1, 1, 2)[how % 3]), 2**64 - 1)
        if how < 240:
            return EDGES[how % len(EDGES)]
        return int.from_bytes(self.take(8), "big")

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or as many as are left."""
        at = self._at
        self._at = at + size
        return self._data[at : at + size]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
