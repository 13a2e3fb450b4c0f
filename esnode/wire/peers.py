"""The messages between the nodes that are no plain numbers: a fixed struct, then records as they are stored.

Decides the layout of each and refuses what no honest node sends: a term or index over the limit,
entries out of order, a record whose checksum does not match. `*_parts` gives the body; a `decode_*` reads
the body `data[start:end]`. Called by `table`.
"""

import struct
from collections.abc import Sequence
from typing import Final

from esnode import limits
from esnode.dedup.keychunk import DIGEST_BYTES
from esnode.dedup.keywindow import CHUNK_BYTES
from esnode.errors import NewerFormat, NewerPeer, ProtocolError
from esnode.raft.entry import Entry, EntryKind, parse
from esnode.raft.messages import (
    UNKNOWN,
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    LogPoint,
    TimeoutNow,
)
from esnode.wire.chunks import FetchKeys, Fragment, KeyChunk, SnapshotChunk
from esnode.wire.layout import (
    MAX_LOG_TIME_MS,
    after,
    check_indexes,
    check_terms,
    exactly,
    pack_records,
    split_records,
)

# term | prev_index | prev_term | commit | number of entries, then length and record of each
_ENTRIES: Final = struct.Struct(">QQQQI")
# term | commit | probe | applied: index | term | next_offset | log_time_ms
_HEARTBEAT: Final = struct.Struct(">QQQQQqq")
# term | probe | applied: index | term | next_offset | log_time_ms
_HEARTBEAT_REPLY: Final = struct.Struct(">QQQQqq")
# term | index | snapshot_term | next_offset | log_time_ms | total_bytes | position, then the data
_CHUNK: Final = struct.Struct(">QQQQQQQ")
# first_chunk, then the digests
_FETCH_KEYS: Final = struct.Struct(">Q")
# number, then the keys
_KEY_CHUNK: Final = struct.Struct(">Q")
# term
_TIMEOUT_NOW: Final = struct.Struct(">Q")
_ASKED: Final = b"\x01"
# total_bytes | position, then the data
_FRAGMENT: Final = struct.Struct(">II")


def append_entries_parts(message: AppendEntries) -> list[bytes]:
    """The body of an `AppendEntries`; the records go out as the bytes that are stored."""
    entries = message.entries
    head = _ENTRIES.pack(message.term, message.prev_index, message.prev_term, message.commit, len(entries))
    return [head, *pack_records([entry.record for entry in entries])]


def decode_append_entries(data: bytes, start: int, end: int) -> AppendEntries:
    """The `AppendEntries` at `data[start:end]`; raises `ProtocolError`, `NewerPeer` or `DamagedRecord`."""
    at = after("AppendEntries", start, _ENTRIES.size, end)
    term, prev_index, prev_term, commit, number = _ENTRIES.unpack_from(data, start)
    check_terms(term, prev_term)
    check_indexes(prev_index, commit)
    if prev_term > term or (prev_index == 0) != (prev_term == 0):
        raise ProtocolError(f"nothing in term {term} can follow index {prev_index} of term {prev_term}")
    entries: list[Entry] = []
    index = prev_index
    for record in split_records(data, at, end, number):
        try:
            entry = parse(record)
        except NewerFormat as error:
            raise NewerPeer(str(error)) from error
        index += 1
        if entry.index != index or not 0 < entry.term <= term:
            raise ProtocolError(
                f"an entry of index {entry.index} and term {entry.term} came as index {index} in term {term}"
            )
        most = limits.MAX_ADOPTED_KEYS if entry.kind is EntryKind.ADOPTION else limits.MAX_BATCH_EVENTS
        if entry.log_time_ms > MAX_LOG_TIME_MS or entry.count > most:
            raise ProtocolError(f"the log time or the count of entry {index} is over the limit")
        check_indexes(index, entry.next_offset)
        _check_follows(entry, prev_term, entries)
        entries.append(entry)
    return AppendEntries(term, prev_index, prev_term, commit, tuple(entries))


