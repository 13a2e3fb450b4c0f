"""What clients and nodes say to each other besides Raft: frozen messages, no bytes.

`esnode/wire/frames.py` turns these, and the Raft messages of `esnode/raft/messages.py`, into frames and
back. Nothing here computes. Called by the wire, the ingest, the client.
"""

import enum
from typing import Any

from esnode.dataclass import dataclass
from esnode.dedup.batch import Batch, OffsetRange
from esnode.ring import FIRST_VERSION

PROTOCOL_VERSION = 3


class Side(enum.IntEnum):
    """Who opens a connection."""

    CLIENT = 1
    PEER = 2


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a connection, from the side that opened it.

    `cluster` is empty when a client does not care. `node_id` is the sender's number and
    `wanted_id` the number of the node it means to reach; both 0 for a client that takes any.
    `incarnation` is a random number of the sending process. A node names its data `directory` (16 bytes;
    a client has none), and says whether it is `rejoining`. The rest is a node's, too: digests (16 bytes) and
    readable values of the settings that all nodes must have alike, the last index of its log, and up to
    where it has applied that: committed for certain, and durable. Both name the `partition` that they mean.
    """

    side: Side
    min_version: int
    max_version: int
    cluster: str
    node_id: int
    wanted_id: int
    incarnation: int
    directory: bytes = b""
    rejoining: bool = False
    members: bytes = b""
    members_text: str = ""
    dedup: bytes = b""
    dedup_text: str = ""
    last_index: int = 0
    applied_index: int = 0
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to a good `Hello`: the version to speak, who answers, and the ring that it goes by."""

    version: int
    cluster: str
    node_id: int
    incarnation: int
    ring_version: int = FIRST_VERSION
    partitions: int = 1


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The last frame before a node closes a connection for a reason that has a code."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class LeaderIs:
    """Sent to every client after `Welcome`, whenever it changes, and now and then: who leads, as this node
    sees it, the offset after the last event that it has applied, and the ring that the partition goes by.

    `leader` is 0 and `address` empty while nobody does.
    """

    term: int
    leader: int
    address: str
    next_offset: int = 0
    ring_version: int = FIRST_VERSION
    partitions: int = 1


@dataclass(frozen=True, slots=True)
class Append:
    """Put `batch` in the log, behind what this connection has sent before in the same `run`.

    Once a node has refused an append it refuses all later ones of its run; the client begins another run
    with the first one that has no answer.
    """

    request_id: int
    batch: Batch
    run: int = 0


@dataclass(frozen=True, slots=True)
class Appended:
    """The batch of `request_id` is on the disks of a majority. `ranges` are its events' offsets, in
    the order of the batch; `duplicates` of them had been in the log before."""

    request_id: int
    ranges: tuple[OffsetRange, ...]
    duplicates: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The request failed. `code` is that of `esnode/errors.py`, which says whether it is definite."""

    request_id: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class OpenProducerSession:
    """Open a producer session: a new one, or the one of `name`, whose older holder is fenced by it.

    With `producer_id` the session goes on under a new epoch: one of a name only if this `holder`, a random
    number of the client, was the last to open it.
    """

    request_id: int
    name: str = ""
    producer_id: int = 0
    holder: int = 0


@dataclass(frozen=True, slots=True)
class ProducerOpened:
    """The session's id and epoch, durable; the number of its last event (-1: there is none) and its offset.

    The offset is -1 where no node remembers it.
    """

    request_id: int
    producer_id: int
    epoch: int
    last_sequence: int = -1
    last_offset: int = -1


@dataclass(frozen=True, slots=True)
class Read:
    """Give me events from `from_offset`, at most `max_events` and about `max_bytes`.

    `linearizable`: through the leader only, and seeing everything acked before. Otherwise from
    whatever this node has applied.
    """

    request_id: int
    from_offset: int
    max_events: int
    max_bytes: int
    linearizable: bool


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Follow the log from `from_offset`: `Records` come under this id until the connection ends."""

    request_id: int
    from_offset: int


@dataclass(frozen=True, slots=True)
class Records:
    """Whole records of the log (see `esnode/raft/entry.py`), in order.

    The first and the last may hold events outside what was asked for: the reader cuts them.
    `first_offset` is the first event kept on this node, `next_offset` the end of what it has
    applied, `silence_ms` how long ago it last heard from the leader (0 on the leader; -1: never).
    """

    request_id: int
    first_offset: int
    next_offset: int
    silence_ms: int
    records: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """How are you? Always answered by the node itself, leader or not."""

    request_id: int


@dataclass(frozen=True, slots=True)
class StatusReply:
    """A CBOR map; its keys are listed in docs/protocol.md."""

    request_id: int
    status: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TransferLeadership:
    """Hand the leadership to node `to`, or with 0 to the best follower."""

    request_id: int
    to: int


@dataclass(frozen=True, slots=True)
class Transferred:
    """The leadership has moved, from whom to whom."""

    request_id: int
    old_leader: int
    new_leader: int


