"""A model disk: writes become durable one by one, when told; a crash forgets the others.

It follows the contract of `esnode/storage/interface.py` for the core's side of it. A disk can also be
lost, or be replaced by an older copy of itself. Used by the network of cores.
"""

from collections import deque
from dataclasses import dataclass, field

from esnode.raft.entry import Entry
from esnode.raft.log import Position, RaftLog, TermRun
from esnode.raft.messages import HardState, Snapshot, Write


@dataclass(frozen=True, slots=True)
class Cut:
    """Retention: keep `snapshot` instead of the entries up to its index."""

    snapshot: Snapshot


@dataclass(slots=True)
class Image:
    """What is durable on one disk."""

    hard_state: HardState = field(default_factory=lambda: HardState(0, None))
    commit: int = 0
    snapshot: Snapshot | None = None
    entries: dict[int, Entry] = field(default_factory=dict)


class Disk(Image):
    """One node's durable state, and what waits to become durable."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: deque[Write | Cut] = deque()
        self.rejoining = False
        self.lost: list[Image] = []
        """What was on the disks that this node has lost."""

    @property
    def prefix_index(self) -> int:
        return self.snapshot.index if self.snapshot else 0

    @property
    def prefix_term(self) -> int:
        return self.snapshot.term if self.snapshot else 0

    @property
    def last_index(self) -> int:
        return self.prefix_index + len(self.entries)

    def term_at(self, index: int) -> int | None:
        if index == self.prefix_index:
            return self.prefix_term
        return self.entries[index].term if index in self.entries else None

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is here, or inside the snapshot."""
        return index <= self.prefix_index or self.term_at(index) == term

    def held(self, index: int, term: int) -> bool:
        """Whether the entry is here, or was on a disk that is lost."""
        return self.holds(index, term) or any(
            index <= (image.snapshot.index if image.snapshot else 0)
            or (index in image.entries and image.entries[index].term == term)
            for image in self.lost
        )

    def image(self) -> Image:
        """A copy of what is durable now."""
        return Image(self.hard_state, self.commit, self.snapshot, dict(self.entries))

    def lose(self, copy: Image | None = None) -> None:
        """All is lost, or an older copy takes its place; either way the marker is on it."""
        self.lost.append(self.image())
        found = copy or Image()
        self.hard_state, self.commit, self.snapshot = found.hard_state, found.commit, found.snapshot
        self.entries = dict(found.entries)
        self.pending.clear()
        self.rejoining = True

    def persist_next(self) -> Write | Cut:
        """Make the oldest waiting write durable."""
        item = self.pending.popleft()
        if isinstance(item, Cut):
            self._cut(item.snapshot)
            return item
        if item.snapshot is not None:
            self.snapshot = item.snapshot
            self.entries.clear()
        if item.hard_state is not None:
            assert item.hard_state.term >= self.hard_state.term, "a term fell"
            if item.hard_state.term == self.hard_state.term:
                assert self.hard_state.vote is None, "a vote was changed"
            self.hard_state = item.hard_state
        if item.entries:
            first = item.entries[0].index
            for index in range(first, self.last_index + 1):
                del self.entries[index]
            assert first == self.last_index + 1, "a write leaves a gap on the disk"
            self.entries.update({entry.index: entry for entry in item.entries})
        assert item.commit <= self.last_index, "the commit hint is past what is stored"
        self.commit = max(self.commit, item.commit)
        self.rejoining = self.rejoining and not item.rejoined
        return item

    def _cut(self, snapshot: Snapshot) -> None:
        if snapshot.index <= self.prefix_index:
            return
        assert self.term_at(snapshot.index) == snapshot.term
        for index in range(self.prefix_index + 1, snapshot.index + 1):
            del self.entries[index]
        self.snapshot = snapshot

    def crash(self, keep: int) -> None:
        """Lose what waits, but for the first `keep` writes, which had just made it."""
        for _ in range(min(keep, len(self.pending))):
            self.persist_next()
        self.pending.clear()

    def read(self, first_index: int, last_index: int) -> tuple[Entry, ...]:
        """Consecutive durable entries; nothing when the first is not there."""
        entries = []
        for index in range(first_index, last_index + 1):
            if index not in self.entries:
                break
            entries.append(self.entries[index])
        return tuple(entries)

    def recover(self, cache_bytes: int) -> tuple[RaftLog, tuple[Entry, ...]]:
        """The log as a starting node finds it, and the entries to apply first."""
        applied = max(self.commit, self.prefix_index)
        entries = self.read(self.prefix_index + 1, self.last_index)
        runs: list[TermRun] = []
        for entry in entries:
            if not runs or runs[-1].term != entry.term:
                runs.append(TermRun(entry.index, entry.term))
        replay = entries[: applied - self.prefix_index]
        position = Position()
        if replay:
            position = Position(replay[-1].next_offset, replay[-1].log_time_ms)
        elif self.snapshot is not None:
            position = Position(self.snapshot.next_offset, self.snapshot.log_time_ms)
        log = RaftLog(
            prefix_index=self.prefix_index,
            prefix_term=self.prefix_term,
            terms=runs,
            applied=applied,
            position=position,
            tail=entries[applied - self.prefix_index :],
            cache_bytes=cache_bytes,
        )
        return log, replay