def _check_follows(entry: Entry, prev_term: int, before: Sequence[Entry]) -> None:
    """That some honest log holds this entry after those: what is wrong in itself never reaches the core."""
    if entry.count and entry.kind not in (EntryKind.BATCH, EntryKind.ADOPTION):
        raise ProtocolError(f"entry {entry.index} of the kind {entry.kind.name} holds events")
    if entry.partition >= limits.MAX_PARTITIONS:
        raise ProtocolError(f"entry {entry.index} is for partition {entry.partition}: there is none")
    if entry.term < (before[-1].term if before else prev_term):
        raise ProtocolError(f"entry {entry.index} of term {entry.term} cannot follow a later term")
    if before and entry.base_offset != before[-1].next_offset:
        raise ProtocolError(f"entry {entry.index} does not follow: it begins at offset {entry.base_offset}")
    if before and entry.log_time_ms < before[-1].log_time_ms:
        raise ProtocolError(f"entry {entry.index} does not follow: log time falls")


def heartbeat_parts(message: Heartbeat) -> list[bytes]:
    """The body of a `Heartbeat`."""
    return [_HEARTBEAT.pack(message.term, message.commit, message.probe, *_point(message.applied))]


def decode_heartbeat(data: bytes, start: int, end: int) -> Heartbeat:
    """The `Heartbeat` at `data[start:end]`; raises `ProtocolError`."""
    exactly("Heartbeat", start, _HEARTBEAT.size, end)
    term, commit, probe, *applied = _HEARTBEAT.unpack_from(data, start)
    check_terms(term)
    check_indexes(commit)
    return Heartbeat(term, commit, probe, _checked_point(term, *applied))


def heartbeat_reply_parts(message: HeartbeatReply) -> list[bytes]:
    """The body of a `HeartbeatReply`."""
    return [_HEARTBEAT_REPLY.pack(message.term, message.probe, *_point(message.applied))]


def decode_heartbeat_reply(data: bytes, start: int, end: int) -> HeartbeatReply:
    """The `HeartbeatReply` at `data[start:end]`; raises `ProtocolError`."""
    exactly("HeartbeatReply", start, _HEARTBEAT_REPLY.size, end)
    term, probe, *applied = _HEARTBEAT_REPLY.unpack_from(data, start)
    check_terms(term)
    return HeartbeatReply(term, probe, _checked_point(term, *applied))


def _point(point: LogPoint) -> tuple[int, int, int, int]:
    return point.index, point.term, point.next_offset, point.log_time_ms


def _checked_point(in_term: int, index: int, term: int, next_offset: int, log_time_ms: int) -> LogPoint:
    """What the sender of a message of `in_term` has applied."""
    check_indexes(index, max(0, next_offset))
    if min(next_offset, log_time_ms) < UNKNOWN:
        raise ProtocolError(f"offset {next_offset} and log time {log_time_ms} are none")
    if term > in_term:
        raise ProtocolError(f"entry {index} of term {term} was applied, it is said, in term {in_term}")
    return LogPoint(index, term, next_offset, log_time_ms)


def snapshot_chunk_parts(message: SnapshotChunk) -> list[bytes]:
    """The body of a `SnapshotChunk`."""
    head = _CHUNK.pack(
        message.term,
        message.index,
        message.snapshot_term,
        message.next_offset,
        message.log_time_ms,
        message.total_bytes,
        message.position,
    )
    return [head, message.data]


def decode_snapshot_chunk(data: bytes, start: int, end: int) -> SnapshotChunk:
    """The `SnapshotChunk` at `data[start:end]`; raises `ProtocolError`."""
    at = after("SnapshotChunk", start, _CHUNK.size, end)
    term, index, snapshot_term, next_offset, log_time_ms, total_bytes, position = _CHUNK.unpack_from(
        data, start
    )
    check_terms(term, snapshot_term)
    check_indexes(index, next_offset)
    if not 0 < snapshot_term <= term or not index:
        raise ProtocolError(f"a snapshot of index {index} and term {snapshot_term} came in term {term}")
    if total_bytes > limits.MAX_SNAPSHOT_BYTES:
        raise ProtocolError(
            f"a snapshot of {total_bytes} bytes is over the limit of"
            f" {limits.MAX_SNAPSHOT_BYTES} (MAX_SNAPSHOT_BYTES)"
        )
    size = end - at
    if size > limits.SNAPSHOT_CHUNK_BYTES or position + size > total_bytes or (total_bytes and not size):
        raise ProtocolError(f"a snapshot chunk of {size} bytes at {position} of {total_bytes} is not valid")
    if log_time_ms > MAX_LOG_TIME_MS:
        raise ProtocolError(f"the log time {log_time_ms} is over the limit")
    return SnapshotChunk(
        term, index, snapshot_term, next_offset, log_time_ms, total_bytes, position, data[at:end]
    )


