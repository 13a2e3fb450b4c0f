"""How far a disk is behind what is committed: that of this node, or a follower's as its leader sees it.

An entry is committed when a majority has it on disk, so one whose disk is behind that is slower than
the majority's. Decides when a disk counts as slow, and for how long afterwards. Time comes in. Called by
`core.py` and `leadership.py`.
"""

from dataclasses import dataclass

from esnode import limits


@dataclass(frozen=True, slots=True)
class Yielded:
    """The leader of `term` has begun to hand over to `to`: its own disk was `lag_ms` behind the commit."""

    term: int
    to: int
    lag_ms: int


class DiskLag:
    """How long one disk has been without something that is committed."""

    __slots__ = ("_awaited", "_memory_ms", "lag_ms")

    def __init__(self) -> None:
        self.lag_ms = 0
        """So long it has been without something that was committed by then; 0 once it has that."""
        self._awaited = 0
        self._memory_ms = 0

    def tick(self, elapsed_ms: int, durable: int, committed: int) -> bool:
        """Time passes; `durable` is what the disk has. Returns `was_slow`."""
        self._memory_ms -= elapsed_ms
        if durable < self._awaited:
            self.lag_ms += elapsed_ms
        else:
            self._awaited, self.lag_ms = committed, 0
        if self.is_slow:
            self._memory_ms = limits.SLOW_DISK_MEMORY_MS
        return self.was_slow

    @property
    def is_slow(self) -> bool:
        """Whether others wait for it, if they have to."""
        return self.lag_ms >= limits.SLOW_DISK_MS

    @property
    def was_slow(self) -> bool:
        """Whether it is, or was a short while ago: such a node does not lead while another one can."""
        return self._memory_ms > 0
