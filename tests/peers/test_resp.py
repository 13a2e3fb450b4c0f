"""The protocol of Redis: values, pipelines, and what only a master can say."""

import cbor2
import pytest

from bench.peers.client import Acked, Elsewhere, Never, NotNow
from bench.peers.resp import Reader, RedisDialect, RedisError, command
from esctl.bench.generator import Generator
from esnode.dedup.batch import Batch

ADDED = b"$3\r\n1-1\r\n"


def batch_of(count: int) -> Batch:
    return Generator("run", 100, count).next_batch()


def test_values_are_read_whatever_the_pieces_they_come_in() -> None:
    stream = b"+OK\r\n:12\r\n$4\r\na\r\nb\r\n$-1\r\n*2\r\n:1\r\n*1\r\n$1\r\nx\r\n-ERR no\r\n"
    wanted = ["OK", 12, b"a\r\nb", None, [1, [b"x"]], RedisError("ERR no")]
    for size in (1, 3, len(stream)):
        reader = Reader()
        found = [v for at in range(0, len(stream), size) for v in reader.feed(stream[at : at + size])]
        assert found == wanted


def test_what_is_no_reply_of_redis_ends_the_connection() -> None:
    with pytest.raises(Elsewhere):
        list(Reader().feed(b"HTTP/1.1 400\r\n"))


def test_a_batch_is_one_pipeline_that_ends_in_a_wait() -> None:
    dialect = RedisDialect(b"events")
    batch = batch_of(2)
    dialect.put(1, batch)
    adds = [command(b"XADD", b"events", b"*", b"e", event) for event in cbor2.loads(batch.payload)]
    assert dialect.take() == b"".join(adds) + command(b"WAIT", b"1", b"5000")


def test_a_batch_is_acked_when_a_replica_has_received_it() -> None:
    dialect = RedisDialect(b"events")
    dialect.put(1, batch_of(2))
    assert dialect.feed(ADDED * 2) == []
    assert dialect.feed(b":1\r\n") == [Acked(1, 2)]
    dialect.put(2, batch_of(1))
    assert dialect.feed(ADDED + b":0\r\n") == [NotNow(2)]


def test_an_error_belongs_to_the_pipeline_it_came_in() -> None:
    dialect = RedisDialect(b"events")
    dialect.put(1, batch_of(2))
    dialect.put(2, batch_of(1))
    answers = dialect.feed(b"-ERR the stream is full\r\n" + ADDED + b":1\r\n" + ADDED + b":1\r\n")
    assert answers == [Never(1, "Redis: ERR the stream is full"), Acked(2, 1)]


def test_a_replica_sends_the_client_to_the_next_node() -> None:
    dialect = RedisDialect(b"events")
    dialect.put(1, batch_of(1))
    with pytest.raises(Elsewhere, match="READONLY"):
        dialect.feed(b"-READONLY You can't write against a read only replica.\r\n")
