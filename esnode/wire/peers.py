"""The messages between the nodes: fixed structs, then the records as they are stored.

Decides the layout of each and refuses what no honest node sends: a term or index over the limit,
entries out of order, a record whose checksum does not match. An `encode_*` gives the whole frame; a
`decode_*` reads the body `data[start:end]`. Called by `frames`.
"""

from collections.abc import Sequence

from esnode import limits
from esnode.errors import NewerFormat, NewerPeer, ProtocolError
from esnode.raft.entry import Entry, EntryKind, parse
from esnode.raft.messages import (
    UNKNOWN,
    AppendEntries,
    AppendReject,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    LogPoint,
    Rejoin,
    RejoinReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from esnode.wire.chunks import Fragment, SnapshotChunk
from esnode.wire.layout import (
    LENGTH_BYTES,
    MAX_LOG_TIME_MS,
    FrameType,
    after,
    check_flags,
    check_indexes,
    check_terms,
    exactly,
    layout,
    pack_records,
    split_records,
)

# term | last_index | last_term | flags (1: pre, 2: transfer)
_VOTE, _VOTE_BODY = layout("QQQB")
# term | flags (1: granted, 2: pre)
_VOTE_REPLY, _VOTE_REPLY_BODY = layout("QB")
# term | prev_index | prev_term | commit | number of entries, then length and record of each
_ENTRIES, _ENTRIES_BODY = layout("QQQQI")
# term | match_index
_REPLY, _REPLY_BODY = layout("QQ")
# term | rejected_index | hint_index | hint_term
_REJECT, _REJECT_BODY = layout("QQQQ")
# term | commit | probe | applied: index | term | next_offset | log_time_ms
_HEARTBEAT, _HEARTBEAT_BODY = layout("QQQQQqq")
# term | probe | applied: index | term | next_offset | log_time_ms
_HEARTBEAT_REPLY, _HEARTBEAT_REPLY_BODY = layout("QQQQqq")
# term
_TIMEOUT_NOW, _TIMEOUT_NOW_BODY = layout("Q")
# nonce
_REJOIN, _REJOIN_BODY = layout("Q")
# term | nonce | last_index | last_term | flags (1: sound)
_REJOIN_REPLY, _REJOIN_REPLY_BODY = layout("QQQQB")
# term | index | snapshot_term | next_offset | log_time_ms | total_bytes | position, then the data
_CHUNK, _CHUNK_BODY = layout("QQQQQQQ")
# total_bytes | position, then the data
_FRAGMENT, _FRAGMENT_BODY = layout("II")

# A plain integer packs faster than a member of an enumeration.
_ENTRIES_TYPE = FrameType.APPEND_ENTRIES.value
_REPLY_TYPE = FrameType.APPEND_REPLY.value


def encode_vote_request(message: VoteRequest) -> bytes:
    """The frame of a `VoteRequest`."""
    return _VOTE.pack(
        _VOTE.size - LENGTH_BYTES,
        FrameType.VOTE_REQUEST,
        message.term,
        message.last_index,
        message.last_term,
        message.pre | message.transfer << 1,
    )


def decode_vote_request(data: bytes, start: int, end: int) -> VoteRequest:
    """The `VoteRequest` at `data[start:end]`; raises `ProtocolError`."""
    exactly("VoteRequest", start, _VOTE_BODY.size, end)
    term, last_index, last_term, flags = _VOTE_BODY.unpack_from(data, start)
    check_terms(term, last_term)
    check_indexes(last_index)
    check_flags(flags, known=3)
    return VoteRequest(term, last_index, last_term, bool(flags & 1), bool(flags & 2))


def encode_vote_reply(message: VoteReply) -> bytes:
    """The frame of a `VoteReply`."""
    flags = message.granted | message.pre << 1
    return _VOTE_REPLY.pack(_VOTE_REPLY.size - LENGTH_BYTES, FrameType.VOTE_REPLY, message.term, flags)


def decode_vote_reply(data: bytes, start: int, end: int) -> VoteReply:
    """The `VoteReply` at `data[start:end]`; raises `ProtocolError`."""
    exactly("VoteReply", start, _VOTE_REPLY_BODY.size, end)
    term, flags = _VOTE_REPLY_BODY.unpack_from(data, start)
    check_terms(term)
    check_flags(flags, known=3)
    return VoteReply(term, bool(flags & 1), bool(flags & 2))


def append_entries_parts(message: AppendEntries) -> list[bytes]:
    """The frame of an `AppendEntries` in parts; the records go out as the bytes that are stored."""
    parts = [b"", *pack_records([entry.record for entry in message.entries])]
    parts[0] = _ENTRIES.pack(
        _ENTRIES.size - LENGTH_BYTES + sum(map(len, parts)),
        _ENTRIES_TYPE,
        message.term,
        message.prev_index,
        message.prev_term,
        message.commit,
        len(message.entries),
    )
    return parts


def decode_append_entries(data: bytes, start: int, end: int) -> AppendEntries:
    """The `AppendEntries` at `data[start:end]`; raises `ProtocolError`, `NewerPeer` or `DamagedRecord`."""
    at = after("AppendEntries", start, _ENTRIES_BODY.size, end)
    term, prev_index, prev_term, commit, number = _ENTRIES_BODY.unpack_from(data, start)
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
        if entry.log_time_ms > MAX_LOG_TIME_MS or entry.count > limits.MAX_BATCH_EVENTS:
            raise ProtocolError(f"the log time or the count of entry {index} is over the limit")
        check_indexes(index, entry.next_offset)
        _check_follows(entry, prev_term, entries)
        entries.append(entry)
    return AppendEntries(term, prev_index, prev_term, commit, tuple(entries))


def _check_follows(entry: Entry, prev_term: int, before: Sequence[Entry]) -> None:
    """That some honest log holds this entry after those: what is wrong in itself never reaches the core."""
    if entry.count and entry.kind is not EntryKind.BATCH:
        raise ProtocolError(f"entry {entry.index} of the kind {entry.kind.name} holds events")
    if entry.partition:
        raise ProtocolError(f"entry {entry.index} is for partition {entry.partition}: there is only 0")
    if entry.term < (before[-1].term if before else prev_term):
        raise ProtocolError(f"entry {entry.index} of term {entry.term} cannot follow a later term")
    if before and entry.base_offset != before[-1].next_offset:
        raise ProtocolError(f"entry {entry.index} does not follow: it begins at offset {entry.base_offset}")
    if before and entry.log_time_ms < before[-1].log_time_ms:
        raise ProtocolError(f"entry {entry.index} does not follow: log time falls")


def encode_append_reply(message: AppendReply) -> bytes:
    """The frame of an `AppendReply`."""
    return _REPLY.pack(_REPLY.size - LENGTH_BYTES, _REPLY_TYPE, message.term, message.match_index)


def decode_append_reply(data: bytes, start: int, end: int) -> AppendReply:
    """The `AppendReply` at `data[start:end]`; raises `ProtocolError`."""
    exactly("AppendReply", start, _REPLY_BODY.size, end)
    term, match_index = _REPLY_BODY.unpack_from(data, start)
    check_terms(term)
    check_indexes(match_index)
    return AppendReply(term, match_index)


def encode_append_reject(message: AppendReject) -> bytes:
    """The frame of an `AppendReject`."""
    return _REJECT.pack(
        _REJECT.size - LENGTH_BYTES,
        FrameType.APPEND_REJECT,
        message.term,
        message.rejected_index,
        message.hint_index,
        message.hint_term,
    )


def decode_append_reject(data: bytes, start: int, end: int) -> AppendReject:
    """The `AppendReject` at `data[start:end]`; raises `ProtocolError`."""
    exactly("AppendReject", start, _REJECT_BODY.size, end)
    term, rejected_index, hint_index, hint_term = _REJECT_BODY.unpack_from(data, start)
    check_terms(term, hint_term)
    check_indexes(rejected_index, hint_index)
    return AppendReject(term, rejected_index, hint_index, hint_term)


def encode_heartbeat(message: Heartbeat) -> bytes:
    """The frame of a `Heartbeat`."""
    size = _HEARTBEAT.size - LENGTH_BYTES
    head = (size, FrameType.HEARTBEAT, message.term, message.commit, message.probe)
    return _HEARTBEAT.pack(*head, *_point(message.applied))


def decode_heartbeat(data: bytes, start: int, end: int) -> Heartbeat:
    """The `Heartbeat` at `data[start:end]`; raises `ProtocolError`."""
    exactly("Heartbeat", start, _HEARTBEAT_BODY.size, end)
    term, commit, probe, *applied = _HEARTBEAT_BODY.unpack_from(data, start)
    check_terms(term)
    check_indexes(commit)
    return Heartbeat(term, commit, probe, _checked_point(term, *applied))


def encode_heartbeat_reply(message: HeartbeatReply) -> bytes:
    """The frame of a `HeartbeatReply`."""
    size = _HEARTBEAT_REPLY.size - LENGTH_BYTES
    head = (size, FrameType.HEARTBEAT_REPLY, message.term, message.probe)
    return _HEARTBEAT_REPLY.pack(*head, *_point(message.applied))


def decode_heartbeat_reply(data: bytes, start: int, end: int) -> HeartbeatReply:
    """The `HeartbeatReply` at `data[start:end]`; raises `ProtocolError`."""
    exactly("HeartbeatReply", start, _HEARTBEAT_REPLY_BODY.size, end)
    term, probe, *applied = _HEARTBEAT_REPLY_BODY.unpack_from(data, start)
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


def encode_timeout_now(message: TimeoutNow) -> bytes:
    """The frame of a `TimeoutNow`."""
    return _TIMEOUT_NOW.pack(_TIMEOUT_NOW.size - LENGTH_BYTES, FrameType.TIMEOUT_NOW, message.term)


def decode_timeout_now(data: bytes, start: int, end: int) -> TimeoutNow:
    """The `TimeoutNow` at `data[start:end]`; raises `ProtocolError`."""
    exactly("TimeoutNow", start, _TIMEOUT_NOW_BODY.size, end)
    (term,) = _TIMEOUT_NOW_BODY.unpack_from(data, start)
    check_terms(term)
    return TimeoutNow(term)


def encode_rejoin(message: Rejoin) -> bytes:
    """The frame of a `Rejoin`."""
    return _REJOIN.pack(_REJOIN.size - LENGTH_BYTES, FrameType.REJOIN, message.nonce)


def decode_rejoin(data: bytes, start: int, end: int) -> Rejoin:
    """The `Rejoin` at `data[start:end]`; raises `ProtocolError`."""
    exactly("Rejoin", start, _REJOIN_BODY.size, end)
    (nonce,) = _REJOIN_BODY.unpack_from(data, start)
    return Rejoin(nonce)


def encode_rejoin_reply(message: RejoinReply) -> bytes:
    """The frame of a `RejoinReply`."""
    return _REJOIN_REPLY.pack(
        _REJOIN_REPLY.size - LENGTH_BYTES,
        FrameType.REJOIN_REPLY,
        message.term,
        message.nonce,
        message.last_index,
        message.last_term,
        message.sound,
    )


def decode_rejoin_reply(data: bytes, start: int, end: int) -> RejoinReply:
    """The `RejoinReply` at `data[start:end]`; raises `ProtocolError`."""
    exactly("RejoinReply", start, _REJOIN_REPLY_BODY.size, end)
    term, nonce, last_index, last_term, flags = _REJOIN_REPLY_BODY.unpack_from(data, start)
    check_terms(term, last_term)
    check_indexes(last_index)
    check_flags(flags, known=1)
    return RejoinReply(term, nonce, bool(flags), last_index, last_term)


def encode_snapshot_chunk(message: SnapshotChunk) -> bytes:
    """The frame of a `SnapshotChunk`."""
    head = _CHUNK.pack(
        _CHUNK.size - LENGTH_BYTES + len(message.data),
        FrameType.SNAPSHOT_CHUNK,
        message.term,
        message.index,
        message.snapshot_term,
        message.next_offset,
        message.log_time_ms,
        message.total_bytes,
        message.position,
    )
    return head + message.data


def decode_snapshot_chunk(data: bytes, start: int, end: int) -> SnapshotChunk:
    """The `SnapshotChunk` at `data[start:end]`; raises `ProtocolError`."""
    at = after("SnapshotChunk", start, _CHUNK_BODY.size, end)
    term, index, snapshot_term, next_offset, log_time_ms, total_bytes, position = _CHUNK_BODY.unpack_from(
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


def fragment_parts(total_bytes: int, position: int, data: bytes) -> list[bytes]:
    """The frame of a `Fragment` in parts."""
    size = _FRAGMENT.size - LENGTH_BYTES + len(data)
    return [_FRAGMENT.pack(size, FrameType.FRAGMENT, total_bytes, position), data]


def encode_fragment(message: Fragment) -> bytes:
    """The frame of a `Fragment`."""
    return b"".join(fragment_parts(message.total_bytes, message.position, message.data))


def decode_fragment(data: bytes, start: int, end: int) -> Fragment:
    """The `Fragment` at `data[start:end]`; raises `ProtocolError`."""
    at = after("Fragment", start, _FRAGMENT_BODY.size, end)
    total_bytes, position = _FRAGMENT_BODY.unpack_from(data, start)
    if total_bytes > limits.MAX_FRAME_BYTES:
        raise ProtocolError(
            f"a frame of {total_bytes} bytes is over the limit of {limits.MAX_FRAME_BYTES} (MAX_FRAME_BYTES)"
        )
    if at == end or position + end - at > total_bytes:
        raise ProtocolError(f"a fragment of {end - at} bytes at {position} of {total_bytes} is not valid")
    return Fragment(total_bytes, position, data[at:end])
