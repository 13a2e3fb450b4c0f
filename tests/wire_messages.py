"""Hypothesis strategies: any message that an honest process may send, by type; and the frames of liars."""

import struct
from dataclasses import replace
from typing import Any

import cbor2
from hypothesis import strategies as st

from esnode import limits
from esnode.dedup.batch import Batch, OffsetRange, ProducerStamp
from esnode.dedup.keywindow import CHUNK_BYTES, CHUNK_KEYS
from esnode.messages import PROTOCOL_VERSION, Append, Appended, Hello, LeaderIs, Records, Side
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.messages import AppendEntries, Heartbeat, HeartbeatReply, LogPoint
from esnode.wire import CODECS, FrameReader, Message, fields
from esnode.wire.chunks import FetchKeys, Fragment, KeyChunk, SnapshotChunk
from esnode.wire.table import TABLE

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
terms = st.integers(0, limits.MAX_TERM)
indexes = st.integers(0, limits.MAX_INDEX)
sent_after = st.integers(-1, limits.MAX_INDEX)
partitions = st.integers(0, 2**16 - 1)
versions = st.sampled_from((0, 1, PROTOCOL_VERSION, PROTOCOL_VERSION + 1, 2**16 - 1))
digests = st.one_of(st.just(b""), st.binary(min_size=16, max_size=16))
indexes_of_chunks = st.integers(0, limits.MAX_INDEX // CHUNK_KEYS)
asked_digests = st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=32).map(tuple)
names = st.text(max_size=60)
codes = st.sampled_from(["ES1101", "ES1203", "ES2001"])
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
maps = st.dictionaries(st.text(max_size=9), plain, max_size=5)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """A batch, with or without a stamp."""
    encoded = draw(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
    count = len(encoded)
    keys = draw(st.binary(min_size=16 * count, max_size=16 * count))
    stamp = draw(
        st.none() | st.builds(ProducerStamp, st.integers(1, limits.MAX_INDEX), u32, indexes, st.just(count))
    )
    partition, sent_to = draw(partitions), draw(partitions)
    elsewhere = None if sent_to == partition else sent_to
    return Batch(count, keys, cbor2.dumps(encoded), stamp, partition, draw(sent_after), elsewhere)


@st.composite
def entries(
    draw: st.DrawFn, index: int = 1, term: int = limits.MAX_TERM, after: Entry | None = None
) -> Entry:
    """An entry of `index` and at most `term` that may follow the entry `after`."""
    batch = draw(st.none() | batches())
    return seal(
        index=index,
        term=draw(st.integers(after.term if after else 1, term)),
        kind=EntryKind.NOOP if batch is None else EntryKind.BATCH,
        base_offset=after.next_offset if after else draw(st.integers(0, 2**40)),
        log_time_ms=(after.log_time_ms if after else 0) + draw(st.integers(0, 2**40)),
        count=batch.count if batch else 0,
        keys=batch.keys if batch else b"",
        payload=batch.payload if batch else b"",
        producer=batch.producer if batch else None,
    )


def points(term: int) -> st.SearchStrategy[LogPoint]:
    """What a node may have applied in `term`."""
    known = st.integers(-1, limits.MAX_INDEX)
    return st.builds(LogPoint, indexes, st.integers(0, term), known, st.integers(-1, 2**63 - 1))


@st.composite
def heartbeats(draw: st.DrawFn) -> Heartbeat:
    """A `Heartbeat`."""
    term = draw(terms)
    return Heartbeat(term, draw(indexes), draw(u64), draw(points(term)))


@st.composite
def heartbeat_replies(draw: st.DrawFn) -> HeartbeatReply:
    """A `HeartbeatReply`."""
    term = draw(terms)
    return HeartbeatReply(term, draw(u64), draw(points(term)))


@st.composite
def appends_of_entries(draw: st.DrawFn) -> AppendEntries:
    """An `AppendEntries` whose entries follow its `prev_index`, and each other."""
    prev_index = draw(st.integers(0, 2**40))
    term = draw(st.integers(1, limits.MAX_TERM))
    following: list[Entry] = []
    for number in range(draw(st.integers(0, 4))):
        following.append(draw(entries(prev_index + 1 + number, term, following[-1] if following else None)))
    most = following[0].term if following else term
    prev_term = draw(st.integers(1, most)) if prev_index else 0
    return AppendEntries(term, prev_index, prev_term, draw(indexes), tuple(following))


@st.composite
def answers(draw: st.DrawFn) -> Appended:
    """An `Appended`."""
    counts = draw(st.lists(st.integers(1, 100), max_size=10))
    ranges = tuple(OffsetRange(draw(indexes | st.just(-1)), count) for count in counts)
    return Appended(draw(u64), ranges, draw(st.integers(0, sum(counts))))


@st.composite
def snapshot_chunks(draw: st.DrawFn) -> SnapshotChunk:
    """A chunk within its total."""
    data = draw(st.binary(min_size=1, max_size=200))
    position = draw(st.integers(0, 2**20))
    total = position + len(data) + draw(st.integers(0, 2**20))
    log_time_ms = draw(st.integers(0, 2**63 - 1))
    term = draw(st.integers(1, limits.MAX_TERM))
    place = (draw(st.integers(1, limits.MAX_INDEX)), draw(st.integers(1, term)), draw(indexes))
    return SnapshotChunk(term, *place, log_time_ms, total, position, data)


@st.composite
def fragments(draw: st.DrawFn) -> Fragment:
    """A part within its total."""
    data = draw(st.binary(min_size=1, max_size=200))
    position = draw(st.integers(0, 2**20))
    return Fragment(position + len(data) + draw(st.integers(0, 2**20)), position, data)


@st.composite
def hellos(draw: st.DrawFn) -> Hello:
    """A `Hello`: a client's, or one of other versions, has only what every version has."""
    side, least, most = draw(st.sampled_from(Side)), draw(versions), draw(versions)
    common: list[Any] = [draw(each) for each in (names, u32, u32, u64, digests, st.booleans())]
    if not least <= PROTOCOL_VERSION <= most:
        return Hello(side, least, most, *common)
    partition = draw(partitions)
    if side is Side.CLIENT:
        return replace(Hello(side, least, most, *common), partition=partition)
    of_nodes = (digests, names, digests, names, indexes, indexes)
    own: list[Any] = [*(draw(each) for each in of_nodes), partition]
    return Hello(side, least, most, *common, *own)


KINDS: dict[Any, st.SearchStrategy[Any]] = {
    fields.CODE: codes,
    fields.TEXT: st.text(max_size=99),
    fields.VERSION: versions,
    fields.truth: st.booleans(),
    fields.key: st.binary(min_size=16, max_size=16),
    fields.plain_map: maps,
    fields.plain_maps: st.lists(maps, max_size=3),
    fields.nodes: st.lists(u32, max_size=5),
    fields.parameters: st.dictionaries(names, st.integers(-(2**63), 2**63 - 1), max_size=3),
    fields.byte_strings: st.lists(st.binary(max_size=99), max_size=4),
    fields.ring_change: st.binary(max_size=64),
    fields.adopted_keys: st.integers(0, 20).flatmap(lambda n: st.binary(min_size=16 * n, max_size=16 * n)),
    fields.snapshot_piece: st.binary(max_size=200),
}


def of_kind(kind: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this kind may have."""
    if kind in KINDS:
        return KINDS[kind]
    return st.integers(kind.low, kind.high) if isinstance(kind, fields.Number) else names


MESSAGES: dict[type[Any], st.SearchStrategy[Any]] = {
    **{codec.message: st.builds(codec.message, *map(of_kind, codec.kinds)) for codec in TABLE if codec.kinds},
    Hello: hellos(),
    LeaderIs: st.builds(LeaderIs, terms, u32, names, indexes, u32, st.integers(1, limits.MAX_PARTITIONS)),
    Append: st.builds(Append, u64, batches(), u32),
    Appended: answers(),
    Records: st.builds(
        Records,
        u64,
        indexes,
        indexes,
        st.integers(-1, 2**63 - 1),
        st.lists(entries().map(lambda e: e.record), max_size=4).map(tuple),
    ),
    AppendEntries: appends_of_entries(),
    Heartbeat: heartbeats(),
    HeartbeatReply: heartbeat_replies(),
    SnapshotChunk: snapshot_chunks(),
    Fragment: fragments(),
    FetchKeys: st.builds(FetchKeys, indexes_of_chunks, asked_digests),
    KeyChunk: st.builds(
        KeyChunk, indexes_of_chunks, st.sampled_from((b"", b"12345678" * (CHUNK_BYTES // 8)))
    ),
}


def number_of(cls: type[Message]) -> int:
    """The byte that says what a frame is."""
    return CODECS[cls].number


def messages() -> st.SearchStrategy[Message]:
    """Any message of any type."""
    return st.one_of(*MESSAGES.values())


def frame(frame_type: int, body: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(body), frame_type) + body


def decode(data: bytes) -> list[Message]:
    return FrameReader().feed(data)


def keyed(count: int, payload: bytes, payload_len: int | None = None, keys: int | None = None) -> bytes:
    """An Append frame with whatever counts a liar writes."""
    size = len(payload) if payload_len is None else payload_len
    head = struct.pack(">QIHIqQIQII", 1, 0, 0, count, -1, 0, 0, 0, 0, size)
    return frame(number_of(Append), head + bytes(16 * (count if keys is None else keys)) + payload)
