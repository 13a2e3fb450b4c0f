"""One entry of the log and its bytes: encoded once, then stored and forwarded as the same bytes.

The record is a header of fixed size, the packed keys, and the payload. Its CRC-32C covers all that
follows it. `docs/protocol.md` shows it byte by byte. Called by everything that holds entries.
"""

import enum
import struct
from typing import Final

import google_crc32c

from esnode import limits
from esnode.dataclass import dataclass
from esnode.dedup.batch import ProducerStamp
from esnode.dedup.ownership import Adoption, RingChange, RingPlan, RingSwitch
from esnode.dedup.producers import FIRST_EPOCH, Opening
from esnode.errors import DamagedRecord
from esnode.formats import newer, refuse_newer
from esnode.raft import ringpayload

RECORD_VERSION: Final = 2
DIGEST_KEYS_VERSION: Final = 1
"""Of records whose keys have no token: a key there is the whole digest of source and id. They are read."""

# crc u32 | version u8 | kind u8 | partition u16 | index u64 | term u64 | base_offset u64
# | log_time_ms u64 | count u32 | producer_id u64 | producer_epoch u32 | sequence u64 | covered u32
# | payload_len u32
_HEADER: Final = struct.Struct(">IBBHQQQQIQIQII")
# who holds a producer session; then its name, UTF-8
_HOLDER: Final = struct.Struct(">Q")
_AFTER_CRC: Final = 4
HEADER_BYTES: Final = _HEADER.size


class EntryKind(enum.IntEnum):
    """What an entry is."""

    BATCH = 1
    """Events."""
    NOOP = 2
    """The first entry of a term (Raft thesis 6.4)."""
    PRODUCER = 3
    """Opens a producer session; the session's id is the entry's index."""
    PRODUCER_EPOCH = 4
    """Opens a producer session by its name, or goes on with one: it has a new epoch from here on.

    The stamp says which, at what number; the payload is who holds it (8 bytes) and the name."""
    RING_PLAN = 5
    """In partition 0: all partitions are to go by another ring, or now do."""
    RING_SWITCH = 6
    """The partition goes by another ring from here on."""
    ADOPTION = 7
    """Keys of another partition's events, of sources that this one is to own; there are no events."""


_RING_CHANGES: Final[dict[EntryKind, type[RingChange]]] = {
    EntryKind.RING_PLAN: RingPlan,
    EntryKind.RING_SWITCH: RingSwitch,
    EntryKind.ADOPTION: Adoption,
}
_KIND_OF_CHANGE: Final = {change: kind for kind, change in _RING_CHANGES.items()}
KNOWN_FRONTS: Final = frozenset(
    bytes((version, kind)) for version in (DIGEST_KEYS_VERSION, RECORD_VERSION) for kind in EntryKind
)
"""Version and kind of the records that this version reads, as they stand at `FRONT`."""
FRONT: Final = slice(4, 6)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log. Build it with `seal` or `parse`, never by hand.

    `index` counts entries from 1; `base_offset` is the offset of its first event (for an entry
    without events: the offset that the next event will get); `count` is its number of events, or of
    adopted keys, which take offsets as events do.
    """

    index: int
    term: int
    kind: EntryKind
    base_offset: int
    count: int
    log_time_ms: int
    partition: int
    producer: ProducerStamp | None
    record: bytes

    @property
    def next_offset(self) -> int:
        """The offset that follows the entry's last event."""
        return self.base_offset + self.count

    @property
    def opens_producer(self) -> bool:
        """Whether it opens a producer session, or goes on with one."""
        return self.kind is EntryKind.PRODUCER or self.kind is EntryKind.PRODUCER_EPOCH

    @property
    def opening(self) -> Opening | None:
        """The producer session that it opens, as it is from then on."""
        if self.kind is EntryKind.PRODUCER:
            return Opening(self.index, FIRST_EPOCH, 0)
        stamp = self.producer
        if self.kind is not EntryKind.PRODUCER_EPOCH or stamp is None:
            return None
        payload = self.payload
        (holder,) = _HOLDER.unpack_from(payload)
        name = payload[_HOLDER.size :].decode()
        return Opening(stamp.producer_id, stamp.epoch, stamp.sequence, name, holder)

    @property
    def ring_change(self) -> RingChange | None:
        """What it says of the ring."""
        if self.kind < EntryKind.RING_PLAN:
            return None
        return change_of(self.kind, self.payload)

    @property
    def size_bytes(self) -> int:
        """The length of the record."""
        return len(self.record)

    @property
    def keys_have_tokens(self) -> bool:
        """Whether its keys begin with the token of their source; those of version 1 do not."""
        return self.record[FRONT.start] != DIGEST_KEYS_VERSION

    @property
    def keys(self) -> bytes:
        """The packed keys, 16 bytes an event."""
        return self.record[HEADER_BYTES : HEADER_BYTES + limits.KEY_BYTES * self.count]

    @property
    def payload(self) -> bytes:
        """The CBOR array of events, opaque here."""
        return self.record[HEADER_BYTES + limits.KEY_BYTES * self.count :]


