"""The doors that bytes of a connection go through: frames, CBOR bodies, and the handshake's two sides.

What comes out of a frame is a message that fits its schema or one of three declared errors, however the
bytes were split; a handshake ends in a Hello, a Welcome, or a peer's error. Used by `targets`.
"""

import random
from typing import Any, Final

import cbor2
import google_crc32c
import trio
import trio.testing

from esnode import limits
from esnode.errors import (
    Bug,
    CallerError,
    DamagedRecord,
    EventStreamError,
    FrameTooLarge,
    OperatorError,
    PeerError,
    ProtocolError,
)
from esnode.messages import PROTOCOL_VERSION, Goodbye, Hello, Records, Side
from esnode.raft.messages import AppendEntries, Heartbeat
from esnode.transport.connection import Connection, accept, greet
from esnode.wire import CODECS, FrameReader, Message, encode
from esnode.wire.cbor import load

from . import samples
from .target import Finding, told

DECLARED: Final = (ProtocolError, FrameTooLarge, DamagedRecord)
_RECORDS_AT: Final = {CODECS[AppendEntries].number: 36, CODECS[Records].number: 36}
"""Where in the body of a frame the first record stands."""


# --- frames ---------------------------------------------------------------------------------------


def frames(data: bytes) -> str:
    """Byte 0: whether lengths and checksums are mended, and how it is split. Then the stream."""
    how, stream = (data[0], data[1:]) if data else (0, b"")
    if how & 1:
        stream = mended(stream)
    whole, error = _fed([stream])
    split, split_error = _fed(_pieces(stream, how >> 1))
    if repr(whole) != repr(split) or type(error) is not type(split_error):
        raise Finding(f"split: {split} {split_error!r}; whole: {whole} {error!r}")
    for message in whole:
        _comes_back(message)
    return told(error) if error is not None else f"{len(whole)}:" + ",".join(type(m).__name__ for m in whole)


def frame_seeds() -> list[bytes]:
    """Each message alone, mended and not, and all in a row."""
    encoded = [encode(message) for message in samples.messages()]
    alone = [bytes([how]) + one for one in encoded for how in (0, 5)]
    return [*alone, b"\x06" + b"".join(encoded), b"\x00\x40\x00\x00\x00"]


def mended(stream: bytes) -> bytes:
    """The stream with lengths that fit and checksums that match: what a liar writes, not an accident."""
    out, at = bytearray(stream), 0
    while at + 5 <= len(out):
        length = int.from_bytes(out[at : at + 4], "big")
        end = at + 4 + length
        if not 0 < length <= limits.MAX_FRAME_BYTES or end > len(out):
            end = len(out)
            out[at : at + 4] = (end - at - 4).to_bytes(4, "big")
        first = _RECORDS_AT.get(out[at + 4])
        if first is not None:
            _mend_records(out, at + 5 + first, end)
        at = end
    return bytes(out)


def _mend_records(out: bytearray, at: int, end: int) -> None:
    while at + 8 <= end:
        length = int.from_bytes(out[at : at + 4], "big")
        stop = min(end, at + 4 + length)
        out[at + 4 : at + 8] = google_crc32c.value(bytes(out[at + 8 : stop])).to_bytes(4, "big")
        at = stop


def _fed(pieces: list[bytes]) -> tuple[list[Message], EventStreamError | None]:
    reader = FrameReader()
    found: list[Message] = []
    try:
        for piece in pieces:
            found += reader.feed(piece)
    except DECLARED as error:
        try:
            reader.feed(b"\x00\x00\x00\x09")
        except type(error):
            # A reader gives the messages before the bad one only where they came in an earlier piece.
            return [], error
        raise Finding("a reader that has failed reads on") from error
    return found, None


def _pieces(stream: bytes, how: int) -> list[bytes]:
    if how % 4 == 0:
        return [stream[at : at + 1] for at in range(len(stream))]
    source = random.Random(how)
    pieces, at = [], 0
    while at < len(stream):
        size = source.choice((1, 2, 3, 5, 17, 200, 4000))
        pieces.append(stream[at : at + size])
        at += size
    return pieces


def _comes_back(message: Message) -> None:
    """A message that was let in can be sent on, and is the same to the next reader."""
    if type(message) not in CODECS:
        raise Finding(f"a reader gave {message!r}")
    try:
        again = FrameReader().feed(encode(message))
    except Bug:
        if not isinstance(message, Goodbye):  # the one message that is re-encoded longer than it came
            raise
        return
    if repr(again) != repr([message]):  # NaN is not equal to itself
        raise Finding(f"{message!r} came back as {again!r}")


# --- CBOR -----------------------------------------------------------------------------------------