@dataclass(frozen=True, slots=True)
class ExplainKey:
    """What does the deduplication table know of `key` (16 bytes)?"""

    request_id: int
    key: bytes


@dataclass(frozen=True, slots=True)
class KeyExplained:
    """`expires_in_ms` is in log time: 0 when the key is not known, -1 for a key that expires at no time.

    `offset` is -1 when the key is not known, or when the event is in the log of another partition.
    """

    request_id: int
    offset: int
    expires_in_ms: int


@dataclass(frozen=True, slots=True)
class SetFault:
    """Break something on purpose, for `lease_ms` at most; the same id again renews or replaces it.

    `kind`, `direction` and the names in `parameters` are those of `esnode/faults.py`. `peers` are the
    nodes at the other end of the links that are struck; none for a fault of the disk.
    """

    request_id: int
    fault: str
    kind: str
    peers: list[int]
    direction: str
    parameters: dict[str, int]
    lease_ms: int


@dataclass(frozen=True, slots=True)
class HealFault:
    """End a fault before its lease does; all of them when `fault` is empty."""

    request_id: int
    fault: str


@dataclass(frozen=True, slots=True)
class ListFaults:
    """Which faults are active?"""

    request_id: int


@dataclass(frozen=True, slots=True)
class FaultsReply:
    """The fault that was set, those that were healed, or those that are active: a map each, see
    docs/protocol.md."""

    request_id: int
    faults: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ReadEntries:
    """Give me the entries of your log from `first_index`, as they are stored, about `max_bytes` of them.

    For whoever makes a backup: with all that has no event, but never past what is applied. `linearizable`:
    through the leader only, and `Entries.applied_index` is no less than what was acked before.
    """

    request_id: int
    first_index: int
    max_bytes: int
    linearizable: bool


@dataclass(frozen=True, slots=True)
class Entries:
    """Whole records, in order, without gaps; none where `first_index` is past what is applied.

    Entries up to `prefix_index` are cut away on this node.
    """

    request_id: int
    prefix_index: int
    applied_index: int
    records: list[bytes]


@dataclass(frozen=True, slots=True)
class FetchSnapshot:
    """Give me what your cut prefix meant: `SnapshotPiece`s come under this id until it is whole."""

    request_id: int


@dataclass(frozen=True, slots=True)
class SnapshotPiece:
    """The bytes from `position` of the snapshot at `index`; the one that reaches `total_bytes` is the last.

    `index` is 0, and there is no data, where nothing is cut away.
    """

    request_id: int
    index: int
    term: int
    next_offset: int
    log_time_ms: int
    total_bytes: int
    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class CutPrefix:
    """Let go of the entries whose events are all before `before_offset`; on this node only."""

    request_id: int
    before_offset: int


@dataclass(frozen=True, slots=True)
class PrefixCutTo:
    """The log of this node begins after `prefix_index`, with the event at `first_offset`."""

    request_id: int
    prefix_index: int
    first_offset: int


@dataclass(frozen=True, slots=True)
class TakeCheckpoint:
    """Take a checkpoint now, so that the next start has little to replay."""

    request_id: int


@dataclass(frozen=True, slots=True)
class CheckpointTaken:
    """It is on disk: the state after the entry at `index`."""

    request_id: int
    index: int


@dataclass(frozen=True, slots=True)
class ChangeRing:
    """Let the log of this partition say what `change` does: the payload of an entry of this `kind`.

    `keys` are the adopted ones. For whoever carries out a plan; saying the same again does no harm.
    """

    request_id: int
    kind: int
    change: bytes
    keys: bytes = b""


@dataclass(frozen=True, slots=True)
class RingChanged:
    """The log says so, durably."""

    request_id: int


@dataclass(frozen=True, slots=True)
class ReadMovingKeys:
    """Give me those of your keys from `from_offset` that `partition` owns under the ring with so many
    `partitions`: as many as one entry holds."""

    request_id: int
    from_offset: int
    partitions: int
    partition: int


@dataclass(frozen=True, slots=True)
class MovingKeys:
    """They are all such keys from where was asked up to `end_offset`, in order; none was forgotten from
    `floor` on."""

    request_id: int
    end_offset: int
    floor: int
    keys: bytes


ConnectionMessage = Hello | Welcome | Goodbye | LeaderIs
FaultRequest = SetFault | HealFault | ListFaults
AdminRequest = ReadEntries | FetchSnapshot | CutPrefix | TakeCheckpoint | ChangeRing | ReadMovingKeys
ClientRequest = (
    Append
    | OpenProducerSession
    | Read
    | Subscribe
    | StatusRequest
    | TransferLeadership
    | ExplainKey
    | FaultRequest
    | AdminRequest
)
AdminReply = Entries | SnapshotPiece | PrefixCutTo | CheckpointTaken | RingChanged | MovingKeys
NodeReply = (
    Appended
    | Refused
    | ProducerOpened
    | Records
    | StatusReply
    | Transferred
    | KeyExplained
    | FaultsReply
    | AdminReply
)
