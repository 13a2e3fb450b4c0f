"""Where a frame ends: bytes in any pieces, lengths that lie, and what is held meanwhile."""

import itertools
import struct
import tracemalloc

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esnode import limits
from esnode.errors import Bug, FrameTooLarge, ProtocolError
from esnode.messages import Append, Goodbye, StatusReply, StatusRequest
from esnode.raft.messages import (
    AppendEntries,
    Heartbeat,
)
from esnode.wire import CODECS, FrameReader, Message, encode, encode_parts
from tests.wire_messages import MESSAGES, decode, frame, keyed
from tests.wire_messages import messages as any_message

# --- what is sent arrives -------------------------------------------------------------------------


@given(st.lists(any_message(), max_size=6), st.lists(st.integers(1, 60), min_size=1, max_size=50))
def test_messages_arrive_however_the_bytes_are_cut(sent: list[Message], cuts: list[int]) -> None:
    data = b"".join(encode(message) for message in sent)
    reader = FrameReader()
    received: list[Message] = []
    position = 0
    while position < len(data):
        step = cuts[position % len(cuts)]
        received += reader.feed(data[position : position + step])
        position += step
    assert received == sent
    assert not reader.unfinished
    assert decode(data) == sent


def test_messages_arrive_when_cut_at_every_single_byte() -> None:
    sent: list[Message] = [StatusRequest(7), Heartbeat(3, 9, 0), Goodbye("ES1101", "no"), StatusRequest(8)]
    data = b"".join(encode(message) for message in sent)
    for cut in range(len(data) + 1):
        reader = FrameReader()
        assert reader.feed(data[:cut]) + reader.feed(data[cut:]) == sent


def test_a_header_of_one_gigabyte_allocates_nothing_and_is_refused_at_once() -> None:
    reader = FrameReader()
    tracemalloc.start()
    try:
        with pytest.raises(FrameTooLarge, match="1 to 8388608"):
            reader.feed(b"\x40\x00\x00\x00")
        with pytest.raises(FrameTooLarge):
            reader.feed(bytes(1024))
        assert tracemalloc.get_traced_memory()[1] < limits.MIB
    finally:
        tracemalloc.stop()
    assert not reader.unfinished


def test_a_large_promise_allocates_only_what_has_arrived() -> None:
    reader = FrameReader()
    tracemalloc.start()
    try:
        assert reader.feed(struct.pack(">IB", limits.MAX_FRAME_BYTES, CODECS[Append].number)) == []
        assert tracemalloc.get_traced_memory()[1] < limits.MIB
    finally:
        tracemalloc.stop()
    assert reader.unfinished


@pytest.mark.parametrize("length", [0, limits.MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_a_length_outside_the_bounds_is_refused(length: int) -> None:
    with pytest.raises(FrameTooLarge):
        decode(struct.pack(">I", length))


def test_a_large_frame_in_tiny_pieces_arrives() -> None:
    """Copying all that is held for each piece would move half a terabyte here, and never end."""
    data = keyed(4, cbor2.dumps([bytes(limits.MAX_EVENT_BYTES - 16)] * 4))
    reader = FrameReader()
    found = [message for at in range(0, len(data), 16) for message in reader.feed(data[at : at + 16])]
    assert len(found) == 1


def test_a_frame_arrives_the_same_in_pieces_of_every_size() -> None:
    data = keyed(4, cbor2.dumps([bytes(40_000)] * 4)) + encode(StatusRequest(5))
    whole = FrameReader().feed(data)
    for sizes in ([5_000], [1], [4_096, 1, 1, 9_000], [1, 5_000, 5_000], [100_000, 7]):
        reader, found, at = FrameReader(), list[Message](), 0
        for size in itertools.cycle(sizes):
            found += reader.feed(data[at : at + size])
            at += size
            if at >= len(data):
                break
        assert found == whole
        assert not reader.unfinished


@given(st.one_of(MESSAGES[Append], MESSAGES[AppendEntries]))
def test_the_parts_of_a_frame_are_the_frame(message: Append | AppendEntries) -> None:
    assert b"".join(encode_parts(message)) == encode(message)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ProtocolError, match="0xff"):
        decode(frame(0xFF, b""))


def test_nothing_is_read_after_an_error() -> None:
    reader = FrameReader()
    for _ in range(2):
        with pytest.raises(ProtocolError):
            reader.feed(frame(0xFF, b""))
    with pytest.raises(ProtocolError):
        reader.feed(encode(StatusRequest(1)))


def test_a_frame_over_the_limit_is_a_bug_of_the_sender() -> None:
    with pytest.raises(Bug):
        encode(StatusReply(1, {"text": "x" * (limits.MAX_FRAME_BYTES + 1)}))


# --- bodies in CBOR -------------------------------------------------------------------------------
