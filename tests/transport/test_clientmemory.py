"""What the clients of a node make it hold together: large frames that are not whole, and answers."""

from dataclasses import dataclass

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from esnode import limits
from esnode.errors import FramesFull
from esnode.events import make_batch
from esnode.messages import Append, StatusRequest
from esnode.transport.clientmemory import AnswerMemory, FrameMemory, ReaderTooSlow
from esnode.transport.connection import Connection
from esnode.wire import encode
from tests.appending import batch, event

MIB = limits.MIB


def large_append(size_bytes: int) -> Append:
    half = "x" * (size_bytes // 2)
    return Append(1, make_batch([event(number) | {"data": half} for number in (1, 2)]))


async def test_a_large_frame_waits_until_another_one_is_whole(autojump_clock: MockClock) -> None:
    memory = FrameMemory(most_bytes=10, most_of_a_source_bytes=6, most_waiting=9)
    await memory.wait_place("a", 6)
    begun = trio.current_time()

    async def end_the_first() -> None:
        await trio.sleep(3)
        memory.give_back("a", 6)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_the_first)
        await memory.wait_place("b", 4)  # there is room for it at once
        assert trio.current_time() == begun
        await memory.wait_place("a", 6)
        assert trio.current_time() == pytest.approx(begun + 3)
    assert memory.held_bytes == 10


async def test_a_large_frame_does_not_wait_for_ever_nor_with_too_many_others(
    autojump_clock: MockClock,
) -> None:
    memory = FrameMemory(most_bytes=10, most_of_a_source_bytes=10, most_waiting=1)
    await memory.wait_place("a", 10)

    async def wait_in_vain() -> None:
        with pytest.raises(FramesFull):
            await memory.wait_place("b", 1)

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_in_vain)
        await trio.testing.wait_all_tasks_blocked()
        await wait_in_vain()  # a second one would wait as well
        assert trio.current_time() == begun
    assert trio.current_time() == pytest.approx(begun + limits.FRAME_TIMEOUT_S)
    assert memory.held_bytes == 10


async def test_small_frames_pass_while_large_ones_fill_the_memory_and_it_comes_back() -> None:
    memory = FrameMemory(most_bytes=1 * MIB, most_of_a_source_bytes=1 * MIB, most_waiting=9)
    frame = encode(large_append(1 * MIB - 4096))
    streams = [trio.testing.memory_stream_pair() for _ in range(3)]
    nodes = [Connection(ours) for ours, _ in streams]
    for node in nodes:
        node.share_memory(memory)
    heard: list[int] = []

    async def receive(number: int) -> None:
        await nodes[number].receive()
        heard.append(number)

    async with trio.open_nursery() as nursery:
        for number in (0, 1):  # the second one waits for the first
            nursery.start_soon(receive, number)
            await streams[number][1].send_all(frame[:-1])
            await trio.testing.wait_all_tasks_blocked()
        assert memory.held_bytes == len(frame)
        nursery.start_soon(receive, 2)
        await streams[2][1].send_all(encode(Append(1, batch(1))) + encode(StatusRequest(2)))
        await trio.testing.wait_all_tasks_blocked()
        assert heard == [2]
        await streams[1][1].send_all(frame[-1:])
        await streams[0][1].send_all(frame[-1:])
    assert heard == [2, 0, 1]
    assert memory.held_bytes == 0


async def test_a_connection_that_ends_within_a_large_frame_gives_its_memory_back() -> None:
    memory = FrameMemory(2 * MIB, 2 * MIB, 9)
    ours, theirs = trio.testing.memory_stream_pair()
    async with Connection(ours) as node:
        node.share_memory(memory)
        await theirs.send_all(encode(large_append(1 * MIB))[:100_000])
        with trio.move_on_after(0.01):
            await node.receive()
        assert memory.held_bytes > 1 * MIB
    assert memory.held_bytes == 0


@dataclass(eq=False)
class Reader:
    waiting_bytes: int
    stalled_since: float
    ended: ReaderTooSlow | None = None

    def end(self, error: ReaderTooSlow) -> None:
        self.ended = error


async def test_who_takes_nothing_and_holds_most_is_ended_when_others_need_the_room(
    autojump_clock: MockClock,
) -> None:
    memory = AnswerMemory(100)
    now = trio.current_time()
    idle, small, large = Reader(0, now - 99), Reader(20, now), Reader(70, now)
    memory.holders.update({idle, small, large})
    memory.held_bytes = 90
    assert memory.share_bytes() == 9
    await memory.wait_freed()
    assert large.ended is None, "it may only be slow"
    await trio.sleep(limits.STALLED_READER_S)
    await memory.wait_freed()
    assert large.ended is not None
    assert (small.ended, idle.ended) == (None, None)
    memory.free(70)
    assert memory.share_bytes() == 79
