"""gRPC over HTTP/2 and etcd's messages: frames, windows, and what counts as an ack."""

import struct

import cbor2
import pytest

from bench.peers.client import Acked, Elsewhere, NotNow
from bench.peers.etcd_wire import EtcdDialect, nested, puts, varint
from bench.peers.grpc_wire import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    GOAWAY,
    HEADERS,
    MAX_FRAME,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Calls,
    Reply,
    frame,
)
from esctl.bench.generator import Generator
from esnode.dedup.batch import Batch

Frame = tuple[int, int, int, bytes]


def batch_of(count: int) -> Batch:
    return Generator("run", 100, count).next_batch()


def frames(data: bytes) -> list[Frame]:
    """Kind, flags, stream and body of each."""
    found = []
    while data:
        high, low, kind, flags, stream = struct.unpack_from(">BHBBI", data)
        end = 9 + (high << 16) + low
        found.append((kind, flags, stream, data[9:end]))
        data = data[end:]
    return found


def reply(call: int, message: bytes) -> bytes:
    """What a server says to a call that succeeded."""
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return (
        frame(HEADERS, END_HEADERS, call, b"h")
        + frame(DATA, 0, call, body)
        + frame(HEADERS, END_HEADERS | END_STREAM, call, b"t")
    )


def failure(call: int) -> bytes:
    """Trailers alone."""
    return frame(HEADERS, END_HEADERS | END_STREAM, call, b"t")


def begun() -> Calls:
    """A connection whose greeting was taken."""
    calls = Calls("/a.B/C", "host")
    hello = calls.take()
    assert hello.startswith(PREFACE)
    assert [kind for kind, *_ in frames(hello.removeprefix(PREFACE))] == [SETTINGS, WINDOW_UPDATE]
    return calls


def test_a_call_is_headers_then_its_message_on_a_stream_of_its_own() -> None:
    calls = begun()
    assert [calls.call(b"one"), calls.call(b"two")] == [1, 3]
    sent = frames(calls.take())
    assert [(kind, flags, stream) for kind, flags, stream, _ in sent] == [
        (HEADERS, END_HEADERS, 1), (DATA, END_STREAM, 1), (HEADERS, END_HEADERS, 3), (DATA, END_STREAM, 3)
    ]  # fmt: skip
    assert sent[1][3] == b"\0\0\0\0\3one"
    assert b"/a.B/C" in sent[0][3]


def test_a_long_message_is_cut_into_frames() -> None:
    calls = begun()
    calls.call(bytes(MAX_FRAME))
    data = [one for one in frames(calls.take()) if one[0] == DATA]
    assert [(flags, len(body)) for _, flags, _, body in data] == [(0, MAX_FRAME), (END_STREAM, 5)]


def test_nothing_leaves_beyond_the_window_of_the_server() -> None:
    calls = begun()
    for _ in range(5):
        calls.call(bytes(MAX_FRAME - 5))
    sent = sum(len(body) for kind, _, _, body in frames(calls.take()) if kind == DATA)
    assert sent == 3 * MAX_FRAME < FIRST_WINDOW
    assert calls.take() == b""
    calls.feed(frame(WINDOW_UPDATE, 0, 0, (2 * MAX_FRAME).to_bytes(4, "big")))
    assert sum(len(body) for kind, _, _, body in frames(calls.take()) if kind == DATA) == 2 * MAX_FRAME


def test_replies_are_read_whatever_the_pieces_they_come_in() -> None:
    stream = reply(1, b"done") + failure(3) + frame(RST_STREAM, 0, 5, bytes(4)) + reply(7, b"")
    wanted = [Reply(1, b"done"), Reply(3, None), Reply(5, None), Reply(7, b"")]
    for size in (1, 10, len(stream)):
        calls = begun()
        found = [r for at in range(0, len(stream), size) for r in calls.feed(stream[at : at + size])]
        assert found == wanted


def test_settings_and_pings_of_the_server_are_answered() -> None:
    calls = begun()
    calls.feed(frame(SETTINGS, 0, 0, b"") + frame(PING, 0, 0, b"12345678") + frame(SETTINGS, ACK, 0, b""))
    assert frames(calls.take()) == [(SETTINGS, ACK, 0, b""), (PING, ACK, 0, b"12345678")]


def test_a_server_that_goes_away_ends_the_connection() -> None:
    with pytest.raises(Elsewhere, match="too_many_pings"):
        begun().feed(frame(GOAWAY, 0, 0, bytes(8) + b"too_many_pings"))


def test_lengths_are_written_as_protobuf_does() -> None:
    assert [varint(value) for value in (1, 127, 128, 300)] == [b"\x01", b"\x7f", b"\x80\x01", b"\xac\x02"]
    assert nested(2, b"ab") == b"\x12\x02ab"


def test_an_event_is_put_under_its_key() -> None:
    batch = batch_of(2)
    events = cbor2.loads(batch.payload)
    assert puts(batch) == [
        nested(1, batch.keys[:16]) + nested(2, events[0]),
        nested(1, batch.keys[16:]) + nested(2, events[1]),
    ]


def test_every_put_of_a_batch_is_acked_by_itself_and_a_transaction_as_a_whole() -> None:
    single, whole = EtcdDialect("host", transactions=False), EtcdDialect("host", transactions=True)
    for dialect in (single, whole):
        dialect.put(9, batch_of(2))
        dialect.put(10, batch_of(2))
    assert single.feed(reply(1, b"r") + reply(3, b"r") + reply(5, b"r")) == [Acked(9, 2), Acked(10, 1)]
    assert whole.feed(reply(1, b"r") + failure(3)) == [Acked(9, 2), NotNow(10)]
