"""The leader's decision on a batch: what of it is new, and where the rest already is.

Decides against the committed tables and the leader's own log that is not applied yet, so no log ever
holds an event twice within the window. Never changes the committed tables: a truncated entry leaves
nothing behind. Called by the Raft core, and only while it leads.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import attrgetter
from typing import Protocol

from esnode.dedup.batch import UNKNOWN_OFFSET, Batch, OffsetRange, ProducerStamp, select, split_identities
from esnode.dedup.keyhash import Hashes, has_repeats
from esnode.dedup.keytable import KeyTable
from esnode.dedup.ownership import RingChange, RingState
from esnode.dedup.producers import FIRST_EPOCH, MAX_EPOCH, Opened, Opening, ProducerTable, SequenceRange
from esnode.dedup.recent import RecentKeys
from esnode.refusal import Refusal


class LogEntry(Protocol):
    """What the admission looks at in an entry of the log (`esnode/raft/entry.py`)."""

    @property
    def index(self) -> int:
        """Its place in the log."""
        ...

    @property
    def base_offset(self) -> int:
        """The offset of its first event."""
        ...

    @property
    def count(self) -> int:
        """Its number of events."""
        ...

    @property
    def keys(self) -> bytes:
        """Their packed keys."""
        ...

    @property
    def producer(self) -> ProducerStamp | None:
        """Its place in a producer session."""
        ...

    @property
    def opens_producer(self) -> bool:
        """Whether it opens one, or goes on with one."""
        ...

    @property
    def opening(self) -> Opening | None:
        """The session that it opens."""
        ...

    @property
    def ring_change(self) -> RingChange | None:
        """What it says of the ring."""
        ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """What to do with a batch.

    `fresh` is to be appended, if anything is; its session may advance without any event. `ranges` are
    the offsets of all events in their order, -1 for those that only their sequence number knows. The
    answer must wait until `wait_index_of_duplicates` is applied, 0 when all the duplicates are.
    """

    fresh: Batch | None
    ranges: tuple[OffsetRange, ...]
    wait_index_of_duplicates: int
    duplicates: int
    refusal: Refusal | None


@dataclass(slots=True)
class _Covered:
    """What an entry of the tail means to its producer session."""

    index: int
    sequence: int
    covered: int
    base_offset: int
    count: int


_sequence = attrgetter("sequence")


class Admission:
    """Which events the log of this leader does not hold yet."""

    def __init__(
        self,
        keys: KeyTable,
        producers: ProducerTable,
        ring: RingState | None = None,
        partition: int = 0,
    ) -> None:
        self._keys = keys
        self._producers = producers
        self._ring = RingState() if ring is None else ring
        self._partition = partition
        self._ownership = self._ring.now
        """What holds at the end of the leader's log: whoever leads next may find it there."""
        self._changed_at = 0
        """The index of the last entry of the tail that says something of the ring."""
        self._recent = RecentKeys(keys)
        self._sessions: dict[int, deque[_Covered]] = {}
        """What entries that are not applied mean to producer sessions, by session."""
        self._opened: dict[int, Opening] = {}
        """Sessions that they open, the latest epoch of each."""
        self._names: dict[str, Opening] = {}
        """Those with a name."""
        self._stamped: deque[tuple[int, int, Opening | None]] = deque()
        """The indexes of entries that concern a session, its id, and whether it is opened there."""
        self._decided: tuple[bytes, Hashes | None] = (b"", None)
        """The keys of the last batch and their hashes: they come again with its entry."""

    # === the log ===============================================================================

    def appended(self, entry: LogEntry) -> None:
        """The leader's log has got `entry`; or it is in the log of a new leader, not yet applied."""
        index, stamp = entry.index, entry.producer
        if (change := entry.ring_change) is not None:
            floor = self._keys.first_offset
            self._ownership = self._ownership.after(change, entry.base_offset, entry.count, floor)
            self._changed_at = index
        if entry.count:
            keys = entry.keys
            packed, hashes = self._decided
            self._recent.add(index, entry.base_offset, keys, hashes if keys == packed else None)
        if entry.opens_producer:
            opening = entry.opening
            assert opening is not None
            self._opened[opening.producer_id] = opening
            if opening.name:
                self._names[opening.name] = opening
            self._stamped.append((index, opening.producer_id, opening))
        elif stamp is not None:
            covered = _Covered(index, stamp.sequence, stamp.covered, entry.base_offset, entry.count)
            self._sessions.setdefault(stamp.producer_id, deque()).append(covered)
            self._stamped.append((index, stamp.producer_id, None))

    def applied(self, index: int) -> None:
        """The tables hold the log up to `index`."""
        self._recent.trim()
        if index >= self._changed_at:
            self._ownership = self._ring.now
        while self._stamped and self._stamped[0][0] <= index:
            _, producer_id, opening = self._stamped.popleft()
            if opening is not None:
                if self._opened[producer_id] is opening:
                    del self._opened[producer_id]
                if self._names.get(opening.name) is opening:
                    del self._names[opening.name]
                continue
            session = self._sessions[producer_id]
            session.popleft()
            if not session:
                del self._sessions[producer_id]

    def reset(self) -> None:
        """The leadership is lost: what is not applied may never be."""
        self._recent.clear()
        self._ownership = self._ring.now
        self._changed_at = 0
        self._sessions.clear()
        self._opened.clear()
        self._names.clear()
        self._stamped.clear()

    # === the ring ==============================================================================

    def why_not(self, change: RingChange) -> Refusal | None:
        """Why the log may not say `change` next; None: it may."""
        return None if self._ownership.allows(change) else Refusal.RING_CONFLICT

    def says_already(self, change: RingChange) -> bool:
        """Whether the leader's log has it."""
        return self._ownership.is_done(change)

    def _owns(self, keys: bytes) -> bool:
        """Whether all these keys are of sources that the partition owns at the end of the leader's log."""
        now = self._ownership
        if now.partitions == 1:
            return not self._partition
        return now.ring.owns_all(keys, self._partition)

    def _told(self, offsets: list[int]) -> list[int]:
        """The same, but for adopted keys: their events are in another partition."""
        if not self._ownership.ranges:
            return offsets
        is_adopted = self._ownership.is_adopted
        return [UNKNOWN_OFFSET if is_adopted(offset) else offset for offset in offsets]

    # === the decision ==========================================================================

    def has_passed(self, batch: Batch) -> bool:
        """Whether keys were forgotten that are younger than its first sending: what is not known of it may
        be in the log. A session knows its events by their numbers, and forgets none.
        """
        if batch.sent_after == UNKNOWN_OFFSET:
            return False
        floor = self._keys.first_offset
        if batch.sent_to in (None, self._partition):
            return batch.sent_after < floor and batch.producer is None
        return not self._ownership.knows_since(batch.sent_to, batch.sent_after, floor)

    def decide(self, batch: Batch, next_offset: int, log_time_ms: int = 0) -> Admitted:
        """What to append of `batch` (one event at least), whose first fresh one will be at `next_offset`.

        `log_time_ms` is that of the entry it would become: with a full window that refuses, room is
        what will be expired by then.
        """
        if not self._owns(batch.keys):
            return _refused(Refusal.MOVED)
        hashes = self._keys.hash(batch.keys)
        self._decided = (batch.keys, hashes)
        stamp = batch.producer
        sent_before = 0
        if stamp is not None:
            place = self._place(stamp.producer_id)
            if place is None or stamp.epoch > place[0]:
                return _refused(Refusal.UNKNOWN_PRODUCER)
            epoch, expected = place
            if stamp.epoch < epoch:
                return _refused(Refusal.PRODUCER_FENCED)
            if stamp.sequence > expected:
                return _refused(Refusal.OUT_OF_SEQUENCE)
            sent_before = min(batch.count, expected - stamp.sequence)
        known = self._keys.find_sealed(batch.keys, hashes)
        recent = self._recent.find(batch.keys, hashes)
        if known or recent or sent_before or has_repeats(hashes):
            floor = self._keys.first_offset
            known |= {place: offset for place, offset in recent.items() if offset >= floor}
            return self._decide_each(batch, known, sent_before, next_offset, log_time_ms)
        if self.has_passed(batch):
            return _refused(Refusal.WINDOW_PASSED)
        if not self._keys.has_room(next_offset + batch.count, log_time_ms):
            return _refused(Refusal.WINDOW_FULL)
        return Admitted(batch, (OffsetRange(next_offset, batch.count),), 0, 0, None)

    def _decide_each(
        self,
        batch: Batch,
        known: dict[int, int],
        sent_before: int,
        next_offset: int,
        log_time_ms: int,
    ) -> Admitted:
        """The long way, for a batch with duplicates: event by event."""
        stamp = batch.producer
        offsets, wait_index = self._sent_before(stamp, sent_before, batch.count)
        identities = split_identities(batch.keys)
        found = {identities[place]: offset for place, offset in known.items()}
        fresh: list[int] = []
        for place, one in enumerate(identities):
            if place < sent_before:
                if offsets[place] == UNKNOWN_OFFSET:
                    offsets[place] = found.get(one, UNKNOWN_OFFSET)
                found.setdefault(one, offsets[place])
            elif one in found:
                offsets[place] = found[one]
            else:
                found[one] = offsets[place] = next_offset + len(fresh)
                fresh.append(place)
        if fresh and self.has_passed(batch):
            return _refused(Refusal.WINDOW_PASSED)
        if fresh and not self._keys.has_room(next_offset + len(fresh), log_time_ms):
            return _refused(Refusal.WINDOW_FULL)
        in_log = (offset for offset in offsets if offset < next_offset)
        wait_index = max(wait_index, self._recent.index_of_last(in_log))
        duplicates = batch.count - len(fresh)
        if stamp is not None and sent_before < batch.count:
            # Its sequence numbers are new, so the session goes on even when none of its events is.
            stamp = replace(stamp, sequence=stamp.sequence + sent_before, covered=batch.count - sent_before)
        elif not fresh:
            return Admitted(None, _merged(self._told(offsets)), wait_index, duplicates, None)
        offsets = self._told(offsets)
        part = batch if len(fresh) == batch.count else replace(select(batch, fresh), producer=stamp)
        return Admitted(part, _merged(offsets), wait_index, duplicates, None)

    def open(
        self, name: str, producer_id: int, holder: int, index: int, log_time_ms: int
    ) -> Opened | Refusal:
        """The session that entry `index` is to open.

        Without `producer_id` a new one, or that of `name`: whoever held it is fenced. With it, that session
        goes on under a new epoch, unless somebody else (another `holder`) has opened its name meanwhile.
        """
        if name:
            known = self._names.get(name) or self._producers.find_name(name)
            if known is None and not producer_id and not self._has_room(log_time_ms):
                return Refusal.PRODUCERS_FULL
            if known is not None and producer_id not in (0, known.producer_id):
                return Refusal.PRODUCER_FENCED
            if known is not None and producer_id and holder != known.holder:
                return Refusal.PRODUCER_FENCED
        else:
            known = self._opened.get(producer_id) or self._producers.find(producer_id)
            if known is not None and known.name:
                known = None
            holder = 0
        if known is None:
            if producer_id:
                return Refusal.UNKNOWN_PRODUCER
            return Opened(Opening(index, FIRST_EPOCH, 0, name, holder), UNKNOWN_OFFSET)
        place = self._place(known.producer_id)
        assert place is not None
        last_offset = self._last_offset(known.producer_id)
        if place[0] == MAX_EPOCH:
            return Opened(Opening(index, FIRST_EPOCH, place[1], name, holder), last_offset)
        return Opened(Opening(known.producer_id, place[0] + 1, place[1], name, holder), last_offset)

    def _has_room(self, log_time_ms: int) -> bool:
        """Whether another name may be opened."""
        if self._producers.has_room(len(self._names) + 1, log_time_ms):
            return True  # and there is no need to look which of them are new
        names = sum(self._producers.find_name(name) is None for name in self._names)
        return self._producers.has_room(names + 1, log_time_ms)

    def _place(self, producer_id: int) -> tuple[int, int] | None:
        """The session's epoch and the number that comes next, the tail counted; None: no such session."""
        place = self._producers.place(producer_id)
        opening = self._opened.get(producer_id)
        if opening is not None:
            place = opening.epoch, opening.next_sequence
        tail = self._sessions.get(producer_id)
        if place is not None and tail:
            place = place[0], max(place[1], tail[-1].sequence + tail[-1].covered)
        return place

    def _last_offset(self, producer_id: int) -> int:
        """The offset of the session's last event; -1: nobody remembers, or there is none."""
        tail = self._sessions.get(producer_id)
        if not tail:
            return self._producers.last_offset(producer_id)
        last = tail[-1]
        return last.base_offset + last.count - 1 if last.count == last.covered else UNKNOWN_OFFSET

    def _sent_before(
        self, stamp: ProducerStamp | None, sent_before: int, count: int
    ) -> tuple[list[int], int]:
        """The offsets that the session remembers of the first `sent_before` events, of `count` in all.

        Also the index of the last entry of the tail that covers any of them, or 0.
        """
        offsets = [UNKNOWN_OFFSET] * count
        wait_index = 0
        if stamp is None or not sent_before:
            return offsets, wait_index
        first, end = stamp.sequence, stamp.sequence + sent_before
        remembered = self._producers.ranges(stamp.producer_id, first)
        tail = self._sessions.get(stamp.producer_id, ())
        start = max(0, bisect_right(tail, first, key=_sequence) - 1)
        for part in islice(tail, start, None):
            if part.sequence >= end:
                break
            wait_index = part.index
            if part.count == part.covered:
                remembered.append(SequenceRange(part.sequence, part.base_offset, part.count))
        for known in remembered:
            shift = known.base_offset - known.sequence
            for sequence in range(max(first, known.sequence), min(end, known.sequence + known.count)):
                offsets[sequence - first] = sequence + shift
        return offsets, wait_index


def _merged(offsets: Sequence[int]) -> tuple[OffsetRange, ...]:
    """Offsets one by one -> ranges, in their order."""
    ranges: list[OffsetRange] = []
    base, count = offsets[0], 0
    for offset in offsets:
        if offset != (base if base == UNKNOWN_OFFSET else base + count):
            ranges.append(OffsetRange(base, count))
            base, count = offset, 0
        count += 1
    return (*ranges, OffsetRange(base, count))


def _refused(refusal: Refusal) -> Admitted:
    return Admitted(None, (), 0, 0, refusal)
