"""What goes through the wire comes out the same; what is no message comes out as a declared error."""

import struct
from typing import get_args

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode import limits, messages
from esnode.dedup.batch import Batch, OffsetRange, ProducerStamp
from esnode.errors import DamagedRecord, FrameTooLarge, ProtocolError
from esnode.messages import (
    Append,
    Appended,
    ExplainKey,
    Goodbye,
    Hello,
    Read,
    StatusReply,
    StatusRequest,
)
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.raft.messages import (
    AppendEntries,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    LogPoint,
    PeerMessage,
    Snapshot,
    TimeoutNow,
    VoteRequest,
)
from esnode.wire import CODECS, FrameReader, Message, encode
from esnode.wire.chunks import FetchKeys, Fragment, KeyChunk, SnapshotAssembler, SnapshotChunk, chunks
from esnode.wire.fragments import FragmentAssembler
from esnode.wire.layout import LENGTH_BYTES
from esnode.wire.table import TABLE
from tests.wire_messages import MESSAGES, batches, decode, frame, keyed, number_of
from tests.wire_messages import messages as any_message

DECLARED = (ProtocolError, FrameTooLarge, DamagedRecord)


# --- what is sent arrives -------------------------------------------------------------------------


@given(any_message())
def test_every_message_comes_back_as_it_was_sent(message: Message) -> None:
    reader = FrameReader()
    assert reader.feed(encode(message)) == [message]
    assert not reader.unfinished


def test_every_message_type_has_an_encoding_and_a_test() -> None:
    sent_by_nodes = set(get_args(PeerMessage)) - {InstallSnapshot}
    spoken = {
        *get_args(messages.ClientRequest),
        *get_args(messages.NodeReply),
        messages.Hello,
        messages.Welcome,
        messages.Goodbye,
        messages.LeaderIs,
    }
    assert set(get_args(Message)) == sent_by_nodes | spoken | {SnapshotChunk, Fragment, FetchKeys, KeyChunk}
    assert set(CODECS) == set(get_args(Message)) == set(MESSAGES)


def test_a_row_has_a_number_of_its_own_and_a_kind_for_each_field() -> None:
    assert len({codec.number for codec in TABLE}) == len({codec.message for codec in TABLE}) == len(TABLE)
    for codec in TABLE:
        assert len(codec.kinds) == (len(codec.message.__dataclass_fields__) if codec.kinds else 0)


def test_the_limits_of_a_batch_are_all_right_and_one_more_is_not() -> None:
    most = limits.MAX_BATCH_EVENTS
    full = Append(1, Batch(most, bytes(16 * most), cbor2.dumps([b"e"] * most)))
    assert decode(encode(full)) == [full]
    long = Append(1, Batch(1, bytes(16), cbor2.dumps([bytes(limits.MAX_EVENT_BYTES)])))
    assert decode(encode(long)) == [long]
    with pytest.raises(ProtocolError, match="MAX_BATCH_EVENTS"):
        decode(keyed(most + 1, cbor2.dumps([b"e"] * (most + 1))))
    with pytest.raises(ProtocolError, match="MAX_EVENT_BYTES"):
        decode(keyed(1, cbor2.dumps([bytes(limits.MAX_EVENT_BYTES + 1)])))
    with pytest.raises(ProtocolError, match="MAX_BATCH_BYTES"):
        decode(keyed(5, cbor2.dumps([bytes(limits.MAX_EVENT_BYTES - 9)] * 5)))


# --- what is no frame -----------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_declared_error(data: bytes) -> None:
    reader = FrameReader()
    try:
        found = reader.feed(data)
    except DECLARED:
        return
    assert all(type(message) in CODECS for message in found)


@given(st.sampled_from([codec.number for codec in TABLE]), st.binary(max_size=200))
def test_any_body_of_a_known_type_is_a_message_or_a_declared_error(kind: int, body: bytes) -> None:
    try:
        (message,) = decode(frame(kind, body))
    except DECLARED:
        return
    assert decode(encode(message)) == [message]


