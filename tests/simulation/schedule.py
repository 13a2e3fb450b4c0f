"""Simulated time: what is to be done, ordered by when, and by who asked first.

Nothing happens between two entries, so an hour costs what happens in it. Used by tier A.
"""

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final, TypeAlias

MS: Final = 1_000_000
"""Nanoseconds."""
SECOND: Final = 1000 * MS

_Entry: TypeAlias = tuple[int, int, Callable[..., object], tuple[Any, ...]]


class Schedule:
    """A heap of (time in ns, number, call, its arguments)."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._heap: list[_Entry] = []
        self._asked = 0

    def after(self, delay_ns: int, call: Callable[..., object], *arguments: Any) -> None:
        """Call it when `delay_ns` have passed."""
        self._asked += 1
        heappush(self._heap, (self.now_ns + delay_ns, self._asked, call, arguments))

    def run_until(self, end_ns: int, done: Callable[[], bool] | None = None) -> None:
        """Let time pass until `end_ns`, or until `done`."""
        heap = self._heap
        while heap and heap[0][0] <= end_ns:
            self.now_ns, _, call, arguments = heappop(heap)
            call(*arguments)
            if done is not None and done():
                return
        self.now_ns = end_ns


def between(source: random.Random, bounds: tuple[int, int]) -> int:
    """A time from the first to the second: as `randint`, and much cheaper."""
    first, last = bounds
    return first + int(source.random() * (last - first))
