"""AMQP 0-9-1: the greeting, persistent publishes, and confirms of one or of many."""

import struct

import pytest

from bench.peers import amqp
from bench.peers.amqp import AmqpDialect
from bench.peers.client import Acked, Elsewhere
from esctl.bench.generator import Generator
from esnode.dedup.batch import Batch


def batch_of(count: int) -> Batch:
    return Generator("run", 100, count).next_batch()


def methods(data: bytes) -> list[amqp.Method]:
    """The methods of all frames, without the contents between them."""
    found = []
    while data:
        kind, _, size = struct.unpack_from(">BHI", data)
        if kind == amqp.METHOD:
            class_id, method_id = struct.unpack_from(">HH", data, 7)
            found.append((class_id, method_id))
        assert data[7 + size : 8 + size] == amqp.FRAME_END
        data = data[8 + size :]
    return found


def greeted() -> AmqpDialect:
    dialect = AmqpDialect("events")
    assert dialect.take() == amqp.GREETING
    steps = [
        (amqp.START, b"", [amqp.START_OK]),
        (amqp.TUNE, struct.pack(">HIH", 2047, 131_072, 60), [amqp.TUNE_OK, amqp.OPEN]),
        (amqp.OPEN_OK, b"\0", [amqp.CHANNEL_OPEN]),
        (amqp.CHANNEL_OPEN_OK, b"\0\0\0\0", [amqp.CONFIRM]),
    ]
    for said, arguments, wanted in steps:
        assert dialect.feed(amqp.method(said, arguments)) == []
        assert (methods(dialect.take()), dialect.ready) == (wanted, False)
    dialect.feed(amqp.method(amqp.CONFIRM_OK))
    assert dialect.ready
    return dialect


def confirm(tag: int, *, multiple: bool, which: amqp.Method = amqp.ACK) -> bytes:
    return amqp.method(which, struct.pack(">QB", tag, multiple))


def test_an_event_is_a_persistent_message() -> None:
    dialect = greeted()
    dialect.put(1, batch_of(2))
    written = dialect.take()
    assert methods(written) == [amqp.PUBLISH, amqp.PUBLISH]
    assert written.count(amqp.PERSISTENT) == 2


def test_confirms_count_one_message_or_all_until_there() -> None:
    dialect = greeted()
    dialect.put(1, batch_of(2))
    dialect.put(2, batch_of(3))
    assert dialect.feed(confirm(2, multiple=False)) == [Acked(1, 1)]
    assert dialect.feed(confirm(4, multiple=True)) == [Acked(1, 1), Acked(2, 2)]
    assert dialect.feed(confirm(5, multiple=True)) == [Acked(2, 1)]


def test_a_channel_that_refuses_a_publish_is_left() -> None:
    dialect = greeted()
    dialect.put(1, batch_of(1))
    with pytest.raises(Elsewhere, match="refused"):
        dialect.feed(confirm(1, multiple=False, which=amqp.NACK))


def test_a_frame_may_come_in_pieces_of_any_size() -> None:
    dialect = greeted()
    dialect.put(1, batch_of(1))
    data = amqp.frame(8, 0, b"") + confirm(1, multiple=False)  # a heartbeat before it
    answers = [answer for byte in data for answer in dialect.feed(bytes([byte]))]
    assert answers == [Acked(1, 1)]


def test_a_closed_channel_ends_the_connection_with_its_reason() -> None:
    reason = struct.pack(">H", 404) + amqp.short("NOT_FOUND - no queue") + bytes(4)
    with pytest.raises(Elsewhere, match="404 NOT_FOUND"):
        greeted().feed(amqp.method(amqp.CHANNEL_CLOSE, reason))


def test_the_queue_is_declared_as_a_quorum_queue() -> None:
    dialect = greeted()
    dialect.declare()
    assert b"x-queue-typeS\0\0\0\x06quorum" in dialect.take()
    dialect.feed(amqp.method(amqp.DECLARE_OK, amqp.short("events") + bytes(8)))
    assert dialect.declared