def fetch_keys_parts(message: FetchKeys) -> list[bytes]:
    """The body of a `FetchKeys`."""
    return [_FETCH_KEYS.pack(message.first_chunk), *message.digests]


def decode_fetch_keys(data: bytes, start: int, end: int) -> FetchKeys:
    """The `FetchKeys` at `data[start:end]`; raises `ProtocolError`."""
    at = after("FetchKeys", start, _FETCH_KEYS.size, end)
    (first_chunk,) = _FETCH_KEYS.unpack_from(data, start)
    count, rest = divmod(end - at, DIGEST_BYTES)
    if rest or not 0 < count <= limits.FETCHED_CHUNKS:
        raise ProtocolError(f"{end - at} bytes are not the digests of 1 to {limits.FETCHED_CHUNKS} chunks")
    check_indexes(first_chunk + count)
    digests = tuple(data[place : place + DIGEST_BYTES] for place in range(at, end, DIGEST_BYTES))
    return FetchKeys(first_chunk, digests)


def key_chunk_parts(message: KeyChunk) -> list[bytes]:
    """The body of a `KeyChunk`."""
    return [_KEY_CHUNK.pack(message.number), message.keys]


def decode_key_chunk(data: bytes, start: int, end: int) -> KeyChunk:
    """The `KeyChunk` at `data[start:end]`; raises `ProtocolError`."""
    at = after("KeyChunk", start, _KEY_CHUNK.size, end)
    (number,) = _KEY_CHUNK.unpack_from(data, start)
    check_indexes(number)
    if end - at not in (0, CHUNK_BYTES):
        raise ProtocolError(f"a chunk of keys of {end - at} bytes came, not one of {CHUNK_BYTES}")
    return KeyChunk(number, data[at:end])


def fragment_parts(message: Fragment) -> list[bytes]:
    """The body of a `Fragment`."""
    return [_FRAGMENT.pack(message.total_bytes, message.position), message.data]


def decode_fragment(data: bytes, start: int, end: int) -> Fragment:
    """The `Fragment` at `data[start:end]`; raises `ProtocolError`."""
    at = after("Fragment", start, _FRAGMENT.size, end)
    total_bytes, position = _FRAGMENT.unpack_from(data, start)
    if total_bytes > limits.MAX_FRAME_BYTES:
        raise ProtocolError(
            f"a frame of {total_bytes} bytes is over the limit of {limits.MAX_FRAME_BYTES} (MAX_FRAME_BYTES)"
        )
    if at == end or position + end - at > total_bytes:
        raise ProtocolError(f"a fragment of {end - at} bytes at {position} of {total_bytes} is not valid")
    return Fragment(total_bytes, position, data[at:end])


def timeout_now_parts(message: TimeoutNow) -> list[bytes]:
    """The body of a `TimeoutNow`: the byte that says who asked is left out where nobody did."""
    return [_TIMEOUT_NOW.pack(message.term) + _ASKED * message.asked]


def decode_timeout_now(data: bytes, start: int, end: int) -> TimeoutNow:
    """The `TimeoutNow` at `data[start:end]`; raises `ProtocolError`."""
    at = after("TimeoutNow", start, _TIMEOUT_NOW.size, end)
    (term,) = _TIMEOUT_NOW.unpack_from(data, start)
    check_terms(term)
    rest = bytes(data[at:end])
    if rest not in {b"", _ASKED}:
        raise ProtocolError(f"what follows the term of TimeoutNow is {rest[:8].hex()}, not 01")
    return TimeoutNow(term, bool(rest))
