"""Bytes <-> frozen messages: the only door through which anything enters or leaves a process.

Decides where a frame ends, and that nothing over `limits.MAX_FRAME_BYTES` is ever held. Never does
I/O and never trusts a byte: what comes out of a `FrameReader` is a message that fits its schema, or
one of three declared errors. docs/protocol.md shows every frame. Called by `connection.py`.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from esnode import limits
from esnode.errors import Bug, DamagedRecord, FrameTooLarge, ProtocolError
from esnode.messages import (
    Append,
    Appended,
    CheckpointTaken,
    CutPrefix,
    Entries,
    ExplainKey,
    FaultsReply,
    FetchSnapshot,
    Goodbye,
    HealFault,
    Hello,
    KeyExplained,
    LeaderIs,
    ListFaults,
    OpenProducerSession,
    PrefixCutTo,
    ProducerOpened,
    Read,
    ReadEntries,
    Records,
    Refused,
    SetFault,
    SnapshotPiece,
    StatusReply,
    StatusRequest,
    Subscribe,
    TakeCheckpoint,
    TransferLeadership,
    Transferred,
    Welcome,
)
from esnode.raft.messages import (
    AppendEntries,
    AppendReject,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Rejoin,
    RejoinReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from esnode.wire import cbor, clients, peers
from esnode.wire.chunks import Fragment, SnapshotChunk
from esnode.wire.layout import LENGTH_BYTES, PREFIX, FrameType

Message = (
    Hello
    | Welcome
    | Goodbye
    | LeaderIs
    | Append
    | Appended
    | Refused
    | OpenProducerSession
    | ProducerOpened
    | Read
    | Subscribe
    | Records
    | StatusRequest
    | StatusReply
    | TransferLeadership
    | Transferred
    | ExplainKey
    | KeyExplained
    | SetFault
    | HealFault
    | ListFaults
    | FaultsReply
    | ReadEntries
    | Entries
    | FetchSnapshot
    | SnapshotPiece
    | CutPrefix
    | PrefixCutTo
    | TakeCheckpoint
    | CheckpointTaken
    | VoteRequest
    | VoteReply
    | AppendEntries
    | AppendReply
    | AppendReject
    | Heartbeat
    | HeartbeatReply
    | TimeoutNow
    | Rejoin
    | RejoinReply
    | SnapshotChunk
    | Fragment
)
"""All that has a frame. An `InstallSnapshot` travels as `SnapshotChunk`s, see `chunks`."""


class Codec(NamedTuple):
    """How one type of message becomes a frame and comes back.

    `encode` gives the whole frame; `decode(data, start, end)` reads the body `data[start:end]`.
    """

    number: FrameType
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes, int, int], Message]


def _rare(number: FrameType, cls: type[cbor.RareMessage]) -> Codec:
    """The codec of a message whose body is CBOR."""

    def encode_rare(message: cbor.RareMessage) -> bytes:
        body = cbor.encode_body(message)
        return PREFIX.pack(1 + len(body), number) + body

    def decode_rare(data: bytes, start: int, end: int) -> Message:
        return cbor.decode_body(cls, data[start:end])

    return Codec(number, encode_rare, decode_rare)


def _joined(parts: Callable[[Any], list[bytes]]) -> Callable[[Any], bytes]:
    """The encoder of a frame that is made in parts."""
    return lambda message: b"".join(parts(message))


_C: Final = clients
_P: Final = peers
_T: Final = FrameType

CODECS: Final[dict[type[Message], Codec]] = {
    Hello: _rare(_T.HELLO, Hello),
    Welcome: _rare(_T.WELCOME, Welcome),
    Goodbye: _rare(_T.GOODBYE, Goodbye),
    LeaderIs: Codec(_T.LEADER_IS, _C.encode_leader_is, _C.decode_leader_is),
    Append: Codec(_T.APPEND, _joined(_C.append_parts), _C.decode_append),
    Appended: Codec(_T.APPENDED, _C.encode_appended, _C.decode_appended),
    Refused: _rare(_T.REFUSED, Refused),
    OpenProducerSession: _rare(_T.OPEN_PRODUCER_SESSION, OpenProducerSession),
    ProducerOpened: _rare(_T.PRODUCER_OPENED, ProducerOpened),
    Read: Codec(_T.READ, _C.encode_read, _C.decode_read),
    Subscribe: Codec(_T.SUBSCRIBE, _C.encode_subscribe, _C.decode_subscribe),
    Records: Codec(_T.RECORDS, _C.encode_records, _C.decode_records),
    StatusRequest: _rare(_T.STATUS_REQUEST, StatusRequest),
    StatusReply: _rare(_T.STATUS_REPLY, StatusReply),
    TransferLeadership: _rare(_T.TRANSFER_LEADERSHIP, TransferLeadership),
    Transferred: _rare(_T.TRANSFERRED, Transferred),
    ExplainKey: _rare(_T.EXPLAIN_KEY, ExplainKey),
    KeyExplained: _rare(_T.KEY_EXPLAINED, KeyExplained),
    SetFault: _rare(_T.SET_FAULT, SetFault),
    HealFault: _rare(_T.HEAL_FAULT, HealFault),
    ListFaults: _rare(_T.LIST_FAULTS, ListFaults),
    FaultsReply: _rare(_T.FAULTS_REPLY, FaultsReply),
    ReadEntries: _rare(_T.READ_ENTRIES, ReadEntries),
    Entries: _rare(_T.ENTRIES, Entries),
    FetchSnapshot: _rare(_T.FETCH_SNAPSHOT, FetchSnapshot),
    SnapshotPiece: _rare(_T.SNAPSHOT_PIECE, SnapshotPiece),
    CutPrefix: _rare(_T.CUT_PREFIX, CutPrefix),
    PrefixCutTo: _rare(_T.PREFIX_CUT_TO, PrefixCutTo),
    TakeCheckpoint: _rare(_T.TAKE_CHECKPOINT, TakeCheckpoint),
    CheckpointTaken: _rare(_T.CHECKPOINT_TAKEN, CheckpointTaken),
    VoteRequest: Codec(_T.VOTE_REQUEST, _P.encode_vote_request, _P.decode_vote_request),
    VoteReply: Codec(_T.VOTE_REPLY, _P.encode_vote_reply, _P.decode_vote_reply),
    AppendEntries: Codec(_T.APPEND_ENTRIES, _joined(_P.append_entries_parts), _P.decode_append_entries),
    AppendReply: Codec(_T.APPEND_REPLY, _P.encode_append_reply, _P.decode_append_reply),
    AppendReject: Codec(_T.APPEND_REJECT, _P.encode_append_reject, _P.decode_append_reject),
    Heartbeat: Codec(_T.HEARTBEAT, _P.encode_heartbeat, _P.decode_heartbeat),
    HeartbeatReply: Codec(_T.HEARTBEAT_REPLY, _P.encode_heartbeat_reply, _P.decode_heartbeat_reply),
    TimeoutNow: Codec(_T.TIMEOUT_NOW, _P.encode_timeout_now, _P.decode_timeout_now),
    Rejoin: Codec(_T.REJOIN, _P.encode_rejoin, _P.decode_rejoin),
    RejoinReply: Codec(_T.REJOIN_REPLY, _P.encode_rejoin_reply, _P.decode_rejoin_reply),
    SnapshotChunk: Codec(_T.SNAPSHOT_CHUNK, _P.encode_snapshot_chunk, _P.decode_snapshot_chunk),
    Fragment: Codec(_T.FRAGMENT, _P.encode_fragment, _P.decode_fragment),
}

_ENCODERS: Final = {cls: codec.encode for cls, codec in CODECS.items()}
_DECODERS: Final = {int(codec.number): codec.decode for codec in CODECS.values()}
_PARTS: Final[dict[type[Message], Callable[[Any], list[bytes]]]] = {
    Append: clients.append_parts,
    AppendEntries: peers.append_entries_parts,
}
"""What carries events: their bytes need not be copied into a frame before they leave."""
_LENGTH: Final = struct.Struct(">I")
_SMALL_PIECE_BYTES: Final = 4096


def encode_parts(message: Append | AppendEntries) -> list[bytes]:
    """The frame of `message` in parts, to be sent one after the other; checked as `encode` does."""
    parts = _PARTS[type(message)](message)
    _check_size(message, sum(map(len, parts)))
    return parts


def encode(message: Message) -> bytes:
    """The whole frame of `message`, length first. One over the frame limit is a `Bug` of this side."""
    frame = _ENCODERS[type(message)](message)
    _check_size(message, len(frame))
    return frame


def decode(frame: bytes) -> Message:
    """The message of a whole frame without its length: type and body. Raises as `FrameReader.feed`."""
    decoder = _DECODERS.get(frame[0])
    if decoder is None:
        raise ProtocolError(f"the frame type {frame[0]:#04x} is not known")
    return decoder(frame, 1, len(frame))


def _check_size(message: Message, size_bytes: int) -> None:
    if size_bytes > LENGTH_BYTES + limits.MAX_FRAME_BYTES:
        raise Bug(f"a {type(message).__name__} of {size_bytes} bytes is over the frame limit")


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
