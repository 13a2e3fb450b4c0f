"""What goes into the Raft core and what comes out: frozen messages, inputs, and `Ready`.

Three vocabularies, in this order: what nodes say to each other, what the driver tells the core, and
what the core asks of the driver. Nothing here computes. Called by the core, the wire and the driver.
"""

import enum
from typing import Final

from esnode.dataclass import dataclass
from esnode.dedup.batch import Batch, OffsetRange
from esnode.dedup.ownership import RingChange
from esnode.dedup.producers import Opened
from esnode.raft.appendorder import AppendOrder
from esnode.raft.entry import Entry
from esnode.refusal import Refusal

NodeId = int
"""A node's number, 1 or more. 0 means "nobody" on the wire and never appears in the core."""


class Role(enum.Enum):
    """What a node is at the moment."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


UNKNOWN: Final = -1
"""An offset or a log time that a node does not have in memory."""


@dataclass(frozen=True, slots=True)
class LogPoint:
    """An entry of a log, and where the events stand after it: equal on all nodes that have committed it."""

    index: int
    term: int
    next_offset: int
    log_time_ms: int


ORIGIN: Final = LogPoint(0, 0, 0, 0)
"""Where every log begins."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """What a follower has committed is not what its leader's log has: their histories have split."""

    peer: NodeId
    ours: LogPoint
    theirs: LogPoint
    end: LogPoint | None = None
    """What the leader has applied last."""


# --- what nodes say to each other (Raft figure 2, with the extensions of the thesis) --------------


@dataclass(frozen=True, slots=True)
class VoteRequest:
    """Asks for a vote. `pre`: would you vote for me in `term`? (thesis 9.6)

    `transfer`: the leader itself asked for this election, so a live leader is no reason to refuse.
    """

    term: int
    last_index: int
    last_term: int
    pre: bool
    transfer: bool = False


@dataclass(frozen=True, slots=True)
class VoteReply:
    """Answers a `VoteRequest`. A granted pre-vote carries the term asked for, all else the voter's."""

    term: int
    granted: bool
    pre: bool


@dataclass(frozen=True, slots=True)
class AppendEntries:
    """Entries that follow (`prev_index`, `prev_term`), and the leader's commit index."""

    term: int
    prev_index: int
    prev_term: int
    commit: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AppendReply:
    """The sender's log matches the leader's, durably, up to `match_index`."""

    term: int
    match_index: int


@dataclass(frozen=True, slots=True)
class AppendReject:
    """The sender's log does not hold (`rejected_index`, prev_term).

    The logs can match at most at `hint_index`, where the sender's term is `hint_term`. A hint past
    `rejected_index` says that the sender's log begins after that, and is committed up to the hint.
    """

    term: int
    rejected_index: int
    hint_index: int
    hint_term: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The leader lives, and has `applied` so much. `probe`: the ReadIndex round (thesis 6.4), 0: none yet."""

    term: int
    commit: int
    probe: int
    applied: LogPoint = ORIGIN


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """Answers a `Heartbeat`, with its `probe`, and says what the sender has applied.

    A follower that ends since its leader contradicts it names the entry that shows it instead.
    """

    term: int
    probe: int
    applied: LogPoint = ORIGIN


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the log up to (`index`, `term`) meant: the state of the machine, without the events."""

    index: int
    term: int
    next_offset: int
    log_time_ms: int
    data: bytes | bytearray


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """Replaces the follower's log up to the snapshot's index."""

    term: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """Start an election at once (thesis 3.10). `asked`: an operator has asked for that."""

    term: int
    asked: bool = False


OnePieceMessage = (
    VoteRequest
    | VoteReply
    | AppendEntries
    | AppendReply
    | AppendReject
    | Heartbeat
    | HeartbeatReply
    | TimeoutNow
)
RaftMessage = OnePieceMessage | InstallSnapshot
"""What is said in a term, and void once that term is over."""


@dataclass(frozen=True, slots=True)
class Rejoin:
    """The sender's disk does not hold all that it once promised: forget it, then say where you are.

    In no term: whoever lost its disk cannot name one. `nonce` numbers the question (`rejoin.py`).
    """

    nonce: int


@dataclass(frozen=True, slots=True)
class RejoinReply:
    """Answers a `Rejoin`, with its `nonce`: the sender counts nothing that was said before it.

    `sound`: the sender has reason to trust its own disk (`rejoin.is_vouched_for`). Its log ends at
    (`last_index`, `last_term`).
    """

    term: int
    nonce: int
    sound: bool
    last_index: int
    last_term: int


PeerMessage = RaftMessage | Rejoin | RejoinReply


# --- what the driver tells the core ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the peer `sender` has arrived."""

    sender: NodeId
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class PartReceived:
    """More of a large message of the peer `sender` has arrived, and the rest is on its way."""

    sender: NodeId


@dataclass(frozen=True, slots=True)
class Propose:
    """A client wants `batch` in the log. Answered once, by a `Decision` with the same token.

    `order` is that of the connection that it came on, and `run` its run there; None: in no order with others.
    """

    token: int
    batch: Batch
    order: AppendOrder | None = None
    run: int = 0


@dataclass(frozen=True, slots=True)
class OpenProducer:
    """A client wants a producer session. Answered once, by a `Decision`, which says what was `opened`.

    See `Admission.open` for what is wanted.
    """

    token: int
    name: str = ""
    producer_id: int = 0
    holder: int = 0


