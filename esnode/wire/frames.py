"""Bytes <-> frozen messages: everything that enters or leaves a process passes through here.

Decides where a frame ends, and that nothing over `limits.MAX_FRAME_BYTES` is ever held. Never does
I/O and never trusts a byte: what comes out of a `FrameReader` is a message that fits its schema, or
one of three declared errors. docs/protocol.md shows every frame. Called by `connection.py`.
"""

import struct
from collections.abc import Callable
from typing import Final

from esnode import limits
from esnode.errors import DamagedRecord, FrameTooLarge, ProtocolError
from esnode.messages import Append
from esnode.raft.messages import AppendEntries
from esnode.wire.chunks import Fragment
from esnode.wire.layout import LENGTH_BYTES
from esnode.wire.table import CODECS, Message

_ENCODERS: Final = {cls: codec.encode for cls, codec in CODECS.items()}
_DECODERS: Final[dict[int, Callable[[bytes, int, int], Message]]] = {
    codec.number: codec.decode for codec in CODECS.values()
}
_PARTS: Final = {cls: codec.parts for cls, codec in CODECS.items() if codec.parts}
_LENGTH: Final = struct.Struct(">I")
_SMALL_PIECE_BYTES: Final = 4096


def encode_parts(message: Append | AppendEntries | Fragment) -> list[bytes]:
    """The frame of `message` in parts, to be sent one after the other: its bytes need not be copied."""
    return _PARTS[type(message)](message)


def encode(message: Message) -> bytes:
    """The whole frame of `message`, length first. One over the frame limit is a `Bug` of this side."""
    return _ENCODERS[type(message)](message)


def decode(frame: bytes) -> Message:
    """The message of a whole frame without its length: type and body. Raises as `FrameReader.feed`."""
    decoder = _DECODERS.get(frame[0])
    if decoder is None:
        raise ProtocolError(f"the frame type {frame[0]:#04x} is not known")
    return decoder(frame, 1, len(frame))


class FrameReader:
    """Takes bytes in any pieces, gives whole messages.

    Holds at most one unfinished frame and the piece that came last. Each byte is copied a bounded number
    of times, however small the pieces are, and once where they are large. After an error every further
    call raises it again: nothing that follows bad bytes can be trusted.
    """

    __slots__ = ("_error", "_held_bytes", "_needed", "_pieces", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int = limits.MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        """The limit for frames that begin from now on."""
        self._pieces: list[bytes | bytearray] = []
        """An unfinished frame. What comes in small pieces is gathered in arrays."""
        self._held_bytes = 0
        self._needed = 0
        self._error: ProtocolError | FrameTooLarge | DamagedRecord | None = None

    @property
    def unfinished_bytes(self) -> int:
        """How large the unfinished frame will be, as far as that is known; 0 where none has begun."""
        return self._needed if self._pieces else 0

    @property
    def unfinished(self) -> bool:
        """Whether a frame has begun and is not whole."""
        return bool(self._pieces)

    def feed(self, data: bytes) -> list[Message]:
        """As many whole messages as have arrived, in order.

        Raises `FrameTooLarge` before anything of that frame is held, `ProtocolError`, or
        `DamagedRecord` for a record whose checksum does not match.
        """
        if self._error is not None:
            raise self._error
        if self._pieces:
            self._hold(data)
            if self._held_bytes < self._needed:
                return []
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._held_bytes = 0
        messages: list[Message] = []
        try:
            position = self._take(data, messages)
        except (ProtocolError, FrameTooLarge, DamagedRecord) as error:
            self._error = error
            raise
        if position < len(data):
            self._hold(data[position:])
        return messages

    def _hold(self, piece: bytes) -> None:
        self._held_bytes += len(piece)
        if len(piece) >= _SMALL_PIECE_BYTES:
            self._pieces.append(piece)
        elif self._pieces and isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += piece
        else:
            self._pieces.append(bytearray(piece))

    def _take(self, data: bytes, messages: list[Message]) -> int:
        """Decode the whole frames of `data`; returns where the unfinished one begins."""
        position, size = 0, len(data)
        while size - position >= LENGTH_BYTES:
            (length,) = _LENGTH.unpack_from(data, position)
            if not 0 < length <= self.max_frame_bytes:
                raise FrameTooLarge(f"a frame of {length} bytes is not within 1 to {self.max_frame_bytes}")
            body = position + LENGTH_BYTES
            end = body + length
            if end > size:
                self._needed = end - position
                return position
            decode = _DECODERS.get(data[body])
            if decode is None:
                raise ProtocolError(f"the frame type {data[body]:#04x} is not known")
            messages.append(decode(data, body + 1, end))
            position = end
        self._needed = LENGTH_BYTES
        return position
