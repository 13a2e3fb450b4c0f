"""The peers' door: connections that replace each other, directories that are known, and the core's news."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from esnode.config import Address, Config, Member
from esnode.errors import (
    EventStreamError,
    NodeRunsElsewhere,
    PeerError,
    ProtocolError,
    UnknownDirectory,
    Unreachable,
    WrongNode,
)
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.messages import PROTOCOL_VERSION, Hello, Side
from esnode.raft.messages import Heartbeat, Input, PeerClosed, Received, Tick
from esnode.replication.keychunks import KeyChunks
from esnode.replication.peeridentity import PeerIdentities
from esnode.replication.replication import Replication
from esnode.storage.interface import Distrust, Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.worker import StorageWorker
from esnode.transport.connection import Connection, Dialer, accept, greet
from esnode.transport.sharedsettings import SharedSettings

MEMBERS = tuple(Member(n, Address("127.0.0.1", 7200 + n), Address("127.0.0.1", 7100 + n)) for n in (1, 2, 3))
CONFIG = Config("c", 1, Path("unused"), MEMBERS)
OURS, THEIRS, ANOTHER = b"o" * 16, b"t" * 16, b"a" * 16


async def nobody_home(address: Address) -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    raise Unreachable(f"{address} is not there")


async def no_snapshot() -> None:
    raise AssertionError("nobody wants a snapshot here")


@dataclass
class Door:
    """The peers' door of node 1, and what has come in through it."""

    replication: Replication
    inbox: Inbox
    nursery: trio.Nursery
    failures: list[EventStreamError] = field(default_factory=list)
    at_clients_door: Dialer = nobody_home
    """How node 1 looks who answers at the address of a peer."""

    async def serve(self, stream: trio.abc.Stream) -> None:
        """What `serve_listeners` does with a connection, without the log lines."""
        connection = Connection(stream)
        try:
            await self.replication.serve_peer(connection)
        except PeerError as error:
            self.failures.append(error)
        finally:
            await connection.aclose()

    def open(self) -> Connection:
        """Connect, and say nothing."""
        theirs, ours = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.serve, ours)
        return Connection(theirs)

    async def connect(
        self, incarnation: int, directory: bytes = THEIRS, *, rejoining: bool = False
    ) -> Connection:
        """Connect as node 2."""
        connection = self.open()
        await greet(connection, hello(incarnation, directory, rejoining=rejoining))
        return connection


def hello(incarnation: int, directory: bytes = THEIRS, *, rejoining: bool = False) -> Hello:
    version, ours = PROTOCOL_VERSION, SharedSettings(CONFIG)
    settings = (ours.members.digest, ours.members.text, ours.dedup.digest, ours.dedup.text)
    return Hello(Side.PEER, version, version, "c", 2, 1, incarnation, directory, rejoining, *settings)


@asynccontextmanager
async def door_of(disk: MemoryDisk, inbox: Inbox | None = None) -> AsyncIterator[Door]:
    """Node 1's door, with its disk at work; everything ends with the block."""
    inbox = Inbox() if inbox is None else inbox
    storage = MemoryStorage(disk, Identity("c", 1))
    worker = StorageWorker(storage, inline=True)
    view = View(1, term=0, applied_index=0, first_offset=0, next_offset=0, rejoining=disk.rejoining)
    door: Door | None = None

    async def dial(address: Address) -> trio.abc.Stream:
        assert door is not None
        return await door.at_clients_door(address)

    identities = PeerIdentities(CONFIG, view, worker, dial, dict)
    replication = Replication(
        CONFIG, 99, inbox, view, identities, nobody_home, no_snapshot, random.Random(1), KeyChunks(worker)
    )
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            door = Door(replication, inbox, nursery)
            yield door
            nursery.cancel_scope.cancel()


# --- connections that replace each other ------------------------------------------------------------


async def test_an_old_connection_that_ends_after_the_new_one_harms_nobody() -> None:
    inbox = Inbox(max_offered=1)
    inbox.put(Tick(1))  # full: the old connection's reader waits for room
    async with door_of(MemoryDisk(), inbox) as door:
        old = await door.connect(7)
        await old.send(Heartbeat(1, 0, 0))
        await trio.testing.wait_all_tasks_blocked()
        new = await door.connect(8)
        await trio.testing.wait_all_tasks_blocked()
        await new.aclose()
        await trio.testing.wait_all_tasks_blocked()
        heard = await inbox.take(9)
        await trio.testing.wait_all_tasks_blocked()
        assert heard == [Tick(1), PeerClosed(2)]
        assert len(inbox) == 0