@dataclass(frozen=True, slots=True)
class ProposeRing:
    """The log is to say `change`; `keys` are the adopted ones. Answered once, by a `Decision`.

    What the log says already is not said again: it is done once that is committed.
    """

    token: int
    change: RingChange
    keys: bytes = b""


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """A client wants a linearizable read. Answered once, by a `ReadGrant` with the same token."""

    token: int


@dataclass(frozen=True, slots=True)
class Persisted:
    """All that `Ready` asked to write, up to and including `write_id`, is durable."""

    write_id: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """The answer to a `Fetch`: consecutive entries from its `first_index`, at least one.

    Empty when they are not there any more (the prefix was cut meanwhile).
    """

    fetch: "Fetch"
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """`peer` has welcomed this node on a new connection; what was in flight on an older may be lost."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """A message to `peer` was dropped or its connection broke."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The connection on which `peer` sends to us has closed: its process has probably ended."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class SnapshotSent:
    """The sending of a snapshot to `peer` has ended, well (`ok`) or not."""

    peer: NodeId
    ok: bool


@dataclass(frozen=True, slots=True)
class PrefixCut:
    """Storage has cut the log up to `index`, and holds a snapshot of exactly that prefix."""

    index: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Hand the leadership to `to`; None: to the follower with the longest log; this node: to nobody.

    With a `token` it is answered once, by a `Decision` with the same token: whether that was begun. `asked`:
    an operator has asked for it, and the next leader is to know that.
    """

    to: NodeId | None
    token: int = 0
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """The heartbeat interval has passed."""


@dataclass(frozen=True, slots=True)
class Tick:
    """`elapsed_ms` have passed on this node's monotonic clock."""

    elapsed_ms: int


Input = (
    Received
    | PartReceived
    | Propose
    | OpenProducer
    | ProposeRing
    | ReadIndex
    | Persisted
    | Fetched
    | PeerConnected
    | PeerUnreachable
    | PeerClosed
    | SnapshotSent
    | PrefixCut
    | Transfer
    | Beat
    | Tick
)


# --- what the core asks of the driver --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message and its addressee."""

    to: NodeId
    message: PeerMessage


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a `Propose`, an `OpenProducer`, a `ProposeRing` or a `Transfer`.

    With `refusal` the request is definitely not done. Otherwise it is done once `wait_index` is
    applied while this node still leads in `term`: then `ranges` are the offsets of the batch's
    events, in their order, `duplicates` of which were known before. A refusal to open a session is what
    the leader of `term` knows, which may be none any more.
    """

    token: int
    term: int
    wait_index: int
    ranges: tuple[OffsetRange, ...]
    duplicates: int
    refusal: Refusal | None
    opened: Opened | None = None


@dataclass(frozen=True, slots=True)
class ReadGrant:
    """A read may be served once `index` is applied; with `refusal`, it may not."""

    token: int
    index: int
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read entries `first_index` to at most `last_index` from storage, for the follower `peer`.

    At most `limits.MAX_FETCH_BYTES`, at least one entry; answer with `Fetched`.
    """

    peer: NodeId
    term: int
    first_index: int
    last_index: int


@dataclass(frozen=True, slots=True)
class SendSnapshot:
    """Send the stored snapshot to `peer` under `term`; answer with `SnapshotSent`."""

    peer: NodeId
    term: int


@dataclass(frozen=True, slots=True)
class HardState:
    """What must be durable before any message that depends on it leaves."""

    term: int
    vote: NodeId | None


@dataclass(frozen=True, slots=True)
class SoftState:
    """What is worth telling when it changes."""

    role: Role
    term: int
    leader: NodeId | None
    rejoining: bool = False
    """It cannot trust its own disk yet: it votes for nobody and serves no reader."""


@dataclass(frozen=True, slots=True)
class Write:
    """What storage must make durable, in this order: snapshot, hard state, entries.

    A `snapshot` replaces the whole log. `entries` are consecutive; whatever is stored at or after
    the first one's index is cut away first. `commit` is a hint for the next start: storage keeps it
    with the rest, at no extra fsync. With `rejoined` the node trusts its disk again: once all this is
    durable, storage forgets that it was rejoining.
    """

    write_id: int
    snapshot: Snapshot | None
    hard_state: HardState | None
    entries: tuple[Entry, ...]
    commit: int
    rejoined: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """All that the core wants done, taken at once.

    `messages` may leave at once; `messages_after` may leave only when every write handed out so
    far, this one included, is durable (thesis 10.2.1). `committed` must be applied, in order, and
    `Core.applied_to` called, before the next input is stepped; `write.snapshot`, where there is
    one, is restored before that.
    """

    write: Write | None
    messages: tuple[Outgoing, ...]
    messages_after: tuple[Outgoing, ...]
    committed: tuple[Entry, ...]
    decisions: tuple[Decision, ...]
    read_grants: tuple[ReadGrant, ...]
    fetches: tuple[Fetch, ...]
    snapshots: tuple[SendSnapshot, ...]
    soft_state: SoftState | None
    conflicts: tuple[Conflict, ...] = ()
    """Followers found to contradict this leader, each told once in its term."""


NOTHING: Final = Ready(None, (), (), (), (), (), (), (), None)
"""What follows from most heartbeats and ticks."""
