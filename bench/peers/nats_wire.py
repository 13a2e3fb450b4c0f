"""The text protocol of NATS, as far as publishing into a stream needs it. Bytes only, no socket.

Each event is published with its key as `Nats-Msg-Id`, so the stream deduplicates; its reply subject ends
in the number of its sending, and the ack of the stream comes there. https://docs.nats.io, "NATS protocol".
"""

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from bench.peers.client import Acked, Answer, Elsewhere, Never, NotNow
from esnode.dedup.batch import Batch

KEY_DIGITS: Final = 32
_CONNECT: Final = {
    "verbose": False,
    "pedantic": False,
    "headers": True,
    "no_responders": True,
    "name": "bench.peers",
    "lang": "python",
    "version": "1",
    "protocol": 1,
}
BATCHES_AT_ONCE: Final = 256
"""How many atomic batches the servers are told to allow at a time; they ship with 50."""
_IS_DUPLICATE: Final = 10201
"""The JetStream error of a batch that holds a message id which the stream knows."""
_PASSING: Final = frozenset({408, 429, 503})
"""Codes of what passes: no leader yet, too much at once."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a subscription. `headers` is empty, or begins with a line such as `NATS/1.0 503`."""

    subject: bytes
    headers: bytes
    payload: bytes


class Reader:
    """Bytes from a server -> messages, and what the server wants of its client."""

    def __init__(self) -> None:
        self.pings = 0
        """Pings that are not answered yet."""
        self.pongs = 0
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole; raises `Elsewhere` when the server ends the connection."""
        buffer, at = self._buffer + data, 0
        try:
            while (end := buffer.find(b"\r\n", at)) >= 0:
                line = buffer[at:end]
                head, _, _ = line.partition(b" ")
                if head in {b"MSG", b"HMSG"}:
                    words = line.split()
                    stop = end + 2 + int(words[-1])
                    if len(buffer) < stop + 2:
                        return
                    body = end + 2 + (int(words[-2]) if head == b"HMSG" else 0)
                    at = stop + 2
                    yield Message(words[1], buffer[end + 2 : body], buffer[body:stop])
                    continue
                at = end + 2
                self._note(head, line)
        finally:
            self._buffer = buffer[at:]

    def _note(self, head: bytes, line: bytes) -> None:
        if head == b"PING":
            self.pings += 1
        elif head == b"PONG":
            self.pongs += 1
        elif head == b"-ERR":
            raise Elsewhere(line.decode(errors="replace"))


def hello(inbox: bytes) -> bytes:
    """What a client says first; a pong answers its end."""
    connect = json.dumps(_CONNECT).encode()
    return b"CONNECT %b\r\nSUB %b.* 1\r\nPING\r\n" % (connect, inbox)


def new_inbox() -> bytes:
    """A subject that nobody else subscribes to."""
    return b"_INBOX." + secrets.token_hex(11).encode()


def publish(subject: bytes, reply: bytes, payload: bytes) -> bytes:
    """A message without headers."""
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)


class NatsDialect:
    """See `client.Dialect`."""

    capacity = 1 << 30

    def __init__(self, subject: bytes) -> None:
        self._subject = subject
        self._inbox = new_inbox()
        self._reader = Reader()
        self._outbox = [hello(self._inbox)]

    @property
    def ready(self) -> bool:
        """The server has answered the first ping."""
        return self._reader.pongs > 0

    def put(self, number: int, batch: Batch) -> None:
        """Publish each event of the batch."""
        keys = batch.keys.hex().encode()
        reply = b"%b.%d" % (self._inbox, number)
        start = b"HPUB %b %b" % (self._subject, reply)
        for place, event in enumerate(cbor2.loads(batch.payload)):
            key = keys[place * KEY_DIGITS : (place + 1) * KEY_DIGITS]
            headers = b"NATS/1.0\r\nNats-Msg-Id:%b\r\n\r\n" % key
            sizes = (len(headers), len(headers) + len(event))
            self._outbox.append(b"%b %d %d\r\n%b%b\r\n" % (start, *sizes, headers, event))

    def feed(self, data: bytes) -> Sequence[Answer]:
        """The acks of the stream."""
        acked: Counter[int] = Counter()
        other: list[Answer] = []
        for message in self._reader.feed(data):
            number = int(message.subject.rpartition(b".")[2])
            if message.headers or b'"error"' in message.payload:
                other.append(self._refusal(number, message))
            else:
                acked[number] += self._events(number)
        self._outbox += [b"PONG\r\n"] * self._reader.pings
        self._reader.pings = 0
        return [*(Acked(number, events) for number, events in acked.items()), *other]

    def take(self) -> bytes:
        """All of it: NATS asks for no pauses."""
        data = b"".join(self._outbox)
        self._outbox.clear()
        return data

    def _events(self, _number: int) -> int:
        """How many events an ack is for."""
        return 1

    def _refusal(self, number: int, message: Message) -> Answer:
        if message.headers:  # the server's own status, such as "no responders"
            words = message.headers.split(None, 2)
            code, text = int(words[1]), message.headers.decode(errors="replace").strip()
        else:
            reply = json.loads(message.payload)
            code, text = int(reply["error"]["code"]), error_of(reply) or ""
        return NotNow(number) if code in _PASSING else Never(number, f"NATS: {text}")


class NatsBatchDialect(NatsDialect):
    """The same with atomic batches: one ack, for the last message of a batch."""

    capacity = BATCHES_AT_ONCE

    def __init__(self, subject: bytes) -> None:
        super().__init__(subject)
        self._counts: dict[int, int] = {}

    def put(self, number: int, batch: Batch) -> None:
        """Publish the events as one batch; only the last asks for a reply."""
        keys = batch.keys.hex().encode()
        reply = b"%b.%d" % (self._inbox, number)
        self._counts[number] = batch.count
        for place, event in enumerate(cbor2.loads(batch.payload)):
            key = keys[place * KEY_DIGITS : (place + 1) * KEY_DIGITS]
            last = place + 1 == batch.count
            headers = (
                b"NATS/1.0\r\nNats-Msg-Id:%b\r\nNats-Batch-Id:%b\r\nNats-Batch-Sequence:%d\r\n%b\r\n"
                % (
                    key,
                    reply,
                    place + 1,
                    b"Nats-Batch-Commit:1\r\n" if last else b"",
                )
            )
            start = b"HPUB %b %b" % (self._subject, reply if last else b"")
            sizes = (len(headers), len(headers) + len(event))
            self._outbox.append(b"%b %d %d\r\n%b%b\r\n" % (start, *sizes, headers, event))

    def _events(self, number: int) -> int:
        return self._counts.pop(number)

    def _refusal(self, number: int, message: Message) -> Answer:
        if f'"err_code":{_IS_DUPLICATE}'.encode() in message.payload:
            return Acked(number, self._counts.pop(number))  # it is in the stream, as a whole
        return super()._refusal(number, message)


def error_of(reply: dict[str, Any]) -> str | None:
    """What a reply of the JetStream API says went wrong."""
    error = reply.get("error")
    return None if error is None else f"{error.get('code')}: {error.get('description')}"