async def test_what_an_old_connection_said_is_not_heard_after_a_newer_one() -> None:
    """What a node had acked before it lost its disk must not count once it has said that it rejoins."""
    inbox = Inbox(max_offered=1)
    inbox.put(Tick(1))
    async with door_of(MemoryDisk(), inbox) as door:
        old = await door.connect(7)
        await old.send(Heartbeat(1, 0, 0))
        await trio.testing.wait_all_tasks_blocked()
        new = await door.connect(8)
        await new.send(Heartbeat(2, 0, 0))
        await trio.testing.wait_all_tasks_blocked()
        heard: list[Input] = []
        for _ in range(2):
            heard += await inbox.take(9)
            await trio.testing.wait_all_tasks_blocked()
        assert heard == [Tick(1), Received(2, Heartbeat(2, 0, 0))]
        assert len(inbox) == 0


async def test_a_connection_whose_handshake_is_overtaken_by_a_newer_one_is_ended() -> None:
    async with door_of(MemoryDisk()) as door:
        old = door.open()
        await trio.testing.wait_all_tasks_blocked()
        new = await door.connect(8)
        await old.send(hello(7))
        await old.receive()
        assert await old.receive() == []
        assert "connected again" in str(door.failures[0])
        await new.send(Heartbeat(2, 0, 0))
        assert await door.inbox.take(9) == [Received(2, Heartbeat(2, 0, 0))]


async def test_only_the_newest_connection_of_a_peer_tells_that_it_has_closed() -> None:
    async with door_of(MemoryDisk()) as door:
        await door.connect(7)
        new = await door.connect(8)
        await trio.testing.wait_all_tasks_blocked()
        assert len(door.inbox) == 0
        await new.aclose()
        assert await door.inbox.take(9) == [PeerClosed(2)]


# --- directories ------------------------------------------------------------------------------------


async def test_a_peers_directory_is_remembered_before_it_is_welcome() -> None:
    disk = MemoryDisk()
    async with door_of(disk) as door:
        await door.connect(7)
        assert disk.peers == {2: THEIRS}


async def test_a_peer_with_another_directory_is_told_so_and_turned_away() -> None:
    disk = MemoryDisk()
    async with door_of(disk) as door:
        await (await door.connect(7)).aclose()
    async with door_of(disk) as door:
        with pytest.raises(UnknownDirectory, match="another data directory of node 2"):
            await door.connect(8, ANOTHER)
        await door.connect(9, THEIRS)
        assert disk.peers == {2: THEIRS}


def at_home(nursery: trio.Nursery, incarnation: int) -> Dialer:
    """Node 2's own address for clients, where a process of that incarnation answers."""

    async def dial(address: Address) -> trio.abc.Stream:
        assert address == MEMBERS[1].client
        theirs, ours = trio.testing.memory_stream_pair()
        nursery.start_soon(partial(
            accept, Connection(ours), cluster="c", node_id=2, incarnation=incarnation,
            allowed_side=Side.CLIENT, peers=(),
        ))  # fmt: skip
        await trio.lowlevel.checkpoint()
        return theirs

    return dial


async def test_a_stranger_that_says_that_it_rejoins_replaces_no_peers_directory() -> None:
    """Whether the peer is down, or runs where clients find it: who claims its place must be found there."""
    disk = MemoryDisk()
    async with door_of(disk) as door:
        await (await door.connect(7)).aclose()
        with pytest.raises(WrongNode, match="nobody answers as node 2"):
            await door.connect(8, ANOTHER, rejoining=True)
        door.at_clients_door = at_home(door.nursery, 7)
        with pytest.raises(NodeRunsElsewhere):
            await door.connect(8, ANOTHER, rejoining=True)
        assert disk.peers == {2: THEIRS}


async def test_a_peer_that_rejoins_is_welcome_with_any_directory() -> None:
    disk = MemoryDisk()
    async with door_of(disk) as door:
        await door.connect(7)
        door.at_clients_door = at_home(door.nursery, 8)
        await door.connect(8, ANOTHER, rejoining=True)
        assert disk.peers == {2: ANOTHER}
        door.at_clients_door = nobody_home
        with pytest.raises(UnknownDirectory):
            await door.connect(9, THEIRS)


async def test_a_node_that_rejoins_itself_turns_nobody_away() -> None:
    """What it remembers may be older than the peer's last change of directory."""
    disk = MemoryDisk()
    disk.peers = {2: THEIRS}
    disk.begin_rejoin(Distrust.OPERATOR)
    async with door_of(disk) as door:
        await door.connect(7, ANOTHER)
        assert disk.peers == {2: ANOTHER}


async def test_a_peer_must_name_its_directory() -> None:
    async with door_of(MemoryDisk()) as door:
        with pytest.raises(ProtocolError, match="must name its data directory"):
            await door.connect(7, b"")
