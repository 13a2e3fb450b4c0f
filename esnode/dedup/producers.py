"""Producer sessions: how far each has come, and where in the log its latest batches are.

Decides which session is closed when there are too many (the one idle for longest, in entries) and which
offsets are remembered. All of it follows from the entries applied. Never refuses a batch: that is the
admission's. Called by the machine (changes) and the admission (look-ups).
"""

import hashlib
import struct
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from esnode import limits
from esnode.dedup.batch import ProducerStamp
from esnode.errors import Bug, DamagedRecord

FIRST_EPOCH: Final = 1
DIGEST_BYTES: Final = 16

# closed | sessions
_HEAD: Final = struct.Struct(">QI")
# producer_id | epoch | next_sequence | ranges
_SESSION: Final = struct.Struct(">QIQI")
# sequence | base_offset | count
_RANGE: Final = struct.Struct(">QQQ")


@dataclass(frozen=True, slots=True)
class SequenceRange:
    """`count` events of a session in a row: sequence numbers from `sequence`, offsets from `base_offset`.

    Batches of which a part was known by key leave no range: which number has which offset is then a
    matter of their keys.
    """

    sequence: int
    base_offset: int
    count: int


class _Session:
    __slots__ = ("digest", "epoch", "next_sequence", "packed", "ranges")

    def __init__(self, epoch: int, next_sequence: int, ranges: Iterable[SequenceRange]) -> None:
        self.epoch = epoch
        self.next_sequence = next_sequence
        self.ranges = deque(ranges)
        self.packed: bytes | None = None
        """Its bytes in a snapshot; None since it has changed."""
        self.digest: bytes | None = None
        """Of these bytes; None since it has changed."""

    def note(self, found: SequenceRange, allowed: int) -> None:
        """Remember where events are, `allowed` ranges at most."""
        if self.ranges:
            last = self.ranges[-1]
            follows = last.sequence + last.count == found.sequence
            if follows and last.base_offset + last.count == found.base_offset:
                joined = last.count + found.count
                self.ranges[-1] = SequenceRange(last.sequence, last.base_offset, joined)
                return
        self.ranges.append(found)
        while len(self.ranges) > allowed:
            self.ranges.popleft()

    def pack(self, producer_id: int) -> bytes:
        """Its bytes in a snapshot."""
        if self.packed is None:
            head = _SESSION.pack(producer_id, self.epoch, self.next_sequence, len(self.ranges))
            ranges = (_RANGE.pack(known.sequence, known.base_offset, known.count) for known in self.ranges)
            self.packed = b"".join((head, *ranges))
        return self.packed


class ProducerTable:
    """The open sessions, the one that has been idle for longest first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[int, _Session] = OrderedDict()
        self.closed = 0
        """Sessions that were closed to make room, ever."""

    def __len__(self) -> int:
        return len(self._sessions)

    # === look-up ===============================================================================

    def next_sequence(self, producer_id: int, epoch: int) -> int | None:
        """The number of the session's next event; None when there is no such session."""
        session = self._sessions.get(producer_id)
        return session.next_sequence if session is not None and session.epoch == epoch else None

    def ranges(self, producer_id: int, sequence: int) -> list[SequenceRange]:
        """What is remembered of a session from `sequence` on, the latest first."""
        session = self._sessions.get(producer_id)
        found: list[SequenceRange] = []
        for known in reversed(session.ranges if session is not None else ()):
            if known.sequence + known.count <= sequence:
                break
            found.append(known)
        return found

    # === change ================================================================================

    def open(self, producer_id: int) -> None:
        """Open the session `producer_id`; with `MAX_PRODUCERS` open, one is closed for it."""
        self._sessions[producer_id] = _Session(FIRST_EPOCH, 0, ())
        if len(self._sessions) > limits.MAX_PRODUCERS:
            self._sessions.popitem(last=False)
            self.closed += 1

    def record(self, stamp: ProducerStamp, base_offset: int, count: int) -> None:
        """An entry of a session is applied: `count` of the `stamp.covered` events are in it.

        A session that was closed between the decision and now has no state to keep.
        """
        session = self._sessions.get(stamp.producer_id)
        if session is None or session.epoch != stamp.epoch:
            return
        if stamp.sequence != session.next_sequence:
            raise Bug(f"producer {stamp.producer_id} is at {session.next_sequence}, not at {stamp.sequence}")
        session.next_sequence += stamp.covered
        session.packed = session.digest = None
        if count == stamp.covered:
            session.note(SequenceRange(stamp.sequence, base_offset, count), self._allowed_ranges())
        self._sessions.move_to_end(stamp.producer_id)

    def _allowed_ranges(self) -> int:
        share = limits.MAX_REMEMBERED_RANGES // len(self._sessions)
        return max(1, min(limits.MAX_PRODUCER_RANGES, share))

    # === its bytes =============================================================================

    def digest(self) -> bytes:
        """16 bytes, equal on all nodes that applied the same entries."""
        whole = hashlib.blake2b(_HEAD.pack(self.closed, len(self)), digest_size=DIGEST_BYTES)
        for producer_id, session in self._sessions.items():
            if session.digest is None:
                packed = session.pack(producer_id)
                session.digest = hashlib.blake2b(packed, digest_size=DIGEST_BYTES).digest()
            whole.update(session.digest)
        return whole.digest()

    def dump(self) -> bytes:
        """The state."""
        packed = [session.pack(producer_id) for producer_id, session in self._sessions.items()]
        return _HEAD.pack(self.closed, len(self)) + b"".join(packed)

    def adopt(self, other: "ProducerTable") -> None:
        """Replace all sessions by those of `other`."""
        self._sessions, self.closed = other._sessions, other.closed

    @classmethod
    def load(cls, data: bytes | memoryview) -> "ProducerTable":
        """The table that was dumped as `data`; raises `DamagedRecord`."""
        table = cls()
        view = memoryview(data)
        try:
            table.closed, count = _HEAD.unpack_from(view)
            position = _HEAD.size
            for _ in range(count):
                producer_id, epoch, next_sequence, ranges = _SESSION.unpack_from(view, position)
                begin = position + _SESSION.size
                end = begin + ranges * _RANGE.size
                known = [SequenceRange(*fields) for fields in _RANGE.iter_unpack(view[begin:end])]
                _check(producer_id, next_sequence, known, ranges)
                session = table._sessions[producer_id] = _Session(epoch, next_sequence, known)
                session.packed = bytes(view[position:end])
                position = end
        except struct.error as error:
            raise DamagedRecord(f"the producer table is cut short: {error}") from None
        if position != len(view) or len(table) != count or count > limits.MAX_PRODUCERS:
            raise DamagedRecord(f"a producer table of {len(view)} bytes does not hold {count} sessions")
        return table


def _check(producer_id: int, next_sequence: int, known: list[SequenceRange], ranges: int) -> None:
    if len(known) != ranges or ranges > limits.MAX_PRODUCER_RANGES:
        raise DamagedRecord(f"producer {producer_id} has {len(known)} ranges of {ranges}")
    reached = 0
    for found in known:
        if found.sequence < reached or not found.count:
            raise DamagedRecord(f"the ranges of producer {producer_id} are not in order")
        reached = found.sequence + found.count
    if reached > next_sequence:
        raise DamagedRecord(f"producer {producer_id} remembers what it has not sent")
