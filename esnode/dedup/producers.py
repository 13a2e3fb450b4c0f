"""Producer sessions: how far each has come, and where in the log its latest batches are.

Decides which session is closed when there are too many (the one idle for longest, in entries, and those
without a name first) and which offsets are remembered. All of it follows from the entries applied. Never
refuses a batch or a name: that is the admission's. Called by the machine (changes) and the admission
(look-ups).
"""

import hashlib
import struct
from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

from esnode import limits
from esnode.dataclass import dataclass
from esnode.dedup.batch import UNKNOWN_OFFSET, ProducerStamp
from esnode.errors import Bug, DamagedRecord

FIRST_EPOCH: Final = 1
MAX_EPOCH: Final = 2**32 - 1
DIGEST_BYTES: Final = 16

# closed | sessions without a name; then these, then the number of those with a name, if any, and these
_HEAD: Final = struct.Struct(">QI")
_NAMED: Final = struct.Struct(">I")
# producer_id | epoch | next_sequence | ranges; then these
_SESSION: Final = struct.Struct(">QIQI")
# sequence | base_offset | count
_RANGE: Final = struct.Struct(">QQQ")
# holder | used_ms | bytes of the name; then the name: behind the ranges of a session that has one
_NAME: Final = struct.Struct(">QQH")


@dataclass(frozen=True, slots=True)
class SequenceRange:
    """`count` events of a session in a row: sequence numbers from `sequence`, offsets from `base_offset`.

    Batches of which a part was known by key leave no range: which number has which offset is then a
    matter of their keys.
    """

    sequence: int
    base_offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Opening:
    """A session as it is opened, or gone on with, by an entry of the log.

    `name` is empty for one that only its client knows. `holder` is the random number of who opened the
    name last: nobody else may go on with it, but everybody may open it anew.
    """

    producer_id: int
    epoch: int
    next_sequence: int
    name: str = ""
    holder: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """The session to be opened; its last event is at `last_offset` (-1: it has none, or nobody remembers)."""

    opening: Opening
    last_offset: int


class _Session:
    __slots__ = ("digest", "epoch", "holder", "name", "next_sequence", "packed", "ranges", "used_ms")

    def __init__(self, epoch: int, next_sequence: int, ranges: Iterable[SequenceRange]) -> None:
        self.epoch = epoch
        self.next_sequence = next_sequence
        self.ranges = deque(ranges)
        self.name = ""
        self.holder = 0
        self.used_ms = 0
        """The log time of its last entry, if it has a name."""
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
            parts = [_SESSION.pack(producer_id, self.epoch, self.next_sequence, len(self.ranges))]
            parts += [_RANGE.pack(known.sequence, known.base_offset, known.count) for known in self.ranges]
            if self.name:
                name = self.name.encode()
                parts += [_NAME.pack(self.holder, self.used_ms, len(name)), name]
            self.packed = b"".join(parts)
        return self.packed


