"""A connection to one node, for operators: it asks that node and no other, and follows no leader.

Never retries: what goes wrong is raised. One question at a time; further callers wait their turn.
Used by the toolkit.
"""

import random
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import trio

from esnode import limits
from esnode.client.clusterpin import ClusterPin
from esnode.client.link import call
from esnode.client.partitionlog import KeyState
from esnode.client.stored import StoredBatch, StoredEvent, batches_of
from esnode.client.subscription import BatchSubscription, Subscription
from esnode.config import Address, parse_address
from esnode.dedup.batch import event_key
from esnode.dedup.ownership import RingChange
from esnode.errors import ConnectionLost, OperationTimeout, ProtocolError
from esnode.messages import (
    AdminRequest,
    ChangeRing,
    CheckpointTaken,
    CutPrefix,
    Entries,
    ExplainKey,
    FaultRequest,
    FaultsReply,
    FetchSnapshot,
    Goodbye,
    HealFault,
    KeyExplained,
    LeaderIs,
    ListFaults,
    MovingKeys,
    PrefixCutTo,
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
    TakeCheckpoint,
    TransferLeadership,
    Transferred,
    Welcome,
)
from esnode.raft.entry import kind_and_payload
from esnode.transport.connection import Connection, Dialer, error_of, open_stream
from esnode.wire import Message

Question = Read | StatusRequest | ExplainKey | TransferLeadership | FaultRequest | AdminRequest
_Answer = TypeVar(
    "_Answer",
    Records,
    StatusReply,
    KeyExplained,
    Transferred,
    FaultsReply,
    Entries,
    SnapshotPiece,
    PrefixCutTo,
    CheckpointTaken,
    RingChanged,
    MovingKeys,
)


@dataclass(frozen=True, slots=True)
class Page:
    """Batches of one node's log, and how that node stands.

    `first_offset` is the first event that it keeps, `next_offset` the end of what it has applied,
    `silence_ms` how long ago it heard from the leader (0 on the leader, -1: never).
    """

    batches: list[StoredBatch]
    first_offset: int
    next_offset: int
    silence_ms: int


def connect_node(
    address: str,
    *,
    cluster: str = "",
    partition: int | None = None,
    timeout_s: float | None = limits.OPERATION_TIMEOUT_S,
    dial: Dialer = open_stream,
) -> "NodeLink":
    """The context of a `NodeLink` to the node at `address` (`host:port`), to its process for `partition`.

    Entering connects, and raises `Unreachable`, `HandshakeTimeout`, `WrongCluster`,
    `VersionMismatch`, `ConnectionLost` or `ProtocolError`; `UnknownPartition`, `PartitionDown`, and
    `PartitionNeeded` where the cluster has several and none is given. Raises `InvalidConfig` for a bad
    address.
    """
    return NodeLink(parse_address(address), ClusterPin(cluster, partition), timeout_s, dial)


