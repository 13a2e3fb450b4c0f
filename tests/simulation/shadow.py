"""What a disk must hold, kept beside the disk by a few lines that share nothing with it.

Follows the contract of `esnode/storage/interface.py`: what was handed over, in order, and how much of it
is durable. Used by the invariants.
"""

from collections import deque
from dataclasses import dataclass

from esnode.raft.messages import HardState, Snapshot, Write
from esnode.storage.interface import Recovered


@dataclass(frozen=True, slots=True)
class Kept:
    """What became durable by one write: entries (index, term) that were cut away, and that came."""

    gone: tuple[tuple[int, int], ...]
    come: tuple[tuple[int, int], ...]


class Shadow:
    """The durable log of one node, terms only."""

    def __init__(self) -> None:
        self.hard_state = HardState(0, None)
        self.prefix_index = 0
        self.prefix_term = 0
        self.terms: dict[int, int] = {}
        self.pending: deque[Write] = deque()

    @property
    def last_index(self) -> int:
        """The end of the durable log."""
        return self.prefix_index + len(self.terms)

    def term_at(self, index: int) -> int | None:
        """The term of a durable entry, or of the snapshot's place."""
        return self.prefix_term if index == self.prefix_index else self.terms.get(index)

    def persist_next(self) -> Kept:
        """The oldest pending write is durable."""
        write = self.pending.popleft()
        gone: tuple[tuple[int, int], ...] = ()
        if write.snapshot is not None:
            gone = tuple(place for place in self.terms.items() if place[0] > write.snapshot.index)
            self.terms.clear()
            self._begin_at(write.snapshot)
        if write.hard_state is not None:
            self.hard_state = write.hard_state
        doomed = range(write.entries[0].index, self.last_index + 1) if write.entries else range(0)
        gone += tuple((index, self.terms.pop(index)) for index in doomed)
        come = tuple((entry.index, entry.term) for entry in write.entries)
        self.terms.update(come)
        return Kept(gone, come)

    def cut(self, snapshot: Snapshot) -> None:
        """The prefix has gone, durably."""
        for index in range(self.prefix_index + 1, snapshot.index + 1):
            del self.terms[index]
        self._begin_at(snapshot)

    def matches(self, found: Recovered) -> bool:
        """Whether this is what a starting node has found."""
        return (
            self.hard_state == found.hard_state
            and (self.prefix_index, self.prefix_term) == (found.prefix_index, found.prefix_term)
            and self.last_index == found.last_index
            and all(self.terms[run.first_index] == run.term for run in found.terms)
            and len(found.terms) == len(set(self.terms.values()))
        )

    def _begin_at(self, snapshot: Snapshot) -> None:
        self.prefix_index, self.prefix_term = snapshot.index, snapshot.term
