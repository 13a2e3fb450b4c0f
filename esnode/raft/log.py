"""The log as the core sees it: positions, terms, and the tail of entries that is in memory.

Decides what matches, what conflicts, what is durable and what may be applied. It holds every entry
after `applied`, and as many before it as the cache bound allows; the rest is on disk, out of its
reach. Never reads a disk, never sends. Called by the core alone.

Invariant, asserted after each change: prefix_index <= applied <= min(committed, durable), and
max(committed, durable) <= last_index.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from esnode import limits
from esnode.errors import HistoryConflict
from esnode.raft.entry import Entry
from esnode.raft.messages import UNKNOWN, LogPoint, Snapshot


@dataclass(frozen=True, slots=True)
class TermRun:
    """All entries from `first_index` up to the next run are of `term`."""

    first_index: int
    term: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where the log of events stands after an entry: the next event's offset, the log time."""

    next_offset: int = 0
    log_time_ms: int = 0


@dataclass(slots=True)
class _Claim:
    """A write that is under way: once it is durable, so is the log up to `up_to`."""

    write_id: int
    up_to: int


class RaftLog:
    """Entries after (`prefix_index`, `prefix_term`), the snapshot's place."""

    def __init__(
        self,
        *,
        prefix_index: int = 0,
        prefix_term: int = 0,
        terms: Iterable[TermRun] = (),
        applied: int = 0,
        position: Position | None = None,
        tail: Sequence[Entry] = (),
        cache_bytes: int = limits.MAX_CACHED_TAIL_BYTES,
    ) -> None:
        """A log found on disk: everything up to `applied` is applied, `tail` is all after it."""
        self.prefix_index = prefix_index
        self.prefix_term = prefix_term
        self.applied = applied
        self.committed = applied
        self.last_index = tail[-1].index if tail else applied
        self.durable = self.last_index
        self._handed = self.last_index
        self._claims: deque[_Claim] = deque()
        self._runs = [(run.first_index, run.term) for run in terms]
        self._applied_position = position or Position()
        self._cache = {entry.index: entry for entry in tail}
        self._cache_first = applied + 1
        self._cache_limit = cache_bytes
        self._cached_bytes = sum(entry.size_bytes for entry in tail)
        self.unapplied_bytes = self._cached_bytes
        assert not self._runs or self._runs[0][0] == prefix_index + 1
        self._check()

    # --- what is there -------------------------------------------------------------------------

    @property
    def last_term(self) -> int:
        """The term of the last entry, or of the prefix."""
        return self._runs[-1][1] if self._runs else self.prefix_term

    @property
    def end(self) -> Position:
        """Where the events stand after the last entry, committed or not."""
        return self._position_after(self.last_index)

    def _position_after(self, index: int) -> Position:
        """Where the events stand after the entry at `index`, which is `applied` or a later one."""
        if index == self.applied:
            return self._applied_position
        entry = self._cache[index]
        return Position(entry.next_offset, entry.log_time_ms)

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None where this log does not know it."""
        if index == self.prefix_index:
            return self.prefix_term
        if not self.prefix_index < index <= self.last_index:
            return None
        if index >= self._runs[-1][0]:
            return self._runs[-1][1]
        return self._runs[bisect_right(self._runs, index, key=_first_index) - 1][1]

    def point(self, index: int) -> LogPoint:
        """The entry at `index`, after the prefix or its last; offset and log time where it is in memory."""
        term = self.term_at(index)
        assert term is not None
        if index == self.applied or self.is_cached(index):
            position = self._position_after(index)
            return LogPoint(index, term, position.next_offset, position.log_time_ms)
        return LogPoint(index, term, UNKNOWN, UNKNOWN)

    def other_than(self, theirs: LogPoint) -> LogPoint | None:
        """What is here instead of an entry that ought to be in this log; None where nothing contradicts it.

        Past the end that is the end; in the cut prefix, whose terms are forgotten, the prefix's last entry,
        when its term is an earlier one: terms never fall along a log.
        """
        ours = self.point(max(self.prefix_index, min(theirs.index, self.last_index)))
        if theirs.index < ours.index:
            return ours if theirs.term > ours.term else None
        known = UNKNOWN not in {ours.next_offset, theirs.next_offset}
        same = (theirs.index, theirs.term) == (ours.index, ours.term) and (
            not known or (theirs.next_offset, theirs.log_time_ms) == (ours.next_offset, ours.log_time_ms)
        )
        return None if same else ours

    def is_cached(self, index: int) -> bool:
        """Whether the entry at `index` is in memory."""
        return self._cache_first <= index <= self.last_index

    def slice(self, first_index: int, last_index: int, max_bytes: int) -> tuple[Entry, ...]:
        """Cached entries, at most `max_bytes` of them, but at least one."""
        taken: list[Entry] = []
        total = 0
        for index in range(first_index, last_index + 1):
            entry = self._cache[index]
            total += entry.size_bytes
            if taken and total > max_bytes:
                break
            taken.append(entry)
        return tuple(taken)

    def applied_from(self, offset: int, max_bytes: int) -> tuple[Entry, ...]:
        """Applied entries from the one that holds event `offset` on; none when it is not in memory."""
        indexes = range(self._cache_first, self.applied + 1)
        first = bisect_right(indexes, offset, key=lambda index: self._cache[index].base_offset) - 1
        if first < 0:
            return ()
        return self.slice(indexes[first], self.applied, max_bytes)

    def unapplied(self) -> tuple[Entry, ...]:
        """Every entry after `applied`, committed or not."""
        return tuple(self._cache[index] for index in range(self.applied + 1, self.last_index + 1))

    def is_newer_than(self, index: int, term: int) -> bool:
        """Whether this log is more up to date than one that ends at (`index`, `term`), Raft 5.4.1."""
        return (self.last_term, self.last_index) > (term, index)

    def last_common(self, index: int, term: int) -> tuple[int, int]:
        """The last place at or before `index` whose term is at most `term`, and its term.

        Two logs that differ at `index` can match at most there: this skips a whole term of
        conflicting entries for each round trip (Raft 5.3, the optimisation).
        """
        index = min(index, self.last_index)
        while index > self.prefix_index:
            run = bisect_right(self._runs, index, key=_first_index) - 1
            first_index, run_term = self._runs[run]
            if run_term <= term:
                return index, run_term
            index = first_index - 1
        return self.prefix_index, self.prefix_term

    # --- growing and shrinking -----------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow the last one."""
        for entry in entries:
            assert entry.index == self.last_index + 1, "an entry leaves a gap in the log"
            assert entry.term >= self.last_term, "terms never fall along the log"
            if entry.term != self.last_term or not self._runs:
                self._runs.append((entry.index, entry.term))
            self._cache[entry.index] = entry
            self._cached_bytes += entry.size_bytes
            self.unapplied_bytes += entry.size_bytes
            self.last_index = entry.index
        self._check()

    def merge(self, entries: Sequence[Entry]) -> None:
        """Add a leader's entries: known ones are passed over, a conflicting tail gives way (5.3).

        The wire has seen that they follow each other; that they follow what is held is seen here.
        """
        for position, entry in enumerate(entries):
            if entry.index <= self.last_index and self.term_at(entry.index) == entry.term:
                continue
            self._check_follows(entry)
            if entry.index <= self.last_index:
                self._truncate(entry.index)
            self.append(entries[position:])
            return

    def _check_follows(self, entry: Entry) -> None:
        before = self._position_after(entry.index - 1)
        if entry.base_offset != before.next_offset or entry.log_time_ms < before.log_time_ms:
            raise HistoryConflict(
                f"the leader sent entry {entry.index} of offset {entry.base_offset} and log time"
                f" {entry.log_time_ms}: it cannot follow what ends at {before.next_offset}"
                f" and {before.log_time_ms}",
                index=entry.index - 1,
            )

    def _truncate(self, index: int) -> None:
        assert index > self.committed, "a committed entry is never cut away"
        for doomed in range(index, self.last_index + 1):
            size = self._cache.pop(doomed).size_bytes
            self._cached_bytes -= size
            self.unapplied_bytes -= size
        while self._runs and self._runs[-1][0] >= index:
            self._runs.pop()
        self.last_index = index - 1
        self.durable = min(self.durable, self.last_index)
        self._handed = min(self._handed, self.last_index)
        # A write that is still under way may not make later entries at these indexes look durable.
        for claim in self._claims:
            claim.up_to = min(claim.up_to, self.last_index)
        self._check()

    def reset(self, snapshot: Snapshot) -> None:
        """Forget every entry: the log now begins after `snapshot`.

        The snapshot counts as durable here: its write is in front of every message that says so.
        """
        self.prefix_index = self.applied = self.committed = snapshot.index
        self.last_index = self.durable = self._handed = snapshot.index
        self.prefix_term = snapshot.term
        self._applied_position = Position(snapshot.next_offset, snapshot.log_time_ms)
        self._runs.clear()
        self._cache.clear()
        self._claims.clear()
        self._cache_first = snapshot.index + 1
        self._cached_bytes = self.unapplied_bytes = 0
        self._check()

    def cut_prefix(self, index: int) -> None:
        """Storage has dropped the entries up to `index`."""
        if index <= self.prefix_index:
            return
        assert index <= self.applied, "the prefix is cut only where it is applied"
        term = self.term_at(index)
        assert term is not None
        while self._runs and self._first_run_end() <= index:
            self._runs.pop(0)
        if self._runs and self._runs[0][0] <= index:
            self._runs[0] = (index + 1, self._runs[0][1])
        self.prefix_index, self.prefix_term = index, term
        self._evict(down_to=index + 1)
        self._check()

    def _first_run_end(self) -> int:
        return self._runs[1][0] - 1 if len(self._runs) > 1 else self.last_index

    # --- durability ----------------------------------------------------------------------------

    def take_unwritten(self) -> tuple[Entry, ...]:
        """The entries that storage has not been given yet; they count as given from now on."""
        if self._handed == self.last_index:
            return ()
        entries = tuple(self._cache[i] for i in range(self._handed + 1, self.last_index + 1))
        self._handed = self.last_index
        return entries

    def claim(self, write_id: int) -> None:
        """Write `write_id` holds everything up to the last entry."""
        self._claims.append(_Claim(write_id, self.last_index))

    def persisted(self, write_id: int) -> None:
        """Writes up to `write_id` are durable."""
        while self._claims and self._claims[0].write_id <= write_id:
            self.durable = max(self.durable, self._claims.popleft().up_to)
        self._check()

    # --- commit and apply ----------------------------------------------------------------------

    def commit_to(self, index: int) -> None:
        """Move the commit index forward, never back, never past the last entry."""
        self.committed = max(self.committed, min(index, self.last_index))

    def appliable(self) -> tuple[Entry, ...]:
        """Entries that are committed and durable here, and not yet applied."""
        end = min(self.committed, self.durable)
        if end == self.applied:
            return ()
        return tuple(self._cache[index] for index in range(self.applied + 1, end + 1))

    def applied_to(self, index: int) -> None:
        """The machine has applied everything up to `index`."""
        if index > self.applied:
            for applied in range(self.applied + 1, index + 1):
                self.unapplied_bytes -= self._cache[applied].size_bytes
            last = self._cache[index]
            self._applied_position = Position(last.next_offset, last.log_time_ms)
            self.applied = index
            self._evict(down_to=0)
        self._check()

    def _evict(self, down_to: int) -> None:
        """Drop applied entries from memory: all before `down_to`, and what the bound asks for."""
        while self._cache_first <= self.applied and (
            self._cached_bytes > self._cache_limit or self._cache_first < down_to
        ):
            entry = self._cache.pop(self._cache_first)
            self._cached_bytes -= entry.size_bytes
            self._cache_first += 1

    def _check(self) -> None:
        assert self.prefix_index <= self.applied <= self.committed <= self.last_index
        assert self.applied <= self.durable <= self.last_index


def _first_index(run: tuple[int, int]) -> int:
    return run[0]
