"""The core's log against a plain list and a plain disk: any order of appends, conflicts, writes and cuts.

The list is what the log should hold. The disk is what writes that completed have made of it, each with
the entries as they were when it was handed out: so that no completion of an overwritten entry can make
its successor look durable (the ABA race).
"""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from esnode.raft.entry import Entry
from esnode.raft.log import Position, RaftLog
from esnode.raft.messages import Snapshot

from .solo import events

GROWTH = st.lists(st.sampled_from([0, 0, 1]), min_size=1, max_size=4)
"""For each new entry, by how much its term is above the last one's."""


@dataclass
class PlainDisk:
    """Entries from `prefix_index` on, by index."""

    prefix_index: int
    entries: dict[int, bytes]


class LogModel(RuleBasedStateMachine):
    """A follower's or a leader's log; nothing here knows which."""

    def __init__(self) -> None:
        super().__init__()
        self.prefix = Snapshot(0, 0, 0, 0, b"")
        self.entries: list[Entry] = []
        self.committed = self.applied = self.write_id = self.handed = 0
        self.installed: Snapshot | None = None
        self.pending: list[tuple[int, Snapshot | None, tuple[Entry, ...]]] = []
        self.disk = PlainDisk(0, {})

    @initialize(cache_bytes=st.sampled_from([0, 300, 1 << 20]))
    def begin(self, cache_bytes: int) -> None:
        self.log = RaftLog(cache_bytes=cache_bytes)
        self.cache_bytes = cache_bytes

    # --- the plain list ------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        return self.prefix.index + len(self.entries)

    def term_at(self, index: int) -> int | None:
        if index == self.prefix.index:
            return self.prefix.term
        if self.prefix.index < index <= self.last_index:
            return self.entries[index - self.prefix.index - 1].term
        return None

    def held(self, first: int, last: int) -> list[Entry]:
        return self.entries[max(0, first - self.prefix.index - 1) : max(0, last - self.prefix.index)]

    @property
    def next_offset(self) -> int:
        return self.entries[-1].next_offset if self.entries else self.prefix.next_offset

    # --- what happens --------------------------------------------------------------------------

    @rule(growth=GROWTH)
    def append(self, growth: list[int]) -> None:
        term = self.term_at(self.last_index)
        assert term is not None
        made = following(self.last_index + 1, term, self.next_offset, growth)
        self.log.append(made)
        self.entries += made

    @precondition(lambda self: self.last_index > self.committed)
    @rule(data=st.data(), growth=GROWTH)
    def merge(self, data: st.DataObject, growth: list[int]) -> None:
        """A leader sends some that are known, and then perhaps others from a later term."""
        first = data.draw(st.integers(self.committed + 1, self.last_index))
        conflict = data.draw(st.integers(first, self.last_index + 1))
        known = self.held(first, conflict - 1)
        last_term = self.term_at(self.last_index)
        assert last_term is not None
        before = self.held(conflict - 1, conflict - 1)
        offset = before[0].next_offset if before else self.prefix.next_offset
        other = following(conflict, last_term + 1, offset, growth)
        self.log.merge([*known, *other])
        self.entries = [*self.held(self.prefix.index + 1, conflict - 1), *other]
        self.handed = min(self.handed, conflict - 1)

    @rule(data=st.data())
    def merge_what_is_known(self, data: st.DataObject) -> None:
        """A message that comes late or twice changes nothing."""
        first = data.draw(st.integers(self.prefix.index + 1, self.last_index + 1))
        last = data.draw(st.integers(first - 1, self.last_index))
        self.log.merge(self.held(first, last))

    @rule()
    def hand_out(self) -> None:
        """What a `Ready` writes."""
        taken = self.log.take_unwritten()
        assert list(taken) == self.held(self.handed + 1, self.last_index)
        self.write_id += 1
        self.log.claim(self.write_id)
        self.pending.append((self.write_id, self.installed, taken))
        self.installed, self.handed = None, self.last_index

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """Some of the waiting writes are durable; the last one tells for all before it."""
        count = data.draw(st.integers(1, len(self.pending)))
        done, self.pending = self.pending[:count], self.pending[count:]
        for _, snapshot, entries in done:
            if snapshot is not None:
                self.disk = PlainDisk(snapshot.index, {})
            if entries:
                first = entries[0].index
                self.disk.entries = {i: kept for i, kept in self.disk.entries.items() if i < first}
                self.disk.entries.update((entry.index, entry.record) for entry in entries)
        self.log.persisted(done[-1][0])

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.last_index + 2))
        self.log.commit_to(index)
        self.committed = max(self.committed, min(index, self.last_index))

    @rule(data=st.data())
    def apply(self, data: st.DataObject) -> None:
        ready = self.log.appliable()
        assert list(ready) == self.held(self.applied + 1, min(self.committed, self.log.durable))
        if ready:
            self.applied = data.draw(st.sampled_from(ready)).index
            self.log.applied_to(self.applied)
            first = next(index for index in range(1, self.last_index + 2) if self.is_in_memory(index))
            size = sum(entry.size_bytes for entry in self.held(first, self.last_index))
            assert first == self.applied + 1 or size <= self.cache_bytes, "over the bound, and it could go"

    def is_in_memory(self, index: int) -> bool:
        return self.log.is_cached(index) or index > self.last_index

    @rule(data=st.data())
    def cut_prefix(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.applied))
        self.log.cut_prefix(index)
        if index > self.prefix.index:
            last = self.held(index, index)[0]
            self.entries = self.held(index + 1, self.last_index)
            self.prefix = Snapshot(index, last.term, last.next_offset, last.log_time_ms, b"")

    @rule(ahead=st.integers(1, 6), later=st.integers(0, 1))
    def install(self, ahead: int, later: int) -> None:
        """A leader's snapshot takes the place of everything."""
        term = (self.term_at(self.last_index) or 0) + later or 1
        place = self.committed + ahead
        self.prefix = Snapshot(place, term, self.next_offset + ahead, 0, b"")
        self.entries = []
        self.log.reset(self.prefix)
        self.installed = self.prefix
        self.committed = self.applied = self.handed = self.prefix.index

    # --- what must hold ------------------------------------------------------------------------

    @invariant()
    def the_log_holds_what_the_list_holds(self) -> None:
        log = self.log
        assert (log.prefix_index, log.prefix_term) == (self.prefix.index, self.prefix.term)
        assert (log.last_index, log.last_term) == (self.last_index, self.term_at(self.last_index))
        assert (log.committed, log.applied) == (self.committed, self.applied)
        around = range(self.prefix.index - 1, self.last_index + 2)
        assert [log.term_at(index) for index in around] == [self.term_at(index) for index in around]
        assert list(log.unapplied()) == self.held(self.applied + 1, self.last_index)
        assert log.end == Position(self.next_offset, 0)
        assert log.unapplied_bytes == sum(entry.size_bytes for entry in log.unapplied())

    @invariant()
    def what_is_in_memory_is_right_and_bounded(self) -> None:
        cached = [index for index in range(1, self.last_index + 1) if self.log.is_cached(index)]
        first = cached[0] if cached else self.last_index + 1
        assert cached == list(range(first, self.last_index + 1))
        assert self.prefix.index < first <= self.applied + 1
        if cached:
            assert list(self.log.slice(first, self.last_index, 1 << 30)) == self.held(first, self.last_index)

    @invariant()
    def only_what_is_on_the_disk_counts_as_durable(self) -> None:
        durable = self.log.durable
        assert self.applied <= durable <= self.last_index
        for entry in self.held(self.prefix.index + 1, durable):
            on_disk = self.disk.entries.get(entry.index)
            assert on_disk == entry.record or entry.index <= self.disk.prefix_index, (
                f"{entry.index} is not there"
            )
        if not self.pending and self.handed == self.last_index and self.installed is None:
            assert durable == self.last_index, "everything is on the disk, and the log does not know"

    @invariant()
    def the_last_common_place_is_the_last_that_may_match(self) -> None:
        for index, term in ((self.last_index, 1), (self.committed, 2), (self.last_index + 3, 3)):
            places = [
                (place, held)
                for place in range(self.prefix.index, min(index, self.last_index) + 1)
                if (held := self.term_at(place)) is not None and (held <= term or place == self.prefix.index)
            ]
            expected = places[-1] if places else (self.prefix.index, self.prefix.term)
            assert self.log.last_common(index, term) == expected


def following(index: int, term: int, offset: int, growth: list[int]) -> list[Entry]:
    """Entries from `index` on, of `term` or later; every third one without events."""
    made: list[Entry] = []
    for number, more in enumerate(growth, start=index):
        term = max(1, term + more)
        names = (f"e{number}.{term}",) if number % 3 else ()
        made.append(events(number, term, offset, *names))
        offset = made[-1].next_offset
    return made


TestTheLogIsAList = LogModel.TestCase
TestTheLogIsAList.settings = settings(max_examples=80, stateful_step_count=40)
