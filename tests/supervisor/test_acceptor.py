"""What the supervisor makes of a connection: handed over, or answered with the reason."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from esnode import limits
from esnode.errors import (
    EventStreamError,
    FrameTooLarge,
    HandshakeTimeout,
    PartitionDown,
    ProtocolError,
    UnknownPartition,
    VersionMismatch,
)
from esnode.messages import PROTOCOL_VERSION, Goodbye, Hello, Side, StatusRequest, Welcome
from esnode.supervisor import acceptor
from esnode.supervisor.acceptor import Acceptor
from esnode.supervisor.partitionprocess import HandoverSocket, PartitionProcess
from esnode.transport.connection import Connection, accept, error_of, greet
from esnode.transport.handover import HandoverListener, handover_pair
from esnode.wire import encode


def hello(partition: int, side: Side = Side.CLIENT) -> Hello:
    return Hello(side, PROTOCOL_VERSION, PROTOCOL_VERSION, "", 0, 0, 7, partition=partition)


def no_end() -> None:
    raise AssertionError("the supervisor has gone")


class Served:
    """An acceptor in front of partitions that are there, in this process."""

    def __init__(self, address: tuple[str, int], listeners: Sequence[HandoverListener]) -> None:
        self.address = address
        self.listeners = listeners

    async def call(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.address)

    async def refusal(self, data: bytes) -> EventStreamError:
        """What a client is told that sends this."""
        stream = await self.call()
        async with Connection(stream) as connection:
            await connection.send_bytes(data)
            message = await connection.receive_one()
            assert isinstance(message, Goodbye)
            return error_of(message.code, message.message)


@asynccontextmanager
async def served(partitions: int = 3, *, running: bool = True) -> AsyncIterator[Served]:
    processes = [PartitionProcess(number, ()) for number in range(partitions)]
    listeners = []
    open_ends: list[socket.socket] = []
    for process in processes if running else ():
        ours, theirs = handover_pair()
        open_ends += (ours, theirs)
        process.sockets[Side.CLIENT] = HandoverSocket(ours)
        listeners.append(HandoverListener(theirs, no_end))
    ports = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Acceptor(Side.CLIENT, processes).serve, ports)
        yield Served(ports[0].socket.getsockname(), listeners)
        nursery.cancel_scope.cancel()
    for end in open_ends:
        end.close()


@pytest.mark.parametrize("partition", [0, 1, 2])
async def test_a_connection_comes_to_the_partition_that_its_hello_names(partition: int) -> None:
    async with served() as at, Connection(await at.call()) as client, trio.open_nursery() as nursery:

        async def serve() -> None:
            async with Connection(await at.listeners[partition].accept()) as connection:
                await accept(
                    connection, cluster="c", node_id=1, incarnation=9, allowed_side=Side.CLIENT, peers=(),
                    partition=partition, partitions=3,
                )  # fmt: skip
                assert await connection.receive_one() == StatusRequest(5)

        nursery.start_soon(serve)
        welcome = await greet(client, hello(partition))
        assert welcome == Welcome(PROTOCOL_VERSION, "c", 1, 9)
        await client.send(StatusRequest(5))


async def test_a_first_frame_that_comes_a_byte_at_a_time_is_handed_over_whole() -> None:
    data = encode(hello(1))
    async with served() as at, await at.call() as client:
        for number in range(len(data)):
            await client.send_all(data[number : number + 1])
        async with await at.listeners[1].accept() as stream:
            assert await stream.receive_some() == data


async def test_what_follows_the_first_frame_is_not_read_before_the_partition_does() -> None:
    data = encode(hello(2))
    async with served() as at, await at.call() as client:
        await client.send_all(data + b"what follows")
        async with await at.listeners[2].accept() as stream:
            assert await stream.receive_some() == data
            assert await stream.receive_some() == b"what follows"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", FrameTooLarge),
        (bytes(4), FrameTooLarge),
        ((limits.MAX_HELLO_BYTES + 1).to_bytes(4, "big"), FrameTooLarge),
        (b"\0\0\0\x01\xee", ProtocolError),
        (b"\0\0\0\x03\x01\xff\xff", ProtocolError),
        (encode(StatusRequest(1)), ProtocolError),
        (encode(hello(3)), UnknownPartition),
        (encode(hello(65_535)), UnknownPartition),
    ],
)
async def test_what_is_no_hello_to_a_partition_is_answered_with_the_reason(
    data: bytes, error: type[EventStreamError]
) -> None:
    async with served() as at:
        assert type(await at.refusal(data)) is error


async def test_the_refusal_of_a_partition_tells_which_there_are() -> None:
    async with served() as at:
        told = str(await at.refusal(encode(hello(7))))
        assert told == "there is no partition 7: this cluster has 0 to 2"


async def test_a_client_of_another_version_hears_that_from_partition_0() -> None:
    other = PROTOCOL_VERSION + 1
    async with served() as at, Connection(await at.call()) as client, trio.open_nursery() as nursery:

        async def serve() -> None:
            async with Connection(await at.listeners[0].accept()) as connection:
                with pytest.raises(VersionMismatch):
                    await accept(
                        connection, cluster="c", node_id=1, incarnation=9, allowed_side=Side.CLIENT, peers=()
                    )

        nursery.start_soon(serve)
        with pytest.raises(VersionMismatch):
            await greet(client, Hello(Side.CLIENT, other, other, "", 0, 0, 7, partition=5))


@pytest.mark.parametrize(
    "data", [b"", b"\0", encode(hello(1))[:-1]], ids=["nothing", "a byte", "all but one"]
)
async def test_a_client_that_does_not_say_all_in_time_is_told(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT_S", 0.05)
    async with served() as at:
        assert isinstance(await at.refusal(data), HandshakeTimeout)


async def test_a_client_that_leaves_before_its_hello_is_no_trouble() -> None:
    async with served() as at:
        for data in (b"", b"\0\0"):
            stream = await at.call()
            if data:
                await stream.send_all(data)
            await stream.aclose()
        assert isinstance(await at.refusal(encode(hello(9))), UnknownPartition)


async def test_a_partition_whose_process_has_ended_is_said_to_be_down() -> None:
    async with served(running=False) as at:
        error = await at.refusal(encode(hello(1)))
        assert type(error) is PartitionDown
        assert error.definite
        assert str(error) == "the process of partition 1 does not run on this node"


async def test_a_process_that_takes_no_connection_makes_nobody_else_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its queue is full: the next client hears that soon, and other partitions are served."""
    monkeypatch.setattr(acceptor, "HANDOVER_TIMEOUT_S", 0.05)
    async with served() as at, AsyncExitStack() as opened, trio.open_nursery() as nursery:
        refused = trio.Event()

        async def wait_refused(client: Connection) -> None:
            for message in await client.receive():
                assert isinstance(message, Goodbye)
                assert message.message == "the process of partition 1 is too busy on this node"
                refused.set()

        clients = 0
        while not refused.is_set():
            client = await opened.enter_async_context(Connection(await at.call()))
            await client.send(hello(1))
            nursery.start_soon(wait_refused, client)
            clients += 1
            assert clients < 2 * limits.MAX_CLIENT_HANDSHAKES, "its queue has no end"
            await trio.lowlevel.checkpoint()
        other = await opened.enter_async_context(await at.call())
        await other.send_all(encode(hello(2)))
        async with await at.listeners[2].accept() as taken:
            assert await taken.receive_some() == encode(hello(2))
        nursery.cancel_scope.cancel()


async def test_silent_connections_give_way_to_newer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(acceptor.MAX_HANDSHAKES, Side.CLIENT, 2)
    async with served() as at, AsyncExitStack() as opened:
        silent, later, _ = [await opened.enter_async_context(await at.call()) for _ in range(3)]
        assert await silent.receive_some() == b""
        await later.send_all(encode(hello(0)))
        async with await at.listeners[0].accept() as taken:
            assert await taken.receive_some() == encode(hello(0))