@given(any_message(), st.data())
def test_a_flipped_byte_gives_a_message_or_a_declared_error(message: Message, data: st.DataObject) -> None:
    bent = bytearray(encode(message))
    bent[data.draw(st.integers(0, len(bent) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = FrameReader().feed(bytes(bent))
    except DECLARED:
        return
    assert all(type(one) in CODECS for one in found)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "empty"),
        (b"\x07", "no array"),
        (b"\x80", "too short"),
        (b"\x82\x07\x07", "too long"),
        (b"\x81\x07\x00", "trailing byte"),
        (b"\x9f\x07\xff", "indefinite length"),
        (b"\x81\xfb\x40\x1c\x00\x00\x00\x00\x00\x00", "7.0 is no whole number"),
        (b"\x81\xf5", "true is no number"),
        (b"\x81\x20", "negative"),
        (b"\x81\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", "a big number under a tag"),
        (b"\x81\xc2\x41\x07", "a small number under a tag"),
        (b"\x81\xd8\x1c\x81\xd8\x1d\x00", "shared references"),
        (b"\x81\xd9\xff\xff\x07", "unknown tag"),
        (b"\xd9\xd9\xf7\x81\x07", "the tag that means CBOR"),
        (b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff", "2**63 items"),
        (b"\x81\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", "2**63 bytes"),
        (b"\x81" * 5000 + b"\x07", "deep nesting"),
        (b"\x81\x1c", "a reserved length"),
        (b"\x81\xff", "a stray break"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_body_that_is_not_strict_cbor_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(ProtocolError):
        decode(frame(number_of(StatusRequest), body))


@pytest.mark.parametrize(
    "status",
    [
        b"\xa2\x61a\x01\x61a\x02",  # a key twice
        b"\xa1\xf9\x7e\x00\x01",  # NaN as a key
        b"\xa1\x41a\x01",  # bytes as a key
        b"\xa1\x61a\xf7",  # undefined
        b"\xa1\x61a\x41b",  # bytes as a value
        b"\xa1\x61\xff\x01",  # bad UTF-8
        b"\xa1\x61a\xc1\x07",  # a time
        b"\x07",
    ],
)
def test_a_status_of_other_than_plain_values_is_refused(status: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(frame(number_of(StatusReply), b"\x82\x01" + status))


def test_the_refusal_names_the_field() -> None:
    with pytest.raises(ProtocolError, match=r"Hello\.side must be 1"):
        decode(frame(number_of(Hello), cbor2.dumps([3, 1, 1, "", 0, 0, 0, b"", False])))
    with pytest.raises(ProtocolError, match=r"ExplainKey\.key must be 16 bytes"):
        decode(encode(ExplainKey(1, b"short")))
    with pytest.raises(ProtocolError, match=r"Goodbye\.message must be a text"):
        decode(frame(number_of(Goodbye), cbor2.dumps(["ES1101", "x" * 5000])))


# --- bodies in structs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (keyed(2, cbor2.dumps([b"a", b"b"]), keys=1), "wrong size"),
        (keyed(2, cbor2.dumps([b"a", b"b"]), payload_len=4), "wrong size"),
        (keyed(2, cbor2.dumps([b"a", b"b", b"c"])), "array of 2"),
        (keyed(0, cbor2.dumps([])), "MAX_BATCH_EVENTS"),
        (keyed(2, cbor2.dumps([b"a", "b"])), "byte strings"),
        (keyed(1, cbor2.dumps([b"a"]) + b"x"), "take 3"),
        (keyed(2, b"\x82\x58\x02aa"), "ends within"),
        (keyed(2, b"\x82\x59\x00\x02a"), "ends within"),
        (keyed(1, b"\x81\x5f\x41a\xff"), "byte strings"),
        (keyed(1, b"\x9f\x41a\xff"), "array of 1"),
    ],
)
def test_a_batch_whose_counts_and_bytes_disagree_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode(data)


@given(batches())
def test_a_payload_that_passes_the_wire_can_be_taken_apart(batch: Batch) -> None:
    ((append,)) = decode(encode(Append(1, batch)))
    assert isinstance(append, Append)
    taken_apart = cbor2.loads(append.batch.payload)
    assert len(taken_apart) == batch.count
    assert {type(item) for item in taken_apart} == {bytes}


@pytest.mark.parametrize(
    ("stamp", "why"),
    [
        ((0, 1, 0, 0), "without a producer"),
        ((0, 0, 1, 0), "without a producer"),
        ((0, 0, 0, 1), "without a producer"),
        ((9, 0, 0, 2), "covers 2"),
        ((2**60, 0, 0, 1), "MAX_INDEX"),
        ((9, 0, 2**60, 1), "MAX_INDEX"),
    ],
)
def test_a_stamp_that_no_producer_writes_is_refused(stamp: tuple[int, int, int, int], why: str) -> None:
    payload = cbor2.dumps([b"e"])
    body = struct.pack(">QIHIqHQIQII", 1, 0, 0, 1, -1, 0, *stamp, len(payload)) + bytes(16) + payload
    with pytest.raises(ProtocolError, match=why):
        decode(frame(number_of(Append), body))


def test_an_offset_that_nobody_remembers_is_minus_one_and_no_less() -> None:
    answer = Appended(1, (OffsetRange(-1, 2), OffsetRange(0, 1)), 2)
    assert decode(encode(answer)) == [answer]
    with pytest.raises(ProtocolError, match="offset -2"):
        decode(encode(Appended(1, (OffsetRange(-2, 2),), 2)))


def test_a_term_or_index_over_the_limit_is_refused() -> None:
    fine = VoteRequest(limits.MAX_TERM, limits.MAX_INDEX, limits.MAX_TERM, pre=False)
    assert decode(encode(fine)) == [fine]
    for bomb in ((2**63, 0, 0), (limits.MAX_TERM + 1, 0, 0), (1, limits.MAX_INDEX + 1, 0), (1, 0, 2**63)):
        with pytest.raises(ProtocolError, match="over the limit"):
            decode(frame(number_of(VoteRequest), struct.pack(">QQQB", *bomb, 0)))


def test_what_an_operator_asked_for_takes_a_byte_and_all_else_none() -> None:
    term = struct.pack(">Q", 3)
    assert encode(TimeoutNow(3)) == frame(number_of(TimeoutNow), term)
    assert encode(TimeoutNow(3, asked=True)) == frame(number_of(TimeoutNow), term + b"\x01")
    for rest in (b"\0", b"\x02", b"\x01\x01"):
        with pytest.raises(ProtocolError, match="follows the term"):
            decode(frame(number_of(TimeoutNow), term + rest))


def test_unknown_flags_are_refused_rather_than_ignored() -> None:
    with pytest.raises(ProtocolError, match="unknown bit"):
        decode(frame(number_of(VoteRequest), struct.pack(">QQQB", 1, 1, 1, 4)))
    with pytest.raises(ProtocolError, match="unknown bit"):
        decode(frame(number_of(Read), struct.pack(">QQIIB", 1, 1, 1, 1, 2)))


def test_a_damaged_record_in_append_entries_is_noticed() -> None:
    entry = seal(index=5, term=2, kind=EntryKind.NOOP, base_offset=0, log_time_ms=0)
    data = bytearray(encode(AppendEntries(2, 4, 2, 4, (entry,))))
    data[-1] ^= 1
    with pytest.raises(DamagedRecord):
        decode(bytes(data))


@pytest.mark.parametrize(("index", "term"), [(6, 2), (4, 2), (5, 3), (5, 0)])
def test_an_entry_out_of_its_place_is_refused(index: int, term: int) -> None:
    entry = seal(index=index, term=term, kind=EntryKind.NOOP, base_offset=0, log_time_ms=0)
    with pytest.raises(ProtocolError, match="came as index 5 in term 2"):
        decode(encode(AppendEntries(2, 4, 2, 4, (entry,))))


def sealed(index: int, term: int, base_offset: int = 0, log_time_ms: int = 0, kind: int = 2) -> Entry:
    return seal(
        index=index, term=term, kind=EntryKind(kind), base_offset=base_offset, log_time_ms=log_time_ms
    )


@pytest.mark.parametrize(
    ("prev", "following"),
    [
        ((4, 3), [sealed(5, 2)]),
        ((4, 1), [sealed(5, 2), sealed(6, 1)]),
        ((4, 1), [sealed(5, 1, 7), sealed(6, 1, 8)]),
        ((4, 1), [sealed(5, 1, 7), sealed(6, 1, 6)]),
        ((4, 1), [sealed(5, 1, 7, 100), sealed(6, 1, 7, 99)]),
        ((4, 4), []),
        ((0, 1), [sealed(1, 1)]),
        ((4, 0), [sealed(5, 1)]),
    ],
    ids=lambda value: str(value) if isinstance(value, tuple) else "",
)
def test_entries_that_cannot_follow_each_other_are_refused(
    prev: tuple[int, int], following: list[Entry]
) -> None:
    """No log holds such a row: whoever sends it breaks the protocol, and only its connection ends."""
    with pytest.raises(ProtocolError, match="follow"):
        decode(encode(AppendEntries(3, *prev, 4, tuple(following))))


def test_an_entry_of_a_partition_that_is_not_there_is_refused() -> None:
    entry = seal(index=5, term=2, kind=EntryKind.NOOP, base_offset=0, log_time_ms=0, partition=64)
    with pytest.raises(ProtocolError, match="partition 64"):
        decode(encode(AppendEntries(2, 4, 2, 4, (entry,))))


def test_events_in_an_entry_of_another_kind_are_refused() -> None:
    for kind in (EntryKind.NOOP, EntryKind.PRODUCER):
        entry = seal(
            index=5,
            term=2,
            kind=kind,
            base_offset=0,
            log_time_ms=0,
            count=1,
            keys=bytes(16),
            payload=b"\x81\x41e",
        )
        with pytest.raises(ProtocolError, match="of the kind"):
            decode(encode(AppendEntries(2, 4, 2, 4, (entry,))))


@pytest.mark.parametrize(("term", "index", "snapshot_term"), [(3, 9, 4), (3, 0, 1), (3, 9, 0), (0, 9, 0)])
def test_a_snapshot_from_nowhere_or_from_the_future_is_refused(
    term: int, index: int, snapshot_term: int
) -> None:
    with pytest.raises(ProtocolError, match="snapshot"):
        decode(encode(SnapshotChunk(term, index, snapshot_term, 1, 1, 5, 0, b"12345")))


@pytest.mark.parametrize("point", [LogPoint(5, 4, 5, 0), LogPoint(5, 2, -2, 0)])
def test_nobody_has_applied_an_entry_of_the_future_or_of_no_place(point: LogPoint) -> None:
    for message in (Heartbeat(3, 5, 0, point), HeartbeatReply(3, 0, point)):
        with pytest.raises(ProtocolError, match=r"applied|are none"):
            decode(encode(message))


@pytest.mark.parametrize("number", [0, 2, 2**32 - 1])
def test_a_number_of_records_that_does_not_match_its_bytes_is_refused(number: int) -> None:
    entry = seal(index=5, term=2, kind=EntryKind.NOOP, base_offset=0, log_time_ms=0)
    data = encode(AppendEntries(2, 4, 2, 4, (entry,)))
    position = 4 + 1 + 4 * 8
    with pytest.raises(ProtocolError):
        decode(data[:position] + number.to_bytes(4, "big") + data[position + 4 :])


# --- snapshots in chunks --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, limits.SNAPSHOT_CHUNK_BYTES, 2 * limits.SNAPSHOT_CHUNK_BYTES + 5])
def test_a_snapshot_comes_together_from_its_chunks(size: int) -> None:
    message = InstallSnapshot(
        3, Snapshot(10, 2, 500, 99, bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    )
    sent = list(chunks(message))
    assert all(len(chunk.data) <= limits.SNAPSHOT_CHUNK_BYTES for chunk in sent)
    assembler = SnapshotAssembler()
    given_back = [
        assembler.add(chunk)
        for one in sent
        for chunk in decode(encode(one))
        if isinstance(chunk, SnapshotChunk)
    ]
    assert given_back == [None] * (len(sent) - 1) + [message]


def test_a_snapshot_can_begin_again_and_drops_what_it_had() -> None:
    first, second = chunks(InstallSnapshot(3, Snapshot(10, 2, 5, 9, bytes(limits.SNAPSHOT_CHUNK_BYTES + 1))))
    assembler = SnapshotAssembler()
    assert assembler.add(first) is None
    assert assembler.add(first) is None
    assert assembler.add(second) is not None


def test_a_chunk_that_continues_nothing_is_refused() -> None:
    first, second = chunks(InstallSnapshot(3, Snapshot(10, 2, 5, 9, bytes(limits.SNAPSHOT_CHUNK_BYTES + 1))))
    (other,) = chunks(InstallSnapshot(3, Snapshot(11, 2, 5, 9, b"x")))
    for before in ([], [first, second], [other]):
        assembler = SnapshotAssembler()
        for chunk in before:
            assembler.add(chunk)
        with pytest.raises(ProtocolError, match="continues nothing"):
            assembler.add(second)


@pytest.mark.parametrize(
    ("total", "position", "size"),
    [(limits.MAX_SNAPSHOT_BYTES + 1, 0, 1), (5, 0, 6), (5, 3, 3), (5, 0, 0), (5, 2**63, 5)],
)
def test_a_chunk_outside_its_snapshot_is_refused(total: int, position: int, size: int) -> None:
    with pytest.raises(ProtocolError):
        decode(encode(SnapshotChunk(1, 1, 1, 1, 1, total, position, bytes(size))))
    with pytest.raises(ProtocolError):
        SnapshotAssembler().add(SnapshotChunk(1, 1, 1, 1, 1, total, position, bytes(size)))


# --- large frames in fragments -------------------------------------------------------------------


def fragments_of(frame: bytes, size: int) -> list[Fragment]:
    """A frame, without its length, cut."""
    return [Fragment(len(frame), at, frame[at : at + size]) for at in range(0, len(frame), size)]


@given(any_message(), st.integers(1, 50))
def test_a_frame_comes_together_from_its_fragments(message: Message, size: int) -> None:
    assembler = FragmentAssembler()
    sent = fragments_of(encode(message)[LENGTH_BYTES:], size)
    if isinstance(message, Fragment):
        with pytest.raises(ProtocolError, match="in fragments"):
            [assembler.add(one) for one in sent]
    else:
        assert [assembler.add(one) for one in sent] == [None] * (len(sent) - 1) + [message]


def test_a_fragment_that_continues_nothing_is_refused() -> None:
    first, second, third = fragments_of(encode(AppendEntries(2, 4, 2, 4, ()))[LENGTH_BYTES:], 14)
    other = Fragment(first.total_bytes + 1, 0, first.data)
    for before in ([], [first, second, third], [first, second], [other]):
        assembler = FragmentAssembler()
        for fragment in before:
            assembler.add(fragment)
        with pytest.raises(ProtocolError, match="continues nothing"):
            assembler.add(second)


def test_a_frame_can_begin_again_and_drops_what_it_had() -> None:
    sent = fragments_of(encode(VoteRequest(2, 4, 2, pre=True))[LENGTH_BYTES:], 9)
    assembler = FragmentAssembler()
    assert assembler.add(sent[0]) is None
    assert [assembler.add(one) for one in sent][-1] == VoteRequest(2, 4, 2, pre=True)


@pytest.mark.parametrize(
    ("total", "position", "size"),
    [(limits.MAX_FRAME_BYTES + 1, 0, 1), (5, 0, 6), (5, 3, 3), (5, 0, 0), (0, 0, 0), (5, 2**32 - 1, 1)],
)
def test_a_fragment_outside_its_frame_is_refused(total: int, position: int, size: int) -> None:
    with pytest.raises(ProtocolError):
        decode(encode(Fragment(total, position, bytes(size))))


@pytest.mark.parametrize("data", [b"\xff", b"\x41", bytes(1)])
def test_fragments_of_what_is_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        FragmentAssembler().add(Fragment(len(data), 0, data))


def test_a_stamped_batch_keeps_its_stamp() -> None:
    stamp = ProducerStamp(7, 1, 40, 1)
    message = Append(1, Batch(1, bytes(16), cbor2.dumps([b"e"]), stamp))
    assert decode(encode(message)) == [message]