class NodeLink:
    """One node. Every method raises `OperationTimeout`, `ConnectionLost`, `ProtocolError`, or what
    the node refused it with; after the first two the link is of no more use. An answer that is on its
    way in is waited for, however long a slow link takes: the timeout is for silence."""

    def __init__(self, address: Address, pin: ClusterPin, timeout_s: float | None, dial: Dialer) -> None:
        self.address = address
        self.welcome: Welcome
        """Who answered."""
        self.leader: LeaderIs | None = None
        """Who leads, as the node last said."""
        self._pin = pin
        self._timeout_s = float("inf") if timeout_s is None else timeout_s
        self._dial = dial
        self._rng = random.Random()
        self._connection: Connection
        self._turn = trio.Lock()
        self._waiting: set[trio.CancelScope] = set()
        self._last_id = 0

    async def __aenter__(self) -> Self:
        self._connection, self.welcome = await call(self.address, self._dial, self._pin, self._rng)
        self._connection.on_progress(self._hear)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.aclose()

    async def status(self) -> dict[str, Any]:
        """The node's status; its keys are in docs/protocol.md."""
        return (await self._ask(StatusRequest(self._next_id()), StatusReply)).status

    async def read_page(
        self, from_offset: int, max_events: int = 1000, *, linearizable: bool = False
    ) -> Page:
        """One answer's worth of batches from `from_offset`; empty at the end of the log.

        Not `linearizable`: what this node has applied. Raises `OffsetOutOfRange`, `DamagedRecord`.
        """
        answer = await self.read_records(from_offset, max_events, linearizable=linearizable)
        batches = list(batches_of(answer.records, from_offset, from_offset + max_events))
        return Page(batches, answer.first_offset, answer.next_offset, answer.silence_ms)

    async def read_records(
        self, from_offset: int, max_events: int = 1000, *, linearizable: bool = False
    ) -> Records:
        """The same as it came: records that nobody has checked yet. For those who look for damage."""
        question = Read(self._next_id(), from_offset, max_events, limits.MAX_READ_BYTES, linearizable)
        return await self._ask(question, Records)

    async def read(
        self, from_offset: int, max_events: int = 1000, *, linearizable: bool = False
    ) -> list[StoredEvent]:
        """Up to `max_events` events from `from_offset`; fewer at the end of the log."""
        events: list[StoredEvent] = []
        offset = from_offset
        while len(events) < max_events:
            page = await self.read_page(offset, max_events - len(events), linearizable=linearizable)
            if not page.batches:
                break
            offset = page.batches[-1].next_offset
            events += [event for batch in page.batches for event in batch.events()]
        return events

    def subscribe(self, from_offset: int) -> Subscription:
        """Follow this node's log, on a connection of its own; it comes back when the node does."""
        return Subscription(self.subscribe_batches(from_offset))

    def subscribe_batches(self, from_offset: int) -> BatchSubscription:
        """The same in whole batches. Close it with its `aclose`, or use it as a context."""
        return BatchSubscription(lambda: [self.address], self._pin, from_offset, self._dial, self._rng)

    async def explain(self, source: str, event_id: str) -> KeyState:
        """What this node's deduplication table knows of the event."""
        return await self.explain_key(event_key(source, event_id))

    async def explain_key(self, key: bytes) -> KeyState:
        """The same by its 16-byte key."""
        answer = await self._ask(ExplainKey(self._next_id(), key), KeyExplained)
        return KeyState(key, answer.offset if answer.offset >= 0 else None, answer.expires_in_ms)

    async def transfer_leadership(self, to: int | None = None) -> tuple[int, int]:
        """Hand this node's leadership to `to`, or to the best follower; returns (from, to).

        Raises `NotLeader` when it has none.
        """
        answer = await self._ask(TransferLeadership(self._next_id(), to or 0), Transferred)
        return answer.old_leader, answer.new_leader

    async def set_fault(
        self,
        fault: str,
        kind: str,
        lease_ms: int,
        *,
        peers: Collection[int] = (),
        direction: str = "both",
        parameters: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """Begin a fault on this node, or renew the one of that id; as the node then shows it.

        Raises `FaultsNotAllowed`, `InvalidRequest`. What can be set is in docs/protocol.md.
        """
        request = SetFault(
            self._next_id(), fault, kind, sorted(peers), direction, dict(parameters or {}), lease_ms
        )
        (active,) = (await self._ask(request, FaultsReply)).faults
        return active

    async def heal_fault(self, fault: str = "") -> list[dict[str, Any]]:
        """End a fault of this node, or all; those that were active. Raises `FaultsNotAllowed`."""
        return (await self._ask(HealFault(self._next_id(), fault), FaultsReply)).faults

    async def faults(self) -> list[dict[str, Any]]:
        """The faults that are active on this node. Raises `FaultsNotAllowed`."""
        return (await self._ask(ListFaults(self._next_id()), FaultsReply)).faults

    async def read_entries(
        self, first_index: int, max_bytes: int = limits.MAX_READ_BYTES, *, linearizable: bool = False
    ) -> Entries:
        """The log's own records from `first_index`, unchecked, as far as this node has applied them.

        `linearizable`: the leader only, and `applied_index` covers all that was acked before. Raises
        `OffsetOutOfRange` where they are cut away.
        """
        question = ReadEntries(self._next_id(), first_index, max_bytes, linearizable)
        return await self._ask(question, Entries)

    async def fetch_snapshot(self, take: Callable[[SnapshotPiece], None]) -> None:
        """Give `take` what the prefix meant that this node has cut, in pieces; nothing when there is none."""
        question = FetchSnapshot(self._next_id())
        piece = await self._ask(question, SnapshotPiece)
        received = 0
        while piece.index:
            if piece.position != received or not (piece.data or not piece.total_bytes):
                raise ProtocolError(f"the piece at byte {piece.position} of a snapshot continues nothing")
            received += len(piece.data)
            take(piece)
            if received >= piece.total_bytes:
                return
            piece = await self._answer_to(question, SnapshotPiece)

    async def cut_prefix(self, before_offset: int) -> PrefixCutTo:
        """Let this node cut the entries whose events are all before `before_offset`."""
        return await self._ask(CutPrefix(self._next_id(), before_offset), PrefixCutTo)

    async def take_checkpoint(self) -> CheckpointTaken:
        """Make this node take a checkpoint now."""
        return await self._ask(TakeCheckpoint(self._next_id()), CheckpointTaken)

    async def change_ring(self, change: RingChange, keys: bytes = b"") -> None:
        """Let the log of this node's partition say `change`; it is durable when this returns.

        Raises `NotLeader`, `RingConflict` where it cannot follow what the log says, `LeadershipLost`.
        """
        kind, payload = kind_and_payload(change)
        await self._ask(ChangeRing(self._next_id(), kind, payload, keys), RingChanged)

    async def moving_keys(self, from_offset: int, partitions: int, partition: int) -> MovingKeys:
        """Applied keys from `from_offset` that `partition` owns under the ring with so many `partitions`."""
        return await self._ask(
            ReadMovingKeys(self._next_id(), from_offset, partitions, partition), MovingKeys
        )

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """End the block when nothing has come for the timeout, no part of an answer either."""
        with trio.move_on_after(self._timeout_s) as scope:
            self._waiting.add(scope)
            try:
                yield
            finally:
                self._waiting.remove(scope)

    def _hear(self) -> None:
        for scope in self._waiting:
            scope.deadline = trio.current_time() + self._timeout_s

    async def _ask(self, question: Question, expects: type[_Answer]) -> _Answer:
        with self._patience():
            async with self._turn:
                await self._connection.send(question)
                return await self._received(question, expects)
        raise OperationTimeout(f"the node at {self.address} gave no answer within {self._timeout_s:g} s")

    async def _answer_to(self, question: Question, expects: type[_Answer]) -> _Answer:
        """One more answer to a question that has several."""
        with self._patience():
            async with self._turn:
                return await self._received(question, expects)
        raise OperationTimeout(f"the node at {self.address} gave no answer within {self._timeout_s:g} s")

    async def _received(self, question: Question, expects: type[_Answer]) -> _Answer:
        while True:
            message = await self._connection.receive_one()
            answer = self._sift(question.request_id, message, expects)
            if answer is not None:
                return answer

    def _sift(self, request_id: int, message: Message | None, expects: type[_Answer]) -> _Answer | None:
        """The answer, or None for what is none: news, and the answers to questions given up."""
        match message:
            case None:
                raise ConnectionLost(f"the node at {self.address} ended the connection")
            case LeaderIs():
                self.leader = message
            case Goodbye(code, text):
                raise error_of(code, text)
            case Refused(answered, code, text):
                if answered == request_id:
                    raise error_of(code, text)
            case (
                Records()
                | StatusReply()
                | KeyExplained()
                | Transferred()
                | FaultsReply()
                | Entries()
                | SnapshotPiece()
                | PrefixCutTo()
                | CheckpointTaken()
                | RingChanged()
                | MovingKeys()
            ):
                if message.request_id == request_id:
                    if not isinstance(message, expects):
                        raise ProtocolError(f"a {expects.__name__} was due, {type(message).__name__} came")
                    return message
            case _:
                raise ProtocolError(f"a node may not send {type(message).__name__} to a client")
        return None
