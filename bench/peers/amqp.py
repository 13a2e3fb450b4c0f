"""AMQP 0-9-1 as far as publishing with confirms into one queue needs it. Bytes only, no socket.

A batch is a persistent publish for each event through the default exchange; the broker confirms each,
several at once where it can. https://www.rabbitmq.com/amqp-0-9-1-reference.html
"""

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import cbor2

from bench.peers.client import Acked, Answer, Elsewhere
from esnode.dedup.batch import Batch

GREETING: Final = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY = 1, 2, 3
FRAME_END: Final = b"\xce"
FRAME_MAX: Final = 131_072
CHANNEL: Final = 1

Method = tuple[int, int]
START, START_OK, TUNE, TUNE_OK = (10, 10), (10, 11), (10, 30), (10, 31)
OPEN, OPEN_OK, CLOSE = (10, 40), (10, 41), (10, 50)
CHANNEL_OPEN, CHANNEL_OPEN_OK, CHANNEL_CLOSE = (20, 10), (20, 11), (20, 40)
DECLARE, DECLARE_OK = (50, 10), (50, 11)
PUBLISH, ACK, NACK = (60, 40), (60, 80), (60, 120)
CONFIRM, CONFIRM_OK = (85, 10), (85, 11)

PERSISTENT: Final = struct.pack(">HB", 0x1000, 2)
"""Content properties: the flag of `delivery-mode`, and its value."""
_HEAD: Final = struct.Struct(">BHI")
_METHOD: Final = struct.Struct(">HH")
_TAG: Final = struct.Struct(">QB")


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Frames are told apart by their kind."""
    return _HEAD.pack(kind, channel, len(payload)) + payload + FRAME_END


def method(which: Method, arguments: bytes = b"", channel: int = CHANNEL) -> bytes:
    """A method frame; those of class 10 belong to the connection."""
    return frame(METHOD, 0 if which[0] == 10 else channel, _METHOD.pack(*which) + arguments)


def short(text: str) -> bytes:
    """A short string."""
    return bytes([len(text)]) + text.encode()


def long(data: bytes) -> bytes:
    """A long string, or a table."""
    return struct.pack(">I", len(data)) + data


def start_ok(user: str, password: str) -> bytes:
    """Who we are; a client that can take a `basic.nack` must say so."""
    capabilities = short("basic.nack") + b"t\x01"
    properties = short("capabilities") + b"F" + long(capabilities)
    login = f"\0{user}\0{password}".encode()
    return method(START_OK, long(properties) + short("PLAIN") + long(login) + short("en_US"))


def declare(queue: str) -> bytes:
    """A durable quorum queue; does nothing where it exists."""
    arguments = short("x-queue-type") + b"S" + long(b"quorum")
    durable = 0b10
    return method(DECLARE, b"\x00\x00" + short(queue) + bytes([durable]) + long(arguments))


def publish(queue: str, body: bytes) -> bytes:
    """A persistent message for `queue`."""
    arguments = b"\x00\x00" + short("") + short(queue) + b"\x00"
    header = struct.pack(">HHQ", PUBLISH[0], 0, len(body)) + PERSISTENT
    return method(PUBLISH, arguments) + frame(HEADER, CHANNEL, header) + frame(BODY, CHANNEL, body)


class AmqpDialect:
    """See `client.Dialect`."""

    capacity = 1 << 30

    def __init__(self, queue: str) -> None:
        self.ready = False
        self.declared = False
        self._queue = queue
        self._outbox = [GREETING]
        self._buffer = b""
        self._last_tag = 0
        self._unconfirmed: dict[int, int] = {}
        """By delivery tag, in their order: the number of the sending."""

    def declare(self) -> None:
        """Make the queue; `declared` once the broker says so."""
        self._outbox.append(declare(self._queue))

    def put(self, number: int, batch: Batch) -> None:
        """Publish each event; delivery tags count from 1 on each channel."""
        for event in cbor2.loads(batch.payload):
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = number
            self._outbox.append(publish(self._queue, event))

    def feed(self, data: bytes) -> Sequence[Answer]:
        """The confirms; raises `Elsewhere` when the broker closes the channel or nacks.

        A channel that was opened while the queue's leader was dying refuses every publish from then on.
        """
        acked: Counter[int] = Counter()
        for which, arguments in self._methods(data):
            if which == ACK:
                acked.update(self._confirmed(arguments))
            elif which == NACK:
                raise Elsewhere("a publish was refused")
            else:
                self._greet(which, arguments)
        return [Acked(number, events) for number, events in acked.items()]

    def take(self) -> bytes:
        """All of it: RabbitMQ holds a publisher back by not reading."""
        data = b"".join(self._outbox)
        self._outbox.clear()
        return data

    def _methods(self, data: bytes) -> Iterator[tuple[Method, bytes]]:
        buffer, at = self._buffer + data, 0
        while len(buffer) - at >= _HEAD.size:
            kind, _, size = _HEAD.unpack_from(buffer, at)
            stop = at + _HEAD.size + size + len(FRAME_END)
            if stop > len(buffer):
                break
            payload = buffer[at + _HEAD.size : stop - len(FRAME_END)]
            at = stop
            if kind == METHOD:
                class_id, method_id = _METHOD.unpack_from(payload)
                yield (class_id, method_id), payload[_METHOD.size :]
        self._buffer = buffer[at:]

    def _confirmed(self, arguments: bytes) -> list[int]:
        """The sending of each message that an ack means."""
        tag, flags = _TAG.unpack_from(arguments)
        if not flags & 1:
            return [self._unconfirmed.pop(tag)]
        tags = []
        for one in self._unconfirmed:
            if one > tag:
                break
            tags.append(one)
        return [self._unconfirmed.pop(one) for one in tags]

    def _greet(self, which: Method, arguments: bytes) -> None:
        """The next step of the greeting."""
        if which == START:
            self._outbox.append(start_ok("guest", "guest"))
        elif which == TUNE:
            as_many_channels_no_heartbeat = arguments[:2] + struct.pack(">IH", FRAME_MAX, 0)
            open_root = method(OPEN, short("/") + b"\x00\x00")
            self._outbox += [method(TUNE_OK, as_many_channels_no_heartbeat), open_root]
        elif which == OPEN_OK:
            self._outbox.append(method(CHANNEL_OPEN, b"\x00"))
        elif which == CHANNEL_OPEN_OK:
            self._outbox.append(method(CONFIRM, b"\x00"))
        elif which == CONFIRM_OK:
            self.ready = True
        elif which == DECLARE_OK:
            self.declared = True
        elif which in {CLOSE, CHANNEL_CLOSE}:
            (code,) = struct.unpack_from(">H", arguments)
            reason = arguments[3 : 3 + arguments[2]].decode(errors="replace")
            raise Elsewhere(f"{code} {reason}")
