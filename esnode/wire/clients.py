"""The frequent messages between clients and nodes that end in bytes: a fixed struct, then these as they are.

Decides the layout of each and refuses what no honest sender sends: counts that do not match their
bytes, offsets over the limit, a payload of another shape. Payloads and records stay opaque. `*_parts` gives
the body; a `decode_*` reads the body `data[start:end]`. Called by `table`.
"""

import struct
from typing import Final

from esnode import limits
from esnode.dedup.batch import ARRAY_HEADS, UNKNOWN_OFFSET, Batch, OffsetRange, ProducerStamp
from esnode.errors import ProtocolError
from esnode.messages import Append, Appended, LeaderIs, Records
from esnode.wire.layout import (
    after,
    check_indexes,
    check_terms,
    pack_records,
    split_records,
)

# request_id | run | partition | count | sent_after | sent_to | producer_id | epoch | sequence | covered
# | payload_len
_APPEND: Final = struct.Struct(">QIHIqHQIQII")
# request_id | duplicates | number of ranges, then base_offset and count of each
_APPENDED: Final = struct.Struct(">QII")
_RANGE: Final = struct.Struct(">qI")
# request_id | first_offset | next_offset | silence_ms | number of records, then length and bytes of each
_RECORDS: Final = struct.Struct(">QQQqI")
# term | leader | next_offset | ring_version | partitions | length of the address, then the address
_LEADER_IS: Final = struct.Struct(">QIQIHH")


def check_payload(count: int, payload: bytes) -> None:
    """That `payload` is an array of exactly `count` byte strings, each within the limit.

    Hops from length to length and looks into no event: whoever takes a batch apart later, on any
    node or reader, can rely on its shape. Raises `ProtocolError`.
    """
    head = ARRAY_HEADS[count]
    if not payload.startswith(head):
        raise ProtocolError(f"the payload is not a CBOR array of {count} items")
    position = len(head)
    try:
        for _ in range(count):
            kind = payload[position]
            if kind == 0x58:
                position += 2 + payload[position + 1]
            elif kind == 0x59:
                position += 3 + (payload[position + 1] << 8 | payload[position + 2])
            elif 0x40 <= kind < 0x58:
                position += 1 + kind - 0x40
            elif kind == 0x5A:
                position += 5 + _long_event(payload[position + 1 : position + 5])
            else:
                raise ProtocolError("the payload holds something else than byte strings")
    except IndexError:
        raise ProtocolError("the payload ends within an event") from None
    if position != len(payload):
        raise ProtocolError(f"the payload has {len(payload)} bytes, its events take {position}")


def _long_event(length: bytes) -> int:
    size = int.from_bytes(length, "big")
    if size > limits.MAX_EVENT_BYTES:
        raise ProtocolError(
            f"an event of {size} bytes is over the limit of {limits.MAX_EVENT_BYTES} (MAX_EVENT_BYTES)"
        )
    return size


def append_parts(message: Append) -> list[bytes]:
    """The body of an `Append`, its content as it is; without a producer the stamp is zeros."""
    batch = message.batch
    stamp = batch.producer
    payload = batch.payload
    head = _APPEND.pack(
        message.request_id,
        message.run,
        batch.partition,
        batch.count,
        batch.sent_after,
        batch.partition if batch.sent_to is None else batch.sent_to,
        stamp.producer_id if stamp else 0,
        stamp.epoch if stamp else 0,
        stamp.sequence if stamp else 0,
        stamp.covered if stamp else 0,
        len(payload),
    )
    return [head, batch.keys, payload]


