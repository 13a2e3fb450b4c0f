"""The TCP stream: trio's own conformance tests, and the steps that it saves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from esnode.transport.tcpstream import MAX_PARTS, TcpStream


async def tcp_pair(kind: type[TcpStream] = TcpStream) -> tuple[TcpStream, TcpStream]:
    """Both ends of a connection over loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        theirs = await listener.accept()
    return kind(ours), kind(theirs)


async def clogged_pair(kind: type[TcpStream]) -> tuple[TcpStream, TcpStream]:
    """What is sent by either is not read yet, and nothing more fits."""
    pair = await tcp_pair(kind)
    for each in pair:
        full = False
        while not full:
            with trio.CancelScope() as sending:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(each.send_all, bytes(1_000_000))
                    await trio.testing.wait_all_tasks_blocked(0.02)
                    full = True  # it did not end: it waits
                    sending.cancel()
        while each._push(b"x"):
            continue  # the system calls a socket full while a little still fits
    return pair


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[TcpStream, TcpStream]]:
    ours, theirs = await tcp_pair()
    async with ours, theirs:
        yield ours, theirs


class Patient(TcpStream):
    """Lets others run after each send, as trio wants of a stream: the one thing that ours does not."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, then wait for its turn."""
        await super().send_all(data)
        await trio.lowlevel.checkpoint()


async def test_it_is_a_stream_as_trio_defines_one_but_for_the_pause_after_a_send() -> None:
    await trio.testing.check_half_closeable_stream(partial(tcp_pair, Patient), partial(clogged_pair, Patient))


async def test_a_send_that_the_kernel_takes_at_once_does_not_wait_for_its_turn() -> None:
    async with connected() as (ours, theirs):
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await trio.lowlevel.checkpoint()
            before = turns
            for _ in range(20):
                await ours.send_all(b"batch")
            assert turns == before
            nursery.cancel_scope.cancel()
        assert await theirs.receive_some() == b"batch" * 20


async def test_what_is_more_than_the_kernel_takes_arrives_whole() -> None:
    sent = bytes(range(256)) * 40_000
    async with connected() as (ours, theirs), trio.open_nursery() as nursery:

        async def send() -> None:
            await ours.send_all(sent)
            await ours.send_eof()

        nursery.start_soon(send)
        received = bytearray()
        while part := await theirs.receive_some(100_000):
            received += part
        assert received == sent


async def test_a_reader_that_always_finds_something_lets_others_run() -> None:
    async with connected() as (ours, theirs):
        await ours.send_all(bytes(5000))
        others = 0

        async def run_beside() -> None:
            nonlocal others
            for _ in range(10):
                others += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_beside)
            for _ in range(50):
                assert len(await theirs.receive_some(100)) == 100
            assert others == 10


async def test_a_reset_says_what_the_system_said() -> None:
    async with connected() as (ours, theirs):
        await theirs.send_all(b"unread")
        await ours.aclose()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await theirs.receive_some()
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_a_closed_stream_says_so_and_closes_again() -> None:
    ours, theirs = await tcp_pair()
    await ours.aclose()
    await ours.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"late")
    assert ours.peer_name() == "a closed connection"
    assert await theirs.receive_some() == b""
    await theirs.aclose()


async def test_parts_arrive_in_order_and_whole_whatever_the_kernel_takes_at_once() -> None:
    ours, theirs = await tcp_pair()
    sizes = [0, 1, 70_000, 3, 0, 400_000, 5] * 40
    parts = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    parts += [b"x"] * (2 * MAX_PARTS)
    arrived = bytearray()

    async def receive() -> None:
        async for data in theirs:
            arrived.extend(data)

    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await ours.send_parts(parts)
        await ours.send_parts([])
        await ours.send_eof()
    assert arrived == b"".join(parts)


async def test_parts_are_refused_as_a_whole_is() -> None:
    ours, theirs = await tcp_pair()
    async with ours, theirs:
        await ours.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_parts([b"late"])
    with pytest.raises(trio.ClosedResourceError):
        await theirs.send_parts([b"closed"])
