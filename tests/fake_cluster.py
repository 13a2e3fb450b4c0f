"""Nodes that speak the protocol and nothing else: a scripted cluster for the tests of the client.

One log in memory, shared by all: an append to the leader is in it at once and for ever. A test says
who leads, kills nodes, and may put itself between a request and its answer. Streams are trio's
memory streams, so the clock may jump.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing

from esnode.config import Address
from esnode.dedup.batch import Batch, OffsetRange, ProducerStamp, select, split_keys
from esnode.errors import (
    ConnectionLost,
    EarlierRefused,
    Moved,
    NotLeader,
    OffsetOutOfRange,
    OutOfSequence,
    PeerError,
    ProducerFenced,
    UnknownProducer,
    Unreachable,
)
from esnode.events import decode_events, make_batch
from esnode.messages import (
    Append,
    Appended,
    ExplainKey,
    KeyExplained,
    LeaderIs,
    OpenProducerSession,
    ProducerOpened,
    Read,
    Records,
    Refused,
    Side,
    StatusReply,
    StatusRequest,
    Subscribe,
    TransferLeadership,
    Transferred,
)
from esnode.raft.entry import Entry, EntryKind, seal
from esnode.transport.connection import Connection, accept
from esnode.wire import Message

Reply = Message | bytes | None
"""What a script answers: a message, raw bytes, or nothing. A `Subscribe` as it came: follow the log."""
Script = Callable[["FakeNode", Message], Reply]


@dataclass
class FakeSession:
    """What the cluster knows of a producer session."""

    id: int
    name: str
    holder: int
    epoch: int = 1
    offsets: list[int] = field(default_factory=list)
    """Of its events, by their numbers."""


@dataclass
class FakeLog:
    """What the cluster has stored."""

    entries: list[Entry] = field(default_factory=list)
    offsets: dict[bytes, int] = field(default_factory=dict)
    first_offset: int = 0
    partition: int = 0

    @property
    def next_offset(self) -> int:
        return self.entries[-1].next_offset if self.entries else 0

    def append(self, batch: Batch, term: int) -> tuple[tuple[OffsetRange, ...], int]:
        """Store what is new; the offsets of all, and how many were known."""
        keys = split_keys(batch.keys)
        fresh = [n for n, key in enumerate(keys) if key not in self.offsets]
        base = self.next_offset
        for place, n in enumerate(fresh):
            self.offsets[keys[n]] = base + place
        if fresh:
            part = batch if len(fresh) == batch.count else select(batch, fresh)
            self.add_entry(part.count, part.keys, part.payload, term)
        ranges = tuple(OffsetRange(self.offsets[key], 1) for key in keys)
        return ranges, len(keys) - len(fresh)

    def add_entry(
        self, count: int, keys: bytes, payload: bytes, term: int, kind: EntryKind = EntryKind.BATCH
    ) -> None:
        self.entries.append(
            seal(
                index=len(self.entries) + 1,
                term=term,
                kind=kind,
                base_offset=self.next_offset,
                log_time_ms=0,
                count=count,
                keys=keys,
                payload=payload,
                partition=self.partition,
            )
        )

    def records_from(self, offset: int) -> tuple[bytes, ...]:
        return tuple(entry.record for entry in self.entries if entry.next_offset > offset)

    def forget_keys(self) -> None:
        """The window is over."""
        self.offsets.clear()

    def events(self) -> list[dict[str, Any]]:
        """The stored events, in order."""
        return [event for entry in self.entries for event in decode_events(entry.payload)]

    def ids(self) -> list[str]:
        """The `id` of each stored event, in order."""
        return [event["id"] for entry in self.entries for event in decode_events(entry.payload)]


class FakeNode:
    """One node. `script` may take any request out of its hands."""

    def __init__(self, cluster: "FakeCluster", node_id: int) -> None:
        self.cluster = cluster
        self.id = node_id
        self.address = Address("node", node_id)
        self.up = True
        self.script: Script | None = None
        self.received: list[Message] = []
        self.refused_run: int | None = None
        """The run of the append that was last refused for its owner."""
        self.says: LeaderIs | None = None
        """What it believes about the leader; None: the truth."""
        self.connections: dict[Connection, trio.Lock] = {}
        self._scopes: set[trio.CancelScope] = set()

    @property
    def appends(self) -> list[Append]:
        return [message for message in self.received if isinstance(message, Append)]

    async def serve(self, stream: trio.abc.Stream) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with Connection(stream) as connection:
                    await self._serve(connection)
            except PeerError:
                pass  # the client has gone, or was told why it is not welcome
            finally:
                self._scopes.discard(scope)

    async def kill(self) -> None:
        """Close every connection and refuse new ones."""
        self.up = False
        for scope in self._scopes:
            scope.cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def say_leader(self) -> None:
        """Tell every client who leads."""
        for connection in list(self.connections):
            await self.send(connection, self.leader_is())

    def leader_is(self) -> LeaderIs:
        if self.says is not None:
            return self.says
        leader = self.cluster.leader
        address = f"node:{leader}" if leader else ""
        cluster = self.cluster
        return LeaderIs(
            *(cluster.term, leader, address, cluster.log.next_offset),
            cluster.ring_version,
            cluster.partitions,
        )

    async def send(self, connection: Connection, reply: Reply) -> None:
        lock = self.connections.get(connection)
        if reply is None or lock is None:
            return
        async with lock:
            if isinstance(reply, bytes):
                await connection.send_bytes(reply)
            else:
                await connection.send(reply)

    async def _serve(self, connection: Connection) -> None:
        await accept(
            connection,
            cluster=self.cluster.name,
            node_id=self.id,
            incarnation=self.id,
            allowed_side=Side.CLIENT,
            peers=(),
            partition=self.cluster.partition,
            partitions=self.cluster.partitions,
            ring=lambda: (self.cluster.ring_version, self.cluster.partitions),
        )
        self.connections[connection] = trio.Lock()
        try:
            await self.send(connection, self.leader_is())
            async with trio.open_nursery() as nursery:
                while messages := await connection.receive():
                    for message in messages:
                        self.received.append(message)
                        reply = (self.script or FakeNode.answer)(self, message)
                        if isinstance(reply, Subscribe):
                            nursery.start_soon(self._feed, connection, reply)
                        else:
                            await self.send(connection, reply)
                nursery.cancel_scope.cancel()
        except* ConnectionLost:
            pass  # the client has gone
        finally:
            del self.connections[connection]

    def answer(self, message: Message) -> Reply:
        """What an honest node says."""
        leads = self.cluster.leader == self.id
        log = self.cluster.log
        match message:
            case Append() | OpenProducerSession() | TransferLeadership() if not leads:
                return Refused(message.request_id, NotLeader.code, "another node leads")
            case Append(request_id, _, run) if run == self.refused_run:
                return Refused(request_id, EarlierRefused.code, "it may not overtake")
            case Append(request_id, batch, run) if not self.cluster.owns(batch):
                self.refused_run = run
                return Refused(request_id, Moved.code, "the source belongs to another partition")
            case Append(request_id, batch) if batch.producer is not None:
                return self.append_in_session(request_id, batch, batch.producer)
            case Append(request_id, batch):
                ranges, duplicates = log.append(batch, self.cluster.term)
                return Appended(request_id, ranges, duplicates)
            case OpenProducerSession():
                return self.open_session(message)
            case TransferLeadership(request_id, to):
                return Transferred(request_id, self.id, to or 2)
            case Read(request_id, from_offset):
                if from_offset < log.first_offset:
                    return Refused(request_id, OffsetOutOfRange.code, f"the first is {log.first_offset}")
                return self.records(request_id, log.records_from(from_offset)[:2])
            case Subscribe():
                return message
            case StatusRequest(request_id):
                return StatusReply(request_id, {"id": self.id} | self.cluster.ring_status)
            case ExplainKey(request_id, key):
                return KeyExplained(request_id, log.offsets.get(key, -1), 1000 if key in log.offsets else 0)
            case _:
                raise AssertionError(f"the client sent {message}")

    def open_session(self, wanted: OpenProducerSession) -> Reply:
        sessions, opens = self.cluster.sessions, wanted.request_id
        known = sessions.get(wanted.producer_id)
        if wanted.name:
            known = next((one for one in sessions.values() if one.name == wanted.name), None)
        if known is None and wanted.producer_id:
            return Refused(opens, UnknownProducer.code, "never heard of it")
        if known is None:
            self.cluster.producers += 1
            known = sessions[self.cluster.producers] = FakeSession(
                self.cluster.producers, wanted.name, wanted.holder
            )
            return ProducerOpened(opens, known.id, known.epoch)
        if wanted.producer_id and wanted.holder != known.holder and wanted.name:
            return Refused(opens, ProducerFenced.code, "somebody else has it")
        known.epoch, known.holder = known.epoch + 1, wanted.holder
        last_offset = known.offsets[-1] if known.offsets else -1
        return ProducerOpened(opens, known.id, known.epoch, len(known.offsets) - 1, last_offset)

    def append_in_session(self, request_id: int, batch: Batch, stamp: ProducerStamp) -> Reply:
        session = self.cluster.sessions.get(stamp.producer_id)
        if session is None:
            return Refused(request_id, UnknownProducer.code, "never heard of it")
        if stamp.epoch != session.epoch:
            return Refused(request_id, ProducerFenced.code, f"the epoch is {session.epoch}")
        before = len(session.offsets) - stamp.sequence
        if before < 0:
            return Refused(request_id, OutOfSequence.code, f"{len(session.offsets)} is missing")
        duplicates = min(before, batch.count)
        if duplicates < batch.count:
            fresh = select(batch, range(duplicates, batch.count))
            ranges, known = self.cluster.log.append(fresh, self.cluster.term)
            session.offsets += [part.base_offset for part in ranges]
            duplicates += known
        offsets = session.offsets[stamp.sequence : stamp.sequence + batch.count]
        return Appended(request_id, tuple(OffsetRange(offset, 1) for offset in offsets), duplicates)

    def records(self, request_id: int, records: tuple[bytes, ...], silence_ms: int = 0) -> Records:
        log = self.cluster.log
        return Records(request_id, log.first_offset, log.next_offset, silence_ms, records)

    async def _feed(self, connection: Connection, request: Subscribe) -> None:
        """Follow the log, one record at a time."""
        offset = request.from_offset
        log = self.cluster.log
        if offset < log.first_offset:
            refusal = Refused(request.request_id, OffsetOutOfRange.code, f"the first is {log.first_offset}")
            await self.send(connection, refusal)
            return
        while True:
            records = log.records_from(offset)[:1]
            await self.send(connection, self.records(request.request_id, records))
            if records:
                offset = next(e.next_offset for e in log.entries if e.record == records[0])
            else:
                with trio.move_on_after(1):
                    await self.cluster.grown.wait()


class FakeCluster:
    """Some nodes, one log, one leader."""

    def __init__(
        self,
        nursery: trio.Nursery,
        size: int = 3,
        name: str = "fake",
        partition: int = 0,
        partitions: int = 1,
    ) -> None:
        self.name = name
        self.partition = partition
        self.partitions = partitions
        self.logs: int | None = None
        """Of how many partitions there is a log, whether the ring still has them or not."""
        self.ring_version = 1
        self.owns: Callable[[Batch], bool] = lambda _batch: True
        self.term = 1
        self.leader = 1
        self.log = FakeLog(partition=partition)
        self.grown = trio.Event()
        self.producers = 0
        self.sessions: dict[int, FakeSession] = {}
        self.nodes = {n: FakeNode(self, n) for n in range(1, size + 1)}
        self.addresses = [f"node:{n}" for n in self.nodes]
        self.dialed: list[int] = []
        self._nursery = nursery

    async def dial(self, address: Address) -> trio.abc.Stream:
        """The client's `Dialer`."""
        await trio.lowlevel.checkpoint()
        self.dialed.append(address.port)
        node = self.nodes[address.port]
        if not node.up:
            raise Unreachable(f"{address} refuses")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(node.serve, theirs)
        return ours

    async def elect(self, node_id: int) -> None:
        """Let `node_id` lead from now on (0: nobody), and everybody say so."""
        if node_id:
            self.term += 1
        self.leader = node_id
        for node in self.nodes.values():
            await node.say_leader()

    @property
    def ring_status(self) -> dict[str, Any]:
        """What a status says of the ring: nothing where a test does not care."""
        return {} if self.logs is None else {"ring": {"logs": self.logs}}

    def grow(self, count: int, start: int = 0) -> None:
        """Put `count` events in the log, one entry each, behind every client's back."""
        for n in range(start, start + count):
            self.log.append(make_batch([{"id": str(n), "source": "/grown", "type": "t"}]), self.term)
        self.grown.set()
        self.grown = trio.Event()