class ProducerTable:
    """The open sessions, those with a name apart; of each kind the one idle for longest first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[int, _Session] = OrderedDict()
        self._named: OrderedDict[int, _Session] = OrderedDict()
        self._names: dict[str, int] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()
        """Those without a name and an event: when there are many, the oldest is closed before all others."""
        self.closed = 0
        """Sessions that were closed to make room, ever."""

    def __len__(self) -> int:
        return len(self._sessions) + len(self._named)

    @property
    def named(self) -> int:
        """How many of the sessions have a name."""
        return len(self._named)

    # === look-up ===============================================================================

    def find(self, producer_id: int) -> Opening | None:
        """The session as it is now; None when there is no such session."""
        session = self._get(producer_id)
        if session is None:
            return None
        return Opening(producer_id, session.epoch, session.next_sequence, session.name, session.holder)

    def find_name(self, name: str) -> Opening | None:
        """The session of that name."""
        producer_id = self._names.get(name)
        return None if producer_id is None else self.find(producer_id)

    def place(self, producer_id: int) -> tuple[int, int] | None:
        """The session's epoch and the number of its next event; None when there is no such session."""
        session = self._get(producer_id)
        return None if session is None else (session.epoch, session.next_sequence)

    def ranges(self, producer_id: int, sequence: int) -> list[SequenceRange]:
        """What is remembered of a session from `sequence` on, the latest first."""
        session = self._get(producer_id)
        found: list[SequenceRange] = []
        for known in reversed(session.ranges if session is not None else ()):
            if known.sequence + known.count <= sequence:
                break
            found.append(known)
        return found

    def last_offset(self, producer_id: int) -> int:
        """The offset of the session's last event, or -1: it has none, or nobody remembers."""
        session = self._get(producer_id)
        if session is None or not session.ranges:
            return UNKNOWN_OFFSET
        last = session.ranges[-1]
        reaches = last.sequence + last.count == session.next_sequence
        return last.base_offset + last.count - 1 if reaches else UNKNOWN_OFFSET

    def has_room(self, names: int, log_time_ms: int) -> bool:
        """Whether `names` more can be opened and none is closed that was used within the last week."""
        over = len(self._named) + names - limits.MAX_NAMED_PRODUCERS
        if over <= 0:
            return True
        idle = list(islice(self._named.values(), over))
        return len(idle) == over and idle[-1].used_ms + limits.NAMED_PRODUCER_KEPT_MS <= log_time_ms

    def _get(self, producer_id: int) -> _Session | None:
        return self._sessions.get(producer_id) or self._named.get(producer_id)

    # === change ================================================================================

    def open(self, opening: Opening, log_time_ms: int = 0) -> None:
        """Open a session, or let it begin a new epoch; where there are too many, one is closed for it."""
        producer_id, name = opening.producer_id, opening.name
        known = self._get(producer_id)
        self._forget(producer_id)
        session = _Session(opening.epoch, opening.next_sequence, known.ranges if known is not None else ())
        session.name, session.holder = name, opening.holder
        if name:
            self._forget(self._names.get(name))  # it had another id before
            session.used_ms = log_time_ms
            self._names[name] = producer_id
            self._named[producer_id] = session
        else:
            self._sessions[producer_id] = session
            if not session.next_sequence:
                self._unused[producer_id] = None
        self._make_room()

    def record(self, stamp: ProducerStamp, base_offset: int, count: int, log_time_ms: int = 0) -> None:
        """An entry of a session is applied: `count` of the `stamp.covered` events are in it.

        A session that was closed between the decision and now has no state to keep.
        """
        session = self._get(stamp.producer_id)
        if session is None or session.epoch != stamp.epoch:
            return
        if stamp.sequence != session.next_sequence:
            raise Bug(f"producer {stamp.producer_id} is at {session.next_sequence}, not at {stamp.sequence}")
        if not session.next_sequence:
            self._unused.pop(stamp.producer_id, None)
        session.next_sequence += stamp.covered
        session.packed = session.digest = None
        if count == stamp.covered:
            session.note(SequenceRange(stamp.sequence, base_offset, count), self._allowed_ranges())
        if session.name:
            session.used_ms = log_time_ms
            self._named.move_to_end(stamp.producer_id)
        else:
            self._sessions.move_to_end(stamp.producer_id)

    def _forget(self, producer_id: int | None) -> None:
        if producer_id is not None:
            self._unused.pop(producer_id, None)
        if producer_id is not None and self._sessions.pop(producer_id, None) is None:
            named = self._named.pop(producer_id, None)
            if named is not None:
                del self._names[named.name]

    def _make_room(self) -> None:
        while len(self._named) > limits.MAX_NAMED_PRODUCERS:
            self._forget(next(iter(self._named)))
            self.closed += 1
        while len(self) > limits.MAX_PRODUCERS:
            idle = self._unused if len(self._unused) > limits.MAX_UNUSED_PRODUCERS else self._sessions
            self._forget(next(iter(idle)))
            self.closed += 1

    def _allowed_ranges(self) -> int:
        share = limits.MAX_REMEMBERED_RANGES // len(self)
        return max(1, min(limits.MAX_PRODUCER_RANGES, share))

    # === its bytes =============================================================================

    def digest(self) -> bytes:
        """16 bytes, equal on all nodes that applied the same entries."""
        whole = hashlib.blake2b(_HEAD.pack(self.closed, len(self)), digest_size=DIGEST_BYTES)
        for sessions in (self._sessions, self._named):
            for producer_id, session in sessions.items():
                if session.digest is None:
                    packed = session.pack(producer_id)
                    session.digest = hashlib.blake2b(packed, digest_size=DIGEST_BYTES).digest()
                whole.update(session.digest)
        return whole.digest()

    def dump(self) -> bytes:
        """The state. Without a name in it, it is as it was before sessions had names."""
        packed = [_HEAD.pack(self.closed, len(self._sessions))]
        packed += [session.pack(producer_id) for producer_id, session in self._sessions.items()]
        if self._named:
            packed.append(_NAMED.pack(len(self._named)))
            packed += [session.pack(producer_id) for producer_id, session in self._named.items()]
        return b"".join(packed)

    def adopt(self, other: "ProducerTable") -> None:
        """Replace all sessions by those of `other`."""
        self._sessions, self._named, self._names = other._sessions, other._named, other._names
        self._unused = other._unused
        self.closed = other.closed

    @classmethod
    def load(cls, data: bytes | memoryview) -> "ProducerTable":
        """The table that was dumped as `data`; raises `DamagedRecord`."""
        table = cls()
        view = memoryview(data)
        named = 0
        try:
            table.closed, count = _HEAD.unpack_from(view)
            position = _HEAD.size
            for _ in range(count):
                position = table._load_session(view, position, named=False)
            if position < len(view):
                (named,) = _NAMED.unpack_from(view, position)
                position += _NAMED.size
                if not named:
                    raise DamagedRecord("the producer table says that it has names, and has none")
                for _ in range(named):
                    position = table._load_session(view, position, named=True)
        except struct.error as error:
            raise DamagedRecord(f"the producer table is cut short: {error}") from None
        whole = (len(table), len(table._names)) == (count + named, named)
        if position != len(view) or not whole or count + named > limits.MAX_PRODUCERS:
            said = count + named
            raise DamagedRecord(f"a producer table of {len(view)} bytes does not hold {said} sessions")
        return table

    def _load_session(self, view: memoryview, begin: int, *, named: bool) -> int:
        """One session at `begin` of `view`; where it ends."""
        producer_id, epoch, next_sequence, ranges = _SESSION.unpack_from(view, begin)
        end: int = begin + _SESSION.size + ranges * _RANGE.size
        known = [SequenceRange(*fields) for fields in _RANGE.iter_unpack(view[begin + _SESSION.size : end])]
        _check(producer_id, next_sequence, known, ranges)
        self._forget(producer_id)  # one that is there twice is missed at the end
        session = _Session(epoch, next_sequence, known)
        if named:
            session.holder, session.used_ms, length = _NAME.unpack_from(view, end)
            end += _NAME.size + length
            session.name = _name(view[end - length : end], length)
            self._names[session.name] = producer_id
        session.packed = bytes(view[begin:end])
        (self._named if named else self._sessions)[producer_id] = session
        if not named and not next_sequence:
            self._unused[producer_id] = None
        return end


def _name(data: memoryview, length: int) -> str:
    try:
        name = bytes(data).decode()
    except UnicodeDecodeError:
        raise DamagedRecord("the name of a producer session is not UTF-8") from None
    if not 0 < len(data) == length <= limits.MAX_PRODUCER_NAME_BYTES:
        raise DamagedRecord(f"the name of a producer session has {len(data)} bytes of {length}")
    return name


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