def strict_cbor(data: bytes) -> str:
    """One strict item, which then encodes and decodes to itself; or a `ProtocolError`."""
    try:
        value = load(data)
    except ProtocolError as error:
        return told(error)
    if repr(load(cbor2.dumps(value))) != repr(value):
        raise Finding(f"{value!r} does not come back")
    return type(value).__name__


def cbor_seeds() -> list[bytes]:
    """Values of every kind, and heads that promise too much."""
    values: list[Any] = [
        [1, 1, 1, "fuzz", 2, 1, 77],
        {"a": [1, -1, 2.5, None, True], "b": {"c": "text", "d": b"bytes"}},
        [b"x" * 30, "y" * 300, 2**63, -(2**64), 1e300, []],
        [[[[[[]]]]]],
        "",
    ]
    bad = ["9f07ff", "c249010000000000000000", "d81c81d81d00", "9b7fffffffffffffff", "5b7fffffffffffffff"]
    return [*(cbor2.dumps(value) for value in values), *(bytes.fromhex(one) for one in bad), b"\x81" * 40]


# --- the handshake --------------------------------------------------------------------------------


class FedStream(trio.abc.HalfCloseableStream):
    """A stream whose other side says `data` in pieces, then goes, breaks, or falls silent."""

    def __init__(self, data: bytes, piece_bytes: int, ending: int) -> None:
        self._data = data
        self._piece_bytes = piece_bytes
        self._ending = ending

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._data:
            size = min(self._piece_bytes, max_bytes or self._piece_bytes)
            piece, self._data = self._data[:size], self._data[size:]
            return piece
        if self._ending == 1:
            raise trio.BrokenResourceError
        if self._ending == 2:
            await trio.sleep_forever()
        return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if self._ending == 3:
            raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def handshake(data: bytes) -> str:
    """Byte 0: the side, how the bytes come, how they end, and whether lengths are mended."""
    how, stream = (data[0], data[1:]) if data else (0, b"")
    if how & 8:
        stream = mended(stream)
    fed = FedStream(stream, (1, 7, 4096, 64)[how >> 4 & 3], how >> 1 & 3)
    side = _accepting if how & 1 else _greeting
    return trio.run(side, Connection(fed), Side.PEER if how & 64 else Side.CLIENT, clock=_clock())


def handshake_seeds() -> list[bytes]:
    """Both sides with what they hope for, what they may get, and what follows it."""
    good = encode(samples.hello()) + encode(Heartbeat(3, 6, 1))
    client = encode(Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "", 0, 0, 5))
    answers = encode(samples.welcome()) + b"\x00\x00\x00\x09"
    goodbyes = [encode(Goodbye(code, "why")) for code in ("ES2004", "ES9999", "ES9001", "ES1101", "ES3104")]
    accepting = [bytes([how]) + good for how in (0x61, 0x63, 0x65, 0x67, 0x49)]
    greeting = [b"\x20" + one for one in (answers, *goodbyes)]
    return [*accepting, b"\x21" + client, *greeting, b"\x21\x40\x00\x00\x00"]


def _clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


async def _accepting(connection: Connection, allowed_side: Side) -> str:
    try:
        greeted = await accept(
            connection,
            cluster=samples.CLUSTER,
            node_id=1,
            incarnation=99,
            allowed_side=allowed_side,
            peers=(2, 3),
        )
    except (PeerError, DamagedRecord) as error:
        return told(error)
    _check_greeted(greeted, allowed_side)
    with trio.move_on_after(3600):  # a peer may be silent for ever between two frames
        try:
            return f"accepted, then {len(await connection.receive())}"
        except (PeerError, DamagedRecord) as error:
            return f"accepted, then {told(error)}"
    return "accepted, then silence"


def _check_greeted(hello: Hello, allowed_side: Side) -> None:
    """What `accept` lets in is who it may be."""
    peer = hello.side is Side.PEER
    right = hello.side is allowed_side and hello.cluster in (
        {samples.CLUSTER} if peer else {samples.CLUSTER, ""}
    )
    if not right or (
        peer and (hello.node_id not in {2, 3} or hello.wanted_id != 1 or hello.incarnation == 99)
    ):
        raise Finding(f"{hello!r} was accepted")


async def _greeting(connection: Connection, side: Side) -> str:
    wanted = 1 if side is Side.PEER else 0
    said = Hello(side, PROTOCOL_VERSION, PROTOCOL_VERSION, samples.CLUSTER if wanted else "", 2, wanted, 77)
    try:
        answer = await greet(connection, said)
    except (PeerError, OperatorError, CallerError) as error:  # a Goodbye may carry the code of any of them
        return told(error)
    if wanted and (answer.node_id != 1 or answer.cluster != samples.CLUSTER):
        raise Finding(f"{answer!r} was believed")
    return "greeted"
