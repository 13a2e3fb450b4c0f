"""The peers' door: connections that replace each other, and what the core hears of it."""

import random
from pathlib import Path

import trio
import trio.testing

from esnode.config import Address, Config, Member
from esnode.connection import Connection, greet
from esnode.errors import ConnectionLost, Unreachable
from esnode.inbox import Inbox
from esnode.messages import PROTOCOL_VERSION, Hello, Side
from esnode.raft.messages import Heartbeat, Input, PeerClosed, Received, Tick
from esnode.replication import Replication
from esnode.view import View

MEMBERS = tuple(Member(n, Address("127.0.0.1", 7200 + n), Address("127.0.0.1", 7100 + n)) for n in (1, 2, 3))


async def nobody_home(address: Address) -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    raise Unreachable(f"{address} is not there")


async def no_snapshot() -> None:
    raise AssertionError("nobody wants a snapshot here")


def replication_of(inbox: Inbox) -> Replication:
    config = Config("c", 1, Path("unused"), MEMBERS)
    view = View(1, term=0, applied_index=0, first_offset=0, next_offset=0)
    return Replication(config, 99, inbox, view, nobody_home, no_snapshot, random.Random(1))


async def serve(replication: Replication, stream: trio.abc.Stream) -> None:
    """What `serve_listeners` does with a connection, without the log lines."""
    connection = Connection(stream)
    try:
        await replication.serve_peer(connection)
    except ConnectionLost:
        return
    finally:
        await connection.aclose()


async def peer_connection(replication: Replication, nursery: trio.Nursery, incarnation: int) -> Connection:
    theirs, ours = trio.testing.memory_stream_pair()
    nursery.start_soon(serve, replication, ours)
    connection = Connection(theirs)
    await greet(connection, Hello(Side.PEER, PROTOCOL_VERSION, PROTOCOL_VERSION, "c", 2, 1, incarnation))
    return connection


async def test_an_old_connection_that_ends_after_the_new_one_harms_nobody() -> None:
    inbox = Inbox(max_offered=1)
    inbox.put(Tick(1))  # full: the old connection's reader waits for room
    replication = replication_of(inbox)
    heard: list[Input] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            old = await peer_connection(replication, nursery, incarnation=7)
            await old.send(Heartbeat(1, 0, 0))
            await trio.testing.wait_all_tasks_blocked()
            new = await peer_connection(replication, nursery, incarnation=8)
            await trio.testing.wait_all_tasks_blocked()
            await new.aclose()
            await trio.testing.wait_all_tasks_blocked()
            heard += await inbox.take(9)
            await trio.testing.wait_all_tasks_blocked()
        heard += await inbox.take(9)
    assert heard == [Tick(1), PeerClosed(2), Received(2, Heartbeat(1, 0, 0))]


async def test_only_the_newest_connection_of_a_peer_tells_that_it_has_closed() -> None:
    inbox = Inbox()
    replication = replication_of(inbox)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await peer_connection(replication, nursery, incarnation=7)
            new = await peer_connection(replication, nursery, incarnation=8)
            await trio.testing.wait_all_tasks_blocked()
            assert len(inbox) == 0
            await new.aclose()
        assert await inbox.take(9) == [PeerClosed(2)]
