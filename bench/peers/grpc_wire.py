"""gRPC calls over HTTP/2 (RFC 9113), as far as many small unary calls need them. Bytes only, no socket.

Written here since `grpcio` 1.85 spends about 80 µs of the client's processor on a call, as much as three
etcd nodes together, and would be what is measured; this takes 7, with the making of the event. The header
block of a request is always the same bytes; of a reply only this counts: a call that succeeded has a
message before its trailers, one that failed has trailers alone (gRPC over HTTP/2, "Responses"), so no
header is ever decoded.
"""

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.peers.client import Elsewhere

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE = 1, 2, 4
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FIRST_WINDOW: Final = 65_535
WIDEST_WINDOW: Final = 2**31 - 1
MAX_FRAME: Final = 16_384
_HEAD: Final = struct.Struct(">BHBBI")
_SETTING: Final = struct.Struct(">HI")
_MESSAGE: Final = struct.Struct(">BI")


@dataclass(frozen=True, slots=True)
class Reply:
    """A call has ended; `message` is None when it failed."""

    call: int
    message: bytes | None


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """RFC 9113, 4.1."""
    return _HEAD.pack(len(body) >> 16, len(body) & 0xFFFF, kind, flags, stream) + body


def header_block(path: str, authority: str) -> bytes:
    """The headers of every call, in HPACK (RFC 7541) without a table and without Huffman codes."""

    def text(value: str) -> bytes:
        assert len(value) < 127
        return bytes([len(value)]) + value.encode()

    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + text(path),
            b"\x01" + text(authority),
            b"\x0f\x10" + text("application/grpc"),
            b"\x00" + text("te") + text("trailers"),
        )
    )


class Calls:
    """One connection. Calls are numbered 1, 3, 5 and so on, as HTTP/2 numbers its streams."""

    def __init__(self, path: str, authority: str) -> None:
        self._headers = header_block(path, authority)
        self._next = 1
        self._window = FIRST_WINDOW
        self._outbox: deque[tuple[bytes, int]] = deque()
        """Frames, and how much of the connection's window each takes."""
        self._buffer = b""
        self._messages: dict[int, bytes] = {}
        self._received = 0
        self._say(frame(SETTINGS, 0, 0, _settings({HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0,
                                                   INITIAL_WINDOW_SIZE: WIDEST_WINDOW})))  # fmt: skip
        self._outbox.appendleft((PREFACE, 0))
        self._say(_widen(WIDEST_WINDOW - FIRST_WINDOW))

    def call(self, message: bytes) -> int:
        """Send a request; its number."""
        number, self._next = self._next, self._next + 2
        body = _MESSAGE.pack(0, len(message)) + message
        assert len(body) <= FIRST_WINDOW, "a stream's own window is never waited for"
        self._say(frame(HEADERS, END_HEADERS, number, self._headers))
        for at in range(0, len(body), MAX_FRAME):
            part = body[at : at + MAX_FRAME]
            last = END_STREAM if at + MAX_FRAME >= len(body) else 0
            self._outbox.append((frame(DATA, last, number, part), len(part)))
        return number

    def take(self) -> bytes:
        """What may be written now."""
        taken: list[bytes] = []
        while self._outbox and self._outbox[0][1] <= self._window:
            data, size = self._outbox.popleft()
            self._window -= size
            taken.append(data)
        return b"".join(taken)

    def feed(self, data: bytes) -> Sequence[Reply]:
        """The calls that have ended; raises `Elsewhere` when the server ends the connection."""
        buffer, at, replies = self._buffer + data, 0, []
        while len(buffer) - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(buffer, at)
            stop = at + _HEAD.size + (high << 16) + low
            if stop > len(buffer):
                break
            body = buffer[at + _HEAD.size : stop]
            at = stop
            if kind in {DATA, HEADERS, RST_STREAM}:
                if kind == DATA:
                    self._messages[stream] = self._messages.get(stream, b"") + body
                if flags & END_STREAM or kind == RST_STREAM:
                    message = self._messages.pop(stream, None)
                    replies.append(Reply(stream, message[_MESSAGE.size :] if message else None))
            else:
                self._connection_frame(kind, flags, stream, body)
        self._received += at
        if self._received > WIDEST_WINDOW // 2:
            self._say(_widen(self._received))
            self._received = 0
        self._buffer = buffer[at:]
        return replies

    def _connection_frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(body, "big")
        elif kind == SETTINGS and not flags & ACK:
            self._say(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._say(frame(PING, ACK, 0, body))
        elif kind == GOAWAY:
            raise Elsewhere(body[8:].decode(errors="replace"))

    def _say(self, data: bytes) -> None:
        self._outbox.append((data, 0))


def _settings(values: dict[int, int]) -> bytes:
    return b"".join(_SETTING.pack(name, value) for name, value in values.items())


def _widen(size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))