def decode_append(data: bytes, start: int, end: int) -> Append:
    """The `Append` at `data[start:end]`; raises `ProtocolError`."""
    keys_start = after("Append", start, _APPEND.size, end)
    request_id, run, partition, count, sent_after, sent_to, *stamped, payload_len = _APPEND.unpack_from(
        data, start
    )
    producer_id, epoch, sequence, covered = stamped
    if not UNKNOWN_OFFSET <= sent_after <= limits.MAX_INDEX:
        raise ProtocolError(f"a batch that was sent after offset {sent_after} has no meaning")
    if not 0 < count <= limits.MAX_BATCH_EVENTS:
        raise ProtocolError(
            f"a batch of {count} events is not within 1 to {limits.MAX_BATCH_EVENTS} (MAX_BATCH_EVENTS)"
        )
    if payload_len > limits.MAX_BATCH_BYTES:
        raise ProtocolError(
            f"a payload of {payload_len} bytes is over the limit of"
            f" {limits.MAX_BATCH_BYTES} (MAX_BATCH_BYTES)"
        )
    payload_start = keys_start + limits.KEY_BYTES * count
    if payload_start + payload_len != end:
        raise ProtocolError(f"an Append of {count} keys and {payload_len} payload bytes has a wrong size")
    stamp = None
    if producer_id:
        check_indexes(producer_id, sequence)
        if covered != count:
            raise ProtocolError(f"a stamp that covers {covered} events is on a batch of {count}")
        stamp = ProducerStamp(producer_id, epoch, sequence, covered)
    elif epoch or sequence or covered:
        raise ProtocolError("a batch without a producer has a sequence")
    payload = data[payload_start:end]
    check_payload(count, payload)
    elsewhere = None if sent_to == partition else sent_to
    keys = data[keys_start:payload_start]
    batch = Batch(count, keys, payload, stamp, partition, sent_after, elsewhere)
    return Append(request_id, batch, run)


def appended_parts(message: Appended) -> list[bytes]:
    """The body of an `Appended`."""
    ranges = message.ranges
    head = _APPENDED.pack(message.request_id, message.duplicates, len(ranges))
    return [head, *[_RANGE.pack(part.base_offset, part.count) for part in ranges]]


def decode_appended(data: bytes, start: int, end: int) -> Appended:
    """The `Appended` at `data[start:end]`; raises `ProtocolError`."""
    at = after("Appended", start, _APPENDED.size, end)
    request_id, duplicates, number = _APPENDED.unpack_from(data, start)
    if at + _RANGE.size * number != end:
        raise ProtocolError(f"an Appended of {number} ranges has a wrong size")
    ranges = []
    events = 0
    for position in range(at, end, _RANGE.size):
        base_offset, count = _RANGE.unpack_from(data, position)
        check_indexes(base_offset)
        if base_offset < UNKNOWN_OFFSET:
            raise ProtocolError(f"an Appended has a range at the offset {base_offset}")
        if not count:
            raise ProtocolError("an Appended has an empty range")
        events += count
        ranges.append(OffsetRange(base_offset, count))
    if not duplicates <= events <= limits.MAX_BATCH_EVENTS:
        raise ProtocolError(f"an Appended counts {duplicates} duplicates among {events} events")
    return Appended(request_id, tuple(ranges), duplicates)


def records_parts(message: Records) -> list[bytes]:
    """The body of `Records`."""
    head = _RECORDS.pack(
        message.request_id,
        message.first_offset,
        message.next_offset,
        message.silence_ms,
        len(message.records),
    )
    return [head, *pack_records(message.records)]


def decode_records(data: bytes, start: int, end: int) -> Records:
    """The `Records` at `data[start:end]`; raises `ProtocolError`. Their checksums are the reader's."""
    at = after("Records", start, _RECORDS.size, end)
    request_id, first_offset, next_offset, silence_ms, number = _RECORDS.unpack_from(data, start)
    check_indexes(first_offset, next_offset)
    if silence_ms < -1:
        raise ProtocolError(f"a silence of {silence_ms} ms has no meaning")
    records = tuple(split_records(data, at, end, number))
    return Records(request_id, first_offset, next_offset, silence_ms, records)


def leader_is_parts(message: LeaderIs) -> list[bytes]:
    """The body of a `LeaderIs`."""
    address = message.address.encode()
    ring = message.ring_version, message.partitions
    return [
        _LEADER_IS.pack(message.term, message.leader, message.next_offset, *ring, len(address)),
        address,
    ]


def decode_leader_is(data: bytes, start: int, end: int) -> LeaderIs:
    """The `LeaderIs` at `data[start:end]`; raises `ProtocolError`."""
    at = after("LeaderIs", start, _LEADER_IS.size, end)
    term, leader, next_offset, ring_version, partitions, length = _LEADER_IS.unpack_from(data, start)
    check_terms(term)
    check_indexes(next_offset)
    if not 0 < partitions <= limits.MAX_PARTITIONS:
        raise ProtocolError(f"there is no ring of {partitions} partitions")
    if at + length != end:
        raise ProtocolError(f"a LeaderIs with an address of {length} bytes has a wrong size")
    try:
        return LeaderIs(term, leader, data[at:end].decode(), next_offset, ring_version, partitions)
    except UnicodeDecodeError as error:
        raise ProtocolError(f"the address in a LeaderIs is not UTF-8: {error.reason}") from error
