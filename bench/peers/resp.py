"""The protocol of Redis (RESP 2) as far as `XADD` and `WAIT` need it. Bytes only, no socket.

A batch is one pipeline: an `XADD` for each event, then `WAIT 1`, which answers when one replica has
received them; `WAIT` holds up its connection, so one batch at a time travels on each.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cbor2

from bench.peers.client import Acked, Answer, Elsewhere, Never, NotNow
from esnode.dedup.batch import Batch

WAIT_MS: Final = 5_000
REPLICAS: Final = 1
_NOT_HERE: Final = ("READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED", "MISCONF")
_NO_REPLICAS: Final = "NOREPLICAS"


@dataclass(frozen=True, slots=True)
class RedisError:
    """An error reply: a word in capitals, then what happened."""

    text: str


Value = int | bytes | str | RedisError | list["Value"] | None


class Incomplete(Exception):
    """The value goes on in bytes that have not come yet."""


def command(*words: bytes) -> bytes:
    """A command as an array of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Reader:
    """Bytes from a server -> values."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Value]:
        """The values that are whole."""
        buffer, at = self._buffer + data, 0
        try:
            while at < len(buffer):
                try:
                    value, stop = _value(buffer, at)
                except Incomplete:
                    return
                at = stop
                yield value
        finally:
            self._buffer = buffer[at:]


def _value(buffer: bytes, at: int) -> tuple[Value, int]:
    """The value that begins there, and where it ends; raises `Incomplete`."""
    end = buffer.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    kind, line, at = buffer[at : at + 1], buffer[at + 1 : end], end + 2
    match kind:
        case b":":
            return int(line), at
        case b"+":
            return line.decode(), at
        case b"-":
            return RedisError(line.decode(errors="replace")), at
        case b"$":
            size = int(line)
            if size < 0:
                return None, at
            if len(buffer) < at + size + 2:
                raise Incomplete
            return buffer[at : at + size], at + size + 2
        case b"*":
            values: list[Value] = []
            for _ in range(int(line)):
                value, at = _value(buffer, at)
                values.append(value)
            return values, at
        case _:
            raise Elsewhere(f"no RESP: {kind + line!r}")


@dataclass(slots=True)
class _Pipeline:
    """A batch whose replies are not all there."""

    number: int
    events: int
    adds_left: int
    error: str = ""


class RedisDialect:
    """See `client.Dialect`."""

    capacity = 1
    ready = True

    def __init__(self, stream: bytes) -> None:
        self._add = command(b"XADD", stream, b"*", b"e", b"").removesuffix(command(b"")[4:])
        self._wait = command(b"WAIT", b"%d" % REPLICAS, b"%d" % WAIT_MS)
        self._reader = Reader()
        self._outbox: list[bytes] = []
        self._pipelines: deque[_Pipeline] = deque()

    def put(self, number: int, batch: Batch) -> None:
        """Add all events, then wait for a replica."""
        events = cbor2.loads(batch.payload)
        self._pipelines.append(_Pipeline(number, len(events), len(events)))
        self._outbox += [b"%b$%d\r\n%b\r\n" % (self._add, len(event), event) for event in events]
        self._outbox.append(self._wait)

    def feed(self, data: bytes) -> Sequence[Answer]:
        """One answer a pipeline, when its `WAIT` is answered."""
        answers: list[Answer] = []
        for value in self._reader.feed(data):
            pipeline = self._pipelines[0]
            if isinstance(value, RedisError):
                if value.text.startswith(_NOT_HERE):
                    raise Elsewhere(value.text)
                pipeline.error = pipeline.error or value.text
            if pipeline.adds_left:
                pipeline.adds_left -= 1
            else:
                answers.append(_answer(self._pipelines.popleft(), value))
        return answers

    def take(self) -> bytes:
        """All of it."""
        data = b"".join(self._outbox)
        self._outbox.clear()
        return data


def _answer(pipeline: _Pipeline, received_by: Value) -> Answer:
    """What the replies of a pipeline, `WAIT`'s the last of them, say together."""
    if pipeline.error and not pipeline.error.startswith(_NO_REPLICAS):
        return Never(pipeline.number, f"Redis: {pipeline.error}")
    if pipeline.error or not isinstance(received_by, int) or received_by < REPLICAS:
        return NotNow(pipeline.number)
    return Acked(pipeline.number, pipeline.events)
