"""The driver's queue: order, bounds, and who waits for whom."""

import trio
import trio.testing

from esnode import limits
from esnode.loop.inbox import Inbox
from esnode.raft.messages import Input, Persisted, ReadIndex, Tick


async def test_inputs_come_out_in_the_order_they_went_in() -> None:
    inbox = Inbox()
    for token in range(5):
        inbox.put(ReadIndex(token))
    assert await inbox.take(3) == [ReadIndex(0), ReadIndex(1), ReadIndex(2)]
    assert await inbox.take(3) == [ReadIndex(3), ReadIndex(4)]


async def test_a_full_inbox_refuses_what_is_offered_and_takes_what_is_put() -> None:
    inbox = Inbox(max_offered=2)
    assert inbox.offer(ReadIndex(1))
    assert inbox.offer(ReadIndex(2))
    assert not inbox.offer(ReadIndex(3))
    inbox.put(Tick(10))
    assert await inbox.take(9) == [Tick(10), ReadIndex(1), ReadIndex(2)]


async def test_what_was_put_goes_before_what_clients_offered_and_these_come_in_small_rounds() -> None:
    inbox = Inbox()
    for token in range(limits.MAX_OFFERED_A_ROUND + 10):
        inbox.offer(ReadIndex(token))
    inbox.put(Tick(10))
    first = await inbox.take(limits.MAX_STEPS_A_ROUND)
    assert first == [Tick(10), *map(ReadIndex, range(limits.MAX_OFFERED_A_ROUND))]
    inbox.put(Tick(20))
    assert (await inbox.take(3)) == [Tick(20), *map(ReadIndex, range(64, 66))]
    assert len(inbox) == 8


async def test_the_driver_sleeps_until_there_is_something_to_do() -> None:
    inbox, taken = Inbox(), list[Input]()

    async def drive() -> None:
        taken.extend(await inbox.take(9))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive)
        await trio.testing.wait_all_tasks_blocked()
        assert taken == []
        inbox.put(Tick(10))
    assert taken == [Tick(10)]


async def test_what_is_left_in_the_inbox_comes_with_the_next_input() -> None:
    inbox, taken = Inbox(), list[Input]()

    async def drive() -> None:
        taken.extend(await inbox.take(9))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive)
        await trio.testing.wait_all_tasks_blocked()
        inbox.leave(Persisted(7))
        await trio.testing.wait_all_tasks_blocked()
        assert taken == []
        inbox.put(Tick(10))
    assert taken == [Persisted(7), Tick(10)]


async def test_a_peers_reader_waits_until_there_is_room() -> None:
    inbox, done = Inbox(max_offered=1), trio.Event()
    inbox.put(Tick(1))

    async def read() -> None:
        await inbox.wait_room()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert not done.is_set()
        await inbox.take(1)
        await done.wait()
