"""The ports of a node, held open by strangers: it goes on, and tells them why they are not served."""

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from esnode import limits
from esnode.client import connect, connect_node
from esnode.errors import Busy, FramesFull, TooManyConnections, UnknownPartition
from esnode.messages import (
    PROTOCOL_VERSION,
    Appended,
    Entries,
    Goodbye,
    Hello,
    OpenProducerSession,
    ReadEntries,
    Refused,
    Side,
    StatusReply,
    StatusRequest,
)
from esnode.server.session import Session
from esnode.transport.clientmemory import AnswerMemory, ReaderTooSlow
from esnode.transport.connection import Connection, greet
from esnode.transport.connectionslots import Openings
from esnode.transport.sharedsettings import SharedSettings
from esnode.wire import Message, encode
from tests.appending import event
from tests.cluster import LocalCluster, local_cluster
from tests.server.test_session import LEADS, CountedStatus, OneRecord, services_of
from tests.transport.test_clientmemory import large_append


async def connect_raw(cluster: LocalCluster) -> Connection:
    """A client's connection to node 1 after its handshake."""
    address = cluster.configs[1].me.client
    async with AsyncExitStack() as stack:
        stream = await trio.open_tcp_stream(address.host, address.port)
        connection = await stack.enter_async_context(Connection(stream))
        await greet(connection, Hello(Side.CLIENT, PROTOCOL_VERSION, PROTOCOL_VERSION, "", 0, 0, 1))
        stack.pop_all()
    return connection


async def until_closed(stream: trio.SocketStream, tell: trio.MemorySendChannel[None]) -> None:
    async with stream:
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass  # closed as well
        await tell.send(None)


@pytest.mark.parametrize("port", ["peer", "client"])
async def test_idle_strangers_at_a_port_are_let_go_and_the_node_answers(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_PEER_HANDSHAKES", 8)
    monkeypatch.setattr(limits, "MAX_CLIENT_HANDSHAKES", 8)
    async with local_cluster(tmp_path, count=1) as cluster, trio.open_nursery() as nursery:
        address = getattr(cluster.configs[1].me, port)
        closed, heard = trio.open_memory_channel[None](100)
        for _ in range(100):
            stream = await trio.open_tcp_stream(address.host, address.port)
            nursery.start_soon(until_closed, stream, closed)
        with trio.fail_after(limits.HANDSHAKE_TIMEOUT_S - 1):  # sooner than any handshake's timeout
            for _ in range(92):
                await heard.receive()
            async with connect_node(cluster.addresses[0]) as node:
                assert (await node.status())["id"] == 1
        nursery.cancel_scope.cancel()


async def test_a_client_over_the_bound_is_told_so_and_finds_a_place_once_another_one_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CLIENT_CONNECTIONS", 2)
    async with local_cluster(tmp_path, count=1) as cluster, AsyncExitStack() as held:
        first, _ = [await held.enter_async_context(await connect_raw(cluster)) for _ in range(2)]
        with pytest.raises(TooManyConnections, match="serves 2 connections"):
            await connect_raw(cluster)
        await first.aclose()
        with trio.fail_after(5):
            async with connect(cluster.addresses) as log:
                assert (await log.append(event(1))).offset == 0


async def test_a_large_frame_without_room_ends_its_own_connection_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_WAITING_FRAMES", 0)
    monkeypatch.setattr(limits, "MAX_UNFINISHED_BYTES_OF_A_SOURCE", 1_500 * limits.KIB)
    frame = encode(large_append(1 * limits.MIB))
    async with local_cluster(tmp_path, count=1) as cluster, AsyncExitStack() as held:
        one, another = [await held.enter_async_context(await connect_raw(cluster)) for _ in range(2)]
        await one.send_bytes(frame[:-1])
        await another.send_bytes(frame[:-1])
        async with connect(cluster.addresses) as log:
            assert (await log.append(event(1))).offset == 0  # small frames pass meanwhile
            with trio.fail_after(5):
                while not isinstance(answer := await another.receive_one(), Goodbye):
                    assert answer is not None
            assert answer.code == FramesFull.code
            await one.send_bytes(frame[-1:])
            with trio.fail_after(5):
                while not isinstance(stored := await one.receive_one(), Appended):
                    assert stored is not None
            assert stored.duplicates == 1


async def test_a_client_that_takes_no_answers_is_ended_when_another_one_needs_the_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    services = services_of(CountedStatus(), OneRecord())
    services.memory.answers = AnswerMemory(3 * limits.MAX_READ_BYTES)
    question = encode(ReadEntries(1, 1, limits.MAX_READ_BYTES, False))
    ends: list[str] = []

    async def serve(stream: trio.abc.Stream) -> None:
        try:
            await Session(Connection(stream), services).run()
        except ReaderTooSlow as error:
            ends.append(error.code)

    async with trio.open_nursery() as nursery:
        ours, stalled = trio.testing.lockstep_stream_pair()
        nursery.start_soon(serve, ours)
        await stalled.send_all(question * 9)
        await trio.testing.wait_all_tasks_blocked()
        assert 3 * limits.MAX_READ_BYTES < services.memory.answers.held_bytes < 5 * limits.MAX_READ_BYTES
        ours, theirs = trio.testing.lockstep_stream_pair()
        nursery.start_soon(serve, ours)
        await theirs.send_all(encode(StatusRequest(1)) + question)
        client, begun, answers = Connection(theirs), trio.current_time(), list[Message]()
        with trio.fail_after(3 * limits.STALLED_READER_S):
            while not any(isinstance(message, StatusReply) for message in answers):
                answers += await client.receive()
            assert trio.current_time() == begun, "what is small is answered whatever others hold"
            while not any(isinstance(message, Entries) for message in answers):
                answers += await client.receive()
        assert ends == [ReaderTooSlow.code]
        nursery.cancel_scope.cancel()
    assert services.memory.answers.held_bytes == 0


async def test_one_address_that_opens_producer_sessions_without_end_is_told_to_wait() -> None:
    services = replace(services_of(CountedStatus()), openings=Openings(2, per_s=0.001))
    services.view.show_state(LEADS)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Session(Connection(ours), services).run)
        await theirs.send_all(b"".join(encode(OpenProducerSession(number)) for number in range(4)))
        await trio.testing.wait_all_tasks_blocked()
        assert len(services.inbox) == 2
        answers = await Connection(theirs).receive()
        nursery.cancel_scope.cancel()
    refused = [(answer.request_id, answer.code) for answer in answers if isinstance(answer, Refused)]
    assert refused == [(2, Busy.code), (3, Busy.code)]


@pytest.mark.parametrize("side", [Side.CLIENT, Side.PEER])
async def test_whoever_wants_a_partition_that_is_not_there_is_refused_and_ends_no_node(
    tmp_path: Path, side: Side
) -> None:
    """While a cluster is given partitions, nodes that have them dial nodes that do not."""
    async with local_cluster(tmp_path) as cluster:
        config = cluster.configs[1]
        port = config.me.client if side is Side.CLIENT else config.me.peer
        said = Hello(side, PROTOCOL_VERSION, PROTOCOL_VERSION, config.cluster, 0, 0, 7, partition=5)
        if side is Side.PEER:
            said = replace(SharedSettings(cluster.configs[2]).hello(1, 7), partition=5)
        async with Connection(await trio.open_tcp_stream(port.host, port.port)) as stranger:
            await stranger.send(said)
            answer = await stranger.receive_one()
        assert isinstance(answer, Goodbye)
        assert answer.code == UnknownPartition.code
        async with connect(cluster.addresses) as log:
            assert (await log.append(event(1))).offset == 0