def seal(
    *,
    index: int,
    term: int,
    kind: EntryKind,
    base_offset: int,
    log_time_ms: int,
    count: int = 0,
    keys: bytes = b"",
    payload: bytes = b"",
    producer: ProducerStamp | None = None,
    partition: int = 0,
) -> Entry:
    """Encode a new entry; `keys` holds 16 bytes for each of its `count` events."""
    assert len(keys) == limits.KEY_BYTES * count
    stamp = producer or _NO_PRODUCER
    header = _HEADER.pack(
        0,
        RECORD_VERSION,
        kind,
        partition,
        index,
        term,
        base_offset,
        log_time_ms,
        count,
        stamp.producer_id,
        stamp.epoch,
        stamp.sequence,
        stamp.covered,
        len(payload),
    )
    covered = header[_AFTER_CRC:]
    crc = google_crc32c.extend(google_crc32c.extend(google_crc32c.value(covered), keys), payload)
    record = b"".join((crc.to_bytes(4, "big"), covered, keys, payload))
    return Entry(index, term, kind, base_offset, count, log_time_ms, partition, producer, record)


def parse(record: bytes) -> Entry:
    """Decode a record; raises `DamagedRecord` when its bytes are not what was sealed.

    Raises `NewerFormat` when they are, and only a newer version knows what they mean.
    """
    if len(record) < HEADER_BYTES:
        raise DamagedRecord(f"a record of {len(record)} bytes is shorter than its header")
    (
        crc,
        version,
        kind,
        partition,
        index,
        term,
        base_offset,
        log_time_ms,
        count,
        producer_id,
        epoch,
        sequence,
        covered,
        payload_len,
    ) = _HEADER.unpack_from(record)
    if google_crc32c.value(record[_AFTER_CRC:]) != crc:
        raise DamagedRecord(f"the checksum of the record that claims index {index} does not match")
    if version not in (DIGEST_KEYS_VERSION, RECORD_VERSION):
        refuse_newer(f"the record of index {index}", version, RECORD_VERSION)
        raise DamagedRecord(f"record version {version} is not {RECORD_VERSION}")
    if len(record) != HEADER_BYTES + limits.KEY_BYTES * count + payload_len:
        raise DamagedRecord(f"the record of index {index} has {len(record)} bytes, not what it says")
    try:
        known_kind = EntryKind(kind)
    except ValueError:
        raise newer(f"the record of index {index} is of the kind {kind}, which is not known here") from None
    producer = ProducerStamp(producer_id, epoch, sequence, covered) if producer_id else None
    entry = Entry(index, term, known_kind, base_offset, count, log_time_ms, partition, producer, record)
    if known_kind is EntryKind.PRODUCER_EPOCH:
        _check_opening(entry)
    elif known_kind in _RING_CHANGES:
        change_of(kind, entry.payload)
    return entry


def seal_ring_change(
    change: RingChange, keys: bytes = b"", *, index: int, term: int, base_offset: int, log_time_ms: int
) -> Entry:
    """Encode the entry that says `change`; `keys` are the adopted ones, 16 bytes each."""
    kind, payload = kind_and_payload(change)
    return seal(
        index=index,
        term=term,
        kind=kind,
        base_offset=base_offset,
        log_time_ms=log_time_ms,
        count=len(keys) // limits.KEY_BYTES,
        keys=keys,
        payload=payload,
    )


def seal_opening(opening: Opening, *, index: int, term: int, base_offset: int, log_time_ms: int) -> Entry:
    """Encode the entry that opens a producer session, or goes on with one.

    One without a name that begins is the kind that every version knows.
    """
    if opening == Opening(index, FIRST_EPOCH, 0):
        return seal(
            index=index,
            term=term,
            kind=EntryKind.PRODUCER,
            base_offset=base_offset,
            log_time_ms=log_time_ms,
        )
    return seal(
        index=index,
        term=term,
        kind=EntryKind.PRODUCER_EPOCH,
        base_offset=base_offset,
        log_time_ms=log_time_ms,
        payload=_HOLDER.pack(opening.holder) + opening.name.encode(),
        producer=ProducerStamp(opening.producer_id, opening.epoch, opening.next_sequence, 0),
    )


def kind_and_payload(change: RingChange) -> tuple[EntryKind, bytes]:
    """Of the entry that says `change`."""
    return _KIND_OF_CHANGE[type(change)], ringpayload.pack(change)


def change_of(kind: int, payload: bytes) -> RingChange:
    """What the payload of an entry of this kind says of the ring; raises `DamagedRecord`."""
    try:
        return ringpayload.unpack(_RING_CHANGES[EntryKind(kind)], payload)
    except (ValueError, KeyError) as error:
        raise DamagedRecord(f"an entry of the kind {kind} says nothing of the ring") from error


def _check_opening(entry: Entry) -> None:
    """That `Entry.opening` can be told."""
    stamp = entry.producer
    there_can_be = (
        stamp is not None
        and stamp.epoch > 0
        and max(stamp.producer_id, stamp.sequence) <= limits.MAX_INDEX
        and not entry.count
        and len(entry.payload) >= _HOLDER.size
    )
    if not there_can_be:
        raise DamagedRecord(f"the record of index {entry.index} opens no producer session that there can be")
    name = entry.payload[_HOLDER.size :]
    try:
        name.decode()
    except UnicodeDecodeError:
        raise DamagedRecord(f"the name of the producer of index {entry.index} is not UTF-8") from None
    if len(name) > limits.MAX_PRODUCER_NAME_BYTES:
        raise DamagedRecord(f"the name of the producer of index {entry.index} has {len(name)} bytes")


_NO_PRODUCER: Final = ProducerStamp(0, 0, 0, 0)
