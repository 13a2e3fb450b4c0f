"""The text protocol of NATS: what is published, which acks count, what is sent again."""

import json

import cbor2
import pytest

from bench.peers.client import Acked, Elsewhere, Never, NotNow
from bench.peers.nats_wire import Message, NatsBatchDialect, NatsDialect, Reader, publish
from esctl.bench.generator import Generator
from esnode.dedup.batch import Batch, split_keys

INFO = b'INFO {"server_id":"N","headers":true}\r\n'


def batch_of(count: int) -> Batch:
    return Generator("run", 100, count).next_batch()


def greeted(kind: type[NatsDialect] = NatsDialect) -> tuple[NatsDialect, bytes]:
    """A dialect whose greeting is over, and its inbox."""
    dialect = kind(b"bench.events")
    hello = dialect.take()
    assert [dialect.feed(said) or dialect.ready for said in (INFO, b"PONG\r\n")] == [False, True]
    subscribe = hello.split(b"\r\n")[1].split()
    return dialect, subscribe[1].removesuffix(b".*")


def message(subject: bytes, payload: bytes, headers: bytes = b"") -> bytes:
    if headers:
        sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
        return b"HMSG %b 1 %b\r\n%b%b\r\n" % (subject, sizes, headers, payload)
    return b"MSG %b 1 %d\r\n%b\r\n" % (subject, len(payload), payload)


def test_messages_are_read_whatever_the_pieces_they_come_in() -> None:
    stream = INFO + message(b"a.1", b"x\r\ny") + b"PING\r\n" + message(b"a.2", b"", b"NATS/1.0 503\r\n\r\n")
    wanted = [Message(b"a.1", b"", b"x\r\ny"), Message(b"a.2", b"NATS/1.0 503\r\n\r\n", b"")]
    for size in (1, 2, 7, len(stream)):
        reader = Reader()
        found = [m for at in range(0, len(stream), size) for m in reader.feed(stream[at : at + size])]
        assert found == wanted
        assert reader.pings == 1


def test_an_error_of_the_server_ends_the_connection() -> None:
    with pytest.raises(Elsewhere, match="Authorization"):
        list(Reader().feed(b"-ERR 'Authorization Violation'\r\n"))


def test_each_event_is_published_with_its_key_as_message_id() -> None:
    dialect, inbox = greeted()
    batch = batch_of(3)
    dialect.put(7, batch)
    written = dialect.take()
    for key, event in zip(split_keys(batch.keys), cbor2.loads(batch.payload), strict=True):
        headers = b"NATS/1.0\r\nNats-Msg-Id:%b\r\n\r\n" % key.hex().encode()
        sizes = b"%d %d" % (len(headers), len(headers) + len(event))
        head = b"HPUB bench.events %b.7 %b\r\n" % (inbox, sizes)
        assert head + headers + event + b"\r\n" in written
    assert written.count(b"HPUB") == 3
    assert dialect.take() == b""


def test_acks_of_the_stream_are_counted_for_each_sending() -> None:
    dialect, inbox = greeted()
    dialect.put(1, batch_of(2))
    dialect.put(2, batch_of(1))
    ack = json.dumps({"stream": "EVENTS", "seq": 1}).encode()
    answers = dialect.feed(
        message(inbox + b".1", ack) + message(inbox + b".2", ack) + message(inbox + b".1", ack)
    )
    assert answers == [Acked(1, 2), Acked(2, 1)]


def test_a_stream_without_a_leader_is_asked_again_and_a_refusal_is_not() -> None:
    dialect, inbox = greeted()
    nobody = message(inbox + b".1", b"", b"NATS/1.0 503\r\n\r\n")
    passing = message(inbox + b".2", b'{"error":{"code":503,"description":"no quorum"}}')
    final = message(inbox + b".3", b'{"error":{"code":400,"description":"maximum messages exceeded"}}')
    answers = dialect.feed(nobody + passing + final)
    assert answers == [NotNow(1), NotNow(2), Never(3, "NATS: 400: maximum messages exceeded")]


def test_an_atomic_batch_asks_for_one_ack_and_is_known_as_a_whole() -> None:
    dialect, inbox = greeted(NatsBatchDialect)
    for number in (1, 2):
        dialect.put(number, batch_of(3))
    written = dialect.take()
    assert written.count(b"Nats-Msg-Id:") == 6
    assert [written.count(b"Nats-Batch-Sequence:%d\r\n" % place) for place in (1, 2, 3, 4)] == [2, 2, 2, 0]
    assert written.count(b"HPUB bench.events %b." % inbox) == written.count(b"Nats-Batch-Commit:1") == 2
    ack = message(inbox + b".1", b'{"stream":"EVENTS","seq":3,"batch":"b","count":3}')
    known = message(inbox + b".2", b'{"error":{"code":400,"err_code":10201,"description":"duplicate"}}')
    assert dialect.feed(ack + known) == [Acked(1, 3), Acked(2, 3)]


def test_a_ping_of_the_server_is_answered() -> None:
    dialect, _ = greeted()
    dialect.take()
    dialect.feed(b"PING\r\n")
    assert dialect.take() == b"PONG\r\n"


def test_a_plain_publish_names_its_reply_subject() -> None:
    assert publish(b"$JS.API.INFO", b"in.1", b"{}") == b"PUB $JS.API.INFO in.1 2\r\n{}\r\n"
