"""Every message that has a frame, in one table: its number, its type, and how its body is made.

A new message is a class in `esnode/messages.py` and a row here, and all else follows from these: `packed` if
it is frequent and all its fields are numbers, `cbor` if it is rare, `own` with functions in `clients` or
`peers` if neither will do. Numbers are never used again for something else. Called by `frames`.
"""

from typing import Final

from esnode.messages import (
    Append,
    Appended,
    ChangeRing,
    CheckpointTaken,
    ClientRequest,
    ConnectionMessage,
    CutPrefix,
    Entries,
    ExplainKey,
    FaultsReply,
    FetchSnapshot,
    Goodbye,
    HealFault,
    KeyExplained,
    LeaderIs,
    ListFaults,
    MovingKeys,
    NodeReply,
    OpenProducerSession,
    PrefixCutTo,
    ProducerOpened,
    Read,
    ReadEntries,
    ReadMovingKeys,
    Records,
    Refused,
    RingChanged,
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
    OnePieceMessage,
    Rejoin,
    RejoinReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from esnode.wire import clients, peers
from esnode.wire import fields as f
from esnode.wire.cbor import cbor, hello
from esnode.wire.chunks import FetchKeys, Fragment, KeyChunk, SnapshotChunk
from esnode.wire.fields import CODE, INDEX, INDEX_OR_NONE, MILLISECONDS, NAME, TERM, TEXT, U32, U64, truth
from esnode.wire.layout import Codec, own
from esnode.wire.packed import packed

Message = (
    ConnectionMessage
    | ClientRequest
    | NodeReply
    | OnePieceMessage
    | Rejoin
    | RejoinReply
    | SnapshotChunk
    | Fragment
    | FetchKeys
    | KeyChunk
)
"""All that has a frame. An `InstallSnapshot` travels as `SnapshotChunk`s, see `chunks`."""

TABLE: Final = (
    # How a connection begins and ends.
    hello(
        0x01,
        *(f.side, f.VERSION, f.VERSION, NAME, U32, U32, U64, f.digest, truth),
        *(f.digest, f.SETTING, f.digest, f.SETTING, INDEX, INDEX, f.PARTITION),
    ),
    cbor(0x02, Welcome, f.VERSION, NAME, U32, U64, U32, f.PARTITIONS, later=2),
    cbor(0x03, Goodbye, CODE, TEXT),
    own(0x04, LeaderIs, clients.leader_is_parts, clients.decode_leader_is),
    # Clients and nodes: the first field is the request's id.
    own(0x10, Append, clients.append_parts, clients.decode_append),
    own(0x11, Appended, clients.appended_parts, clients.decode_appended),
    cbor(0x12, Refused, U64, CODE, TEXT),
    cbor(0x13, OpenProducerSession, U64, f.PRODUCER, INDEX, U64),
    cbor(0x14, ProducerOpened, U64, INDEX, U32, INDEX_OR_NONE, INDEX_OR_NONE),
    packed(0x15, Read, U64, INDEX, U32, U32, truth),
    packed(0x16, Subscribe, U64, INDEX),
    own(0x17, Records, clients.records_parts, clients.decode_records),
    cbor(0x18, StatusRequest, U64),
    cbor(0x19, StatusReply, U64, f.plain_map),
    cbor(0x1A, TransferLeadership, U64, U32),
    cbor(0x1B, Transferred, U64, U32, U32),
    cbor(0x1C, ExplainKey, U64, f.key),
    cbor(0x1D, KeyExplained, U64, INDEX_OR_NONE, MILLISECONDS),
    cbor(0x1E, SetFault, U64, NAME, NAME, f.nodes, NAME, f.parameters, MILLISECONDS),
    cbor(0x1F, HealFault, U64, NAME),
    cbor(0x20, ListFaults, U64),
    cbor(0x21, FaultsReply, U64, f.plain_maps),
    cbor(0x28, ReadEntries, U64, INDEX, U32, truth),
    cbor(0x29, Entries, U64, INDEX, INDEX, f.byte_strings),
    cbor(0x2A, FetchSnapshot, U64),
    cbor(
        *(0x2B, SnapshotPiece, U64, INDEX, TERM, INDEX),
        *(f.LOG_TIME_MS, f.SNAPSHOT_BYTES, f.SNAPSHOT_BYTES, f.snapshot_piece),
    ),
    cbor(0x2C, CutPrefix, U64, INDEX),
    cbor(0x2D, PrefixCutTo, U64, INDEX, INDEX),
    cbor(0x2E, TakeCheckpoint, U64),
    cbor(0x2F, CheckpointTaken, U64, INDEX),
    cbor(0x30, ChangeRing, U64, U32, f.ring_change, f.adopted_keys),
    cbor(0x31, RingChanged, U64),
    cbor(0x32, ReadMovingKeys, U64, INDEX, f.PARTITIONS, f.PARTITION),
    cbor(0x33, MovingKeys, U64, INDEX, INDEX, f.adopted_keys),
    # Nodes among themselves.
    packed(0x40, VoteRequest, TERM, INDEX, TERM, truth, truth),
    packed(0x41, VoteReply, TERM, truth, truth),
    own(0x42, AppendEntries, peers.append_entries_parts, peers.decode_append_entries),
    packed(0x43, AppendReply, TERM, INDEX),
    packed(0x44, AppendReject, TERM, INDEX, INDEX, TERM),
    own(0x45, Heartbeat, peers.heartbeat_parts, peers.decode_heartbeat),
    own(0x46, HeartbeatReply, peers.heartbeat_reply_parts, peers.decode_heartbeat_reply),
    own(0x47, TimeoutNow, peers.timeout_now_parts, peers.decode_timeout_now),
    own(0x48, SnapshotChunk, peers.snapshot_chunk_parts, peers.decode_snapshot_chunk),
    packed(0x49, Rejoin, U64),
    packed(0x4A, RejoinReply, TERM, U64, truth, INDEX, TERM),
    own(0x4B, Fragment, peers.fragment_parts, peers.decode_fragment),
    own(0x4C, FetchKeys, peers.fetch_keys_parts, peers.decode_fetch_keys),
    own(0x4D, KeyChunk, peers.key_chunk_parts, peers.decode_key_chunk),
)
CODECS: Final[dict[type[Message], Codec]] = {codec.message: codec for codec in TABLE}
