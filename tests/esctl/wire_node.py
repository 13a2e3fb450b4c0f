"""A node that speaks the real protocol and has whatever log and manners a test gives it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
import trio

from esctl.clusters.state import Cluster, Node
from esnode import limits
from esnode.errors import ConnectionLost, FaultsNotAllowed, NotLeader, OffsetOutOfRange, PeerError
from esnode.events import encode_event, key_of
from esnode.messages import (
    Entries,
    ExplainKey,
    FaultsReply,
    FetchSnapshot,
    HealFault,
    KeyExplained,
    LeaderIs,
    ListFaults,
    Read,
    ReadEntries,
    Records,
    Refused,
    SetFault,
    Side,
    SnapshotPiece,
    StatusReply,
    StatusRequest,
    Subscribe,
    TransferLeadership,
    Transferred,
)
from esnode.raft.entry import EntryKind, parse, seal
from esnode.transport.connection import Connection, accept
from esnode.wire import Message

IDENTITY = "wire-0a1b2c3d"


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"e{number}", "source": "/test", "type": "t", "data": {"n": number}, **more}


def record(base_offset: int, events: Sequence[dict[str, Any]], *, at_ms: int | None = None) -> bytes:
    return seal(
        index=base_offset + 1,
        term=1,
        kind=EntryKind.BATCH,
        base_offset=base_offset,
        log_time_ms=base_offset if at_ms is None else at_ms,
        count=len(events),
        keys=b"".join(key_of(one) for one in events),
        payload=cbor2.dumps([encode_event(one) for one in events]),
    ).record


def log(count: int, size: int = 2) -> list[bytes]:
    """`count` events in records of `size`."""
    return [
        record(start, [event(n) for n in range(start, min(start + size, count))])
        for start in range(0, count, size)
    ]


@dataclass
class WireNode:
    """One node. A log may be wrong in any way; `mute` nodes take connections and say nothing."""

    id: int
    records: list[bytes] = field(default_factory=list)
    role: str = "follower"
    term: int = 1
    leader: int = 1
    first_offset: int = 0
    claimed_next_offset: int | None = None
    page_records: int = 1000
    mute: bool = False
    rejoining: bool = False
    rejoin_cause: str | None = None
    deaf_to_reads: bool = False
    leave_after_reads: int | None = None
    cut_after_reads: int | None = None
    """Then retention has cut what is asked for."""
    known: dict[bytes, int] = field(default_factory=dict)
    dedup: dict[str, Any] = field(default_factory=dict)
    faults_allowed: bool = True
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    clock_off_ms: int = 0
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    applied_indexes: list[int] = field(default_factory=lambda: [9])
    """One for each status that is asked for; the last one stays."""
    troubles: int = 0
    """Connections that ended with an error."""
    asked: list[Message] = field(default_factory=list)
    grown: trio.Event = field(default_factory=trio.Event)

    @property
    def next_offset(self) -> int:
        if self.claimed_next_offset is not None:
            return self.claimed_next_offset
        return max((_place(one)[1] for one in self.records), default=0)

    def grow(self, *records: bytes) -> None:
        """The log has become longer."""
        self.records += records
        self.grown.set()
        self.grown = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        async with Connection(stream) as connection:
            try:
                if self.mute:
                    await trio.sleep_forever()
                await accept(
                    connection,
                    cluster=IDENTITY,
                    node_id=self.id,
                    incarnation=self.id,
                    allowed_side=Side.CLIENT,
                    peers=(),
                )
                await connection.send(LeaderIs(self.term, self.leader, ""))
                async with trio.open_nursery() as nursery:
                    while messages := await connection.receive():
                        for message in messages:
                            self.asked.append(message)
                            nursery.start_soon(self._answer, connection, message)
                    nursery.cancel_scope.cancel()
            except* PeerError:
                self.troubles += 1

    async def _answer(self, connection: Connection, message: Message) -> None:
        try:
            await self._answer_one(connection, message)
        except ConnectionLost:
            return

    async def _answer_one(self, connection: Connection, message: Message) -> None:
        match message:
            case StatusRequest(request_id):
                await connection.send(StatusReply(request_id, self.status()))
            case Read(request_id, _, _, _, True) if self.role != "leader":
                await connection.send(Refused(request_id, NotLeader.code, f"node {self.leader} leads"))
            case Read() if self.deaf_to_reads:
                return
            case Read(request_id, offset):
                if self.leave_after_reads is not None and offset < limits.MAX_INDEX:
                    self.leave_after_reads -= 1
                    if self.leave_after_reads < 0:
                        await connection.aclose()
                        return
                await connection.send(self.page(request_id, offset))
            case Subscribe(request_id, offset):
                while True:
                    grown, page = self.grown, self.page(request_id, offset)
                    await connection.send(page)
                    offset = max((_place(one)[1] for one in page.records), default=offset)
                    await grown.wait()
            case ExplainKey(request_id, key):
                offset = self.known.get(key, -1)
                await connection.send(KeyExplained(request_id, offset, 61_000 if offset >= 0 else 0))
            case SetFault() | HealFault() | ListFaults() if not self.faults_allowed:
                await connection.send(Refused(message.request_id, FaultsNotAllowed.code, "not here"))
            case SetFault(request_id, fault, kind, peers):
                self.faults[fault] = {"id": fault, "kind": kind, "peers": peers, "left_ms": 8_000, "hits": 0}
                await connection.send(FaultsReply(request_id, [self.faults[fault]]))
            case HealFault(request_id, fault):
                await connection.send(FaultsReply(request_id, [self.faults.pop(fault)]))
            case ListFaults(request_id):
                await connection.send(FaultsReply(request_id, list(self.faults.values())))
            case ReadEntries(request_id, _, _, True) if self.role != "leader":
                await connection.send(Refused(request_id, NotLeader.code, f"node {self.leader} leads"))
            case ReadEntries(request_id, index) if index < limits.MAX_INDEX:
                if self.leave_after_reads is not None:
                    self.leave_after_reads -= 1
                    if self.leave_after_reads < 0:
                        await connection.aclose()
                        return
                await connection.send(self.entries(request_id, index))
            case ReadEntries(request_id):
                await connection.send(Entries(request_id, 0, len(self.records), []))
            case FetchSnapshot(request_id):
                await connection.send(SnapshotPiece(request_id, 0, 0, 0, 0, 0, 0, b""))
            case TransferLeadership(request_id, to):
                await connection.send(Transferred(request_id, self.id, to or 2))
            case _:
                raise AssertionError(message)

    def page(self, request_id: int, offset: int) -> Records:
        found = [one for one in self.records if _place(one)[1] > offset][: self.page_records]
        return Records(request_id, self.first_offset, self.next_offset, 12, tuple(found))

    def entries(self, request_id: int, index: int) -> Entries | Refused:
        """For a log whose entries are numbered from 1."""
        if self.cut_after_reads is not None:
            self.cut_after_reads -= 1
            if self.cut_after_reads < 0:
                return Refused(request_id, OffsetOutOfRange.code, "cut away")
        return Entries(request_id, 0, len(self.records), self.records[index - 1 :][: self.page_records])

    def status(self) -> dict[str, Any]:
        index = self.applied_indexes.pop(0) if len(self.applied_indexes) > 1 else self.applied_indexes[0]
        return {
            "version": "1.0.0", "cluster": IDENTITY, "id": self.id, "pid": 4_000 + self.id,
            "role": self.role, "term": self.term,
            "rejoining": self.rejoining, "rejoin_cause": self.rejoin_cause,
            "leader": self.leader, "last_index": index, "commit_index": index, "applied_index": index,
            "first_offset": self.first_offset, "next_offset": self.next_offset, "rss_bytes": 50_000_000,
            "uptime_s": 61.5, "log_time_ms": 5, "dedup": self.dedup,
            "voters": [1, 2, 3],
            "epoch": 1, "ancestors": [], "prefix_index": 0, "savepoint_index": 4,
            "silence_ms": 0 if self.role == "leader" else 40,
            "wall_time_ms": round(time.time() * 1000) + self.clock_off_ms,
            "faults_allowed": self.faults_allowed, "faults": list(self.faults.values()),
            "peers": self.peers,
        }  # fmt: skip


def _place(one: bytes) -> tuple[int, int]:
    """First and next offset, also of a record that is damaged in its payload."""
    base_offset, count = int.from_bytes(one[24:32], "big"), int.from_bytes(one[40:44], "big")
    return base_offset, base_offset + count


def three(count: int = 8) -> list[WireNode]:
    """Three nodes that agree; node 1 leads."""
    return [WireNode(n, log(count), role="leader" if n == 1 else "follower") for n in (1, 2, 3)]


@asynccontextmanager
async def serving(
    nodes: Sequence[WireNode], home: Path, *, absent: Sequence[int] = ()
) -> AsyncIterator[Cluster]:
    """The nodes on loopback, and the description of their cluster; nothing listens for the absent ones."""
    async with trio.open_nursery() as nursery:
        listed: list[Node] = []
        for node in nodes:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listener.socket.getsockname()[1]
            if node.id in absent:
                await listener.aclose()
            else:
                nursery.start_soon(trio.serve_listeners, node.serve, [listener])
            paths = (home / f"node-{node.id}", home / f"node-{node.id}.toml", home / f"node-{node.id}.log")
            listed.append(Node(node.id, f"127.0.0.1:{port}", "127.0.0.1:1", *paths))
        yield Cluster("wire", IDENTITY, "process", "sqlite", "2013-01-01T00:00:00Z", home, tuple(listed))
        nursery.cancel_scope.cancel()


assert parse(log(2)[0]).next_offset == _place(log(2)[0])[1]
