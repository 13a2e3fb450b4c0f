"""Connections that one process accepts and another one serves."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from esnode.config import Address
from esnode.transport.handover import (
    HandedOverStream,
    HandoverListener,
    InheritedPorts,
    hand_over,
    handover_pair,
)
from esnode.transport.tcpstream import TcpStream


@asynccontextmanager
async def tcp_pair() -> AsyncIterator[tuple[trio.SocketStream, TcpStream]]:
    """A connection over loopback: the side that opened it, and the one that was accepted."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        opened = await trio.open_tcp_stream(*listener.socket.getsockname())
        accepted = TcpStream(await listener.accept())
    async with opened, accepted:
        yield opened, accepted


def no_end() -> None:
    raise AssertionError("the other end has gone")


async def test_a_connection_goes_on_where_its_first_reader_stopped() -> None:
    ours, theirs = handover_pair()
    with ours, theirs:
        async with tcp_pair() as (client, accepted):
            await client.send_all(b"firstsecond")
            assert await accepted.receive_some(5) == b"first"
            await hand_over(trio.socket.from_stdlib_socket(ours), accepted, b"first")
            host = accepted.peer_name()
            await accepted.aclose()
            served = await HandoverListener(theirs, no_end).accept()
            assert served.peer_name() == host
            assert await served.receive_some(3) == b"fir"
            assert await served.receive_some() == b"st"
            assert await served.receive_some() == b"second"
            await served.send_all(b"answer")
            assert await client.receive_some() == b"answer"
            await served.aclose()
            assert await client.receive_some() == b""  # no other process holds it open


async def test_connections_come_in_their_order_and_each_with_its_own_bytes() -> None:
    ours, theirs = handover_pair()
    with ours, theirs:
        listener = HandoverListener(theirs, no_end)
        for number in range(20):
            async with tcp_pair() as (client, accepted):
                await hand_over(trio.socket.from_stdlib_socket(ours), accepted, b"%d" % number)
                await accepted.aclose()
                served = await listener.accept()
                assert await served.receive_some() == b"%d" % number
                await client.send_all(b"x")
                assert await served.receive_some() == b"x"
                await served.aclose()


async def test_who_listens_hears_once_that_there_will_be_no_more_connections() -> None:
    ours, theirs = handover_pair()
    ended = trio.Event()
    ours.close()
    with theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(HandoverListener(theirs, ended.set).accept)
            await ended.wait()
            nursery.cancel_scope.cancel()


async def test_a_connection_for_a_process_that_has_ended_is_not_taken() -> None:
    ours, theirs = handover_pair()
    theirs.close()
    with ours:
        async with tcp_pair() as (_, accepted):
            with pytest.raises(OSError, match="Broken pipe"):
                await hand_over(trio.socket.from_stdlib_socket(ours), accepted, b"first")


async def test_a_connection_whose_taker_is_killed_ends_for_the_client() -> None:
    ours, theirs = handover_pair()
    with ours:
        async with tcp_pair() as (client, accepted):
            await hand_over(trio.socket.from_stdlib_socket(ours), accepted, b"first")
            await accepted.aclose()
            theirs.close()
            assert await client.receive_some() == b""


async def test_a_node_that_runs_again_listens_on_the_same_way() -> None:
    ours, theirs = handover_pair()
    client_address, peer_address = Address("a", 1), Address("a", 2)
    other_ours, other_theirs = handover_pair()
    with ours, other_ours:
        descriptors = {client_address: theirs.detach(), peer_address: other_theirs.detach()}
        ports = InheritedPorts(descriptors, no_end)
        for _ in range(2):
            with ExitStack() as opened:
                (listener,) = await ports.listen(client_address, opened)
                async with listener, tcp_pair() as (_, accepted):
                    await hand_over(trio.socket.from_stdlib_socket(ours), accepted, b"first")
                    served = await listener.accept()
                    assert isinstance(served, HandedOverStream)
                    assert await served.receive_some() == b"first"
                    await served.aclose()
        ports.close()


def test_what_is_no_socket_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="socket"):
        InheritedPorts({Address("a", 1): file.fileno()}, no_end)
