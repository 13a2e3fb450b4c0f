"""The order in which a client's appends leave, and how it is kept when some of them are refused."""

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from esnode import limits
from esnode.client import Log
from esnode.errors import Busy, EarlierRefused, EventStreamError, LeadershipLost, NotLeader, WindowFull
from esnode.events import make_batch
from esnode.messages import Append, Appended, Refused
from esnode.wire import Message, encode
from tests.appending import batch, client, collect, event, swallow
from tests.fake_cluster import FakeCluster, FakeNode, Reply, Script

pytestmark = pytest.mark.usefixtures("autojump_clock")


def orderly(script: Script) -> Script:
    """`script`, on a node that keeps to the protocol: of a run it takes no more once it has refused one."""
    over: set[int] = set()

    def answer(node: FakeNode, message: Message) -> Reply:
        if not isinstance(message, Append):
            return script(node, message)
        if message.run in over:
            return Refused(message.request_id, EarlierRefused.code, "one before it was refused")
        reply = script(node, message)
        if isinstance(reply, Refused):
            over.add(message.run)
        return reply

    return answer


def refusing(error: type[EventStreamError], wanted: Callable[[Append, int], bool]) -> Script:
    """A node that refuses the appends that are `wanted`, told with how many have come before them."""
    seen = 0

    def script(node: FakeNode, message: Message) -> Reply:
        nonlocal seen
        if isinstance(message, Append):
            seen += 1
            if wanted(message, seen - 1):
                return Refused(message.request_id, error.code, "not now")
        return node.answer(message)

    return orderly(script)


async def in_order(log: Log, numbers: Sequence[int]) -> None:
    """An append for each number, all at the same time, begun one after the other."""
    async with trio.open_nursery() as nursery:
        for number in numbers:
            nursery.start_soon(log.append_batch, batch(number))
            await trio.lowlevel.checkpoint()


def large(number: int, size_bytes: int) -> dict[str, Any]:
    return {**event(number), "data": "x" * size_bytes}


# --- what is refused goes again, with all that follows it -------------------------------------------


@pytest.mark.parametrize("error", [Busy, LeadershipLost, NotLeader])
async def test_what_follows_a_refused_append_goes_again_behind_it(error: type[EventStreamError]) -> None:
    async with client() as (cluster, log):
        node = cluster.nodes[1]
        node.script = refusing(error, lambda _, place: place in {5, 12, 13, 20})
        await in_order(log, range(30))
        assert cluster.log.ids() == [str(number) for number in range(30)]
        runs = [append.run for append in node.appends]
        assert runs == sorted(runs)
        assert len(set(runs)) == 5


async def test_the_next_run_waits_for_every_answer_and_so_sends_nothing_twice() -> None:
    async with client() as (cluster, log):
        node = cluster.nodes[1]
        held: list[Append] = []

        def script(node: FakeNode, message: Message) -> Reply:
            if not isinstance(message, Append) or (held and message.run > held[0].run):
                return node.answer(message)
            if len(held) < 3:
                held.append(message)  # taken, and on its way to a majority
                return None
            return Refused(message.request_id, Busy.code, "full")

        node.script = script
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_order, log, range(6))
            await trio.sleep(2)
            assert len(node.appends) == 6
            (connection,) = node.connections
            for append in held:
                await node.send(connection, node.answer(append))
        assert cluster.log.ids() == [str(number) for number in range(6)]
        assert len(node.appends) == 9


async def test_each_pause_is_longer_than_the_one_before_until_something_is_acked() -> None:
    async with client(timeout_s=None) as (cluster, log):
        node = cluster.nodes[1]
        times: list[float] = []

        def script(node: FakeNode, message: Message) -> Reply:
            if not isinstance(message, Append):
                return node.answer(message)
            times.append(trio.current_time())
            if len(times) in {8, 12}:
                return node.answer(message)
            return Refused(message.request_id, Busy.code, "full")

        node.script = script
        await log.append(event(1))
        await log.append(event(2))
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        for place, pause in enumerate(pauses[:7]):
            assert 0.5 * min(0.01 * 2**place, 0.25) <= pause <= 1.5 * min(0.01 * 2**place, 0.25)
        assert pauses[8] <= 0.015, "it begins anew after an ack"


async def test_a_read_that_is_refused_is_asked_less_and_less_often() -> None:
    async with client(timeout_s=2.0) as (cluster, log):
        node = cluster.nodes[1]
        node.script = lambda node, message: Refused(getattr(message, "request_id", 0), Busy.code, "full")
        with pytest.raises(EventStreamError):
            await log.read(0)
        assert len(node.received) <= 16


async def test_what_cannot_be_stored_ends_the_list_that_it_is_in() -> None:
    """A later one would be in the log without it, and before it when all are sent again."""
    async with client(batch_events=1, window=4) as (cluster, log):
        node = cluster.nodes[1]
        node.script = refusing(WindowFull, lambda append, _: append.batch.keys == batch(3).keys)
        with pytest.raises(WindowFull):
            await log.append_many(event(number) for number in range(20))
        await trio.sleep(1)
        assert cluster.log.ids() == ["0", "1", "2"]
        node.script = None
        await log.append_many(event(number) for number in range(20))
        assert cluster.log.ids() == [str(number) for number in range(20)]


async def test_what_cannot_be_stored_holds_up_nothing_else() -> None:
    async with client() as (cluster, log):
        node = cluster.nodes[1]
        keys = {batch(3).keys, batch(5).keys}
        node.script = refusing(WindowFull, lambda append, _: append.batch.keys in keys)
        refused: list[int] = []

        async def one(number: int) -> None:
            try:
                await log.append_batch(batch(number))
            except WindowFull:
                refused.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one, number)
                await trio.lowlevel.checkpoint()
        assert refused == [3, 5]
        assert cluster.log.ids() == ["0", "1", "2", "4", "6", "7"]


async def test_a_leader_that_leads_again_on_the_same_connection_gets_a_new_run() -> None:
    async with client() as (cluster, log):
        await log.append(event(1))
        await cluster.elect(0)
        await cluster.elect(1)
        await log.append(event(2))
        first, second = cluster.nodes[1].appends
        assert first.run != second.run


def moody(rng: random.Random) -> Script:
    """A node that refuses now and then, and loses what it has taken, or only the answer."""

    def script(node: FakeNode, message: Message) -> Reply:
        mood = rng.random()
        if not isinstance(message, Append) or mood < 0.9 or node.cluster.leader != node.id:
            return node.answer(message)
        if mood < 0.93:
            node.answer(message)
            return Refused(message.request_id, LeadershipLost.code, "taken, and lost the leadership")
        error = rng.choice([Busy, NotLeader, LeadershipLost])
        return Refused(message.request_id, error.code, "a mood")

    return orderly(script)


async def rage(cluster: FakeCluster, rng: random.Random) -> None:
    while True:
        await trio.sleep(rng.uniform(0, 0.3))
        node = cluster.nodes[rng.choice([1, 2, 3])]
        match rng.randrange(3):
            case 0:
                await node.kill()
                node.up = True
            case 1:
                await cluster.elect(rng.choice([0, 1, 2, 3]))
            case _:
                node.script = moody(rng)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("producer_session", [False, True])
async def test_no_storm_changes_the_order_of_a_list(seed: int, producer_session: bool) -> None:
    rng = random.Random(f"{seed}:order")
    settings: dict[str, Any] = {
        "window": rng.choice([1, 4, 64]),
        "batch_events": rng.choice([1, 3, 64]),
        "timeout_s": None,
    }
    async with (
        client(**settings, producer_session=producer_session, rng=rng) as (cluster, log),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(rage, cluster, rng)
        acks = await log.append_many(event(number) for number in range(300))
        assert [ack.offset for ack in acks] == list(range(300))
        assert cluster.log.ids() == [str(number) for number in range(300)]
        nursery.cancel_scope.cancel()


# --- the order of the calls -------------------------------------------------------------------------


async def test_no_more_bytes_are_under_way_than_a_node_holds_for_a_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_SESSION_INFLIGHT_BYTES", 10_000)
    async with client(batch_events=1) as (cluster, log):
        node = cluster.nodes[1]
        node.script = swallow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.append_many, [large(number, 3_000) for number in range(7)])
            await trio.sleep(0.2)
            assert len(node.appends) == 3
            node.script = None
            await node.kill()
            node.up = True
        assert cluster.log.ids() == [str(number) for number in range(7)]


async def test_one_batch_may_be_larger_than_all_that_may_be_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_SESSION_INFLIGHT_BYTES", 1_000)
    async with client(batch_events=1) as (cluster, log):
        await log.append_many([event(1), large(2, 3_000), event(3)])
        assert cluster.log.ids() == ["1", "2", "3"]


async def test_batches_that_wait_for_a_place_leave_in_the_order_of_the_calls() -> None:
    """Several places come free at once, and who of the woken runs first would be trio's choice."""
    async with client(window=4) as (cluster, log):
        node = cluster.nodes[1]
        node.script = swallow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_order, log, range(40))
            await trio.sleep(0.1)
            node.script = None
            answers = [node.answer(append) for append in node.appends]
            (connection,) = node.connections
            await node.send(connection, b"".join(encode(a) for a in answers if isinstance(a, Appended)))
        assert cluster.log.ids() == [str(number) for number in range(40)]


@pytest.mark.parametrize("window", [1, 2, 64])
async def test_single_events_and_batches_keep_the_order_of_the_calls(window: int) -> None:
    async with client(window=window, batch_events=2, batch_ms=50) as (cluster, log):
        node = cluster.nodes[1]
        await log.status()
        node.script = swallow
        kinds = random.Random(window)
        async with trio.open_nursery() as nursery:
            for number in range(40):
                if kinds.random() < 0.6:
                    collect(nursery, log, number)
                else:
                    nursery.start_soon(log.append_many, [event(number)])
                await wait_all_tasks_blocked()
            node.script = None
            await node.kill()
            node.up = True
        assert cluster.log.ids() == [str(number) for number in range(40)]


async def test_a_batch_that_waited_and_was_cancelled_gives_way_to_the_next() -> None:
    async with client(window=1) as (cluster, log):
        node = cluster.nodes[1]
        node.script = swallow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.append_batch, batch(1))
            await wait_all_tasks_blocked()
            with trio.move_on_after(0.1):
                await log.append_batch(batch(2))
            nursery.start_soon(log.append_batch, make_batch([event(3)]))
            await wait_all_tasks_blocked()
            node.script = None
            await node.kill()
            node.up = True
        assert cluster.log.ids() == ["1", "3"]


async def test_a_list_that_is_given_up_is_given_up_as_a_whole() -> None:
    """The first batch is on its way for too long; those behind it were refused, and wait for its answer.

    Seed 2 of the simulation of whole nodes: they left as soon as the first was given up, and were stored.
    """
    async with client(batch_events=1, timeout_s=1.0) as (cluster, log):
        node = cluster.nodes[1]

        def script(node: FakeNode, message: Message) -> Reply:
            if not isinstance(message, Append) or message.run > 1:
                return node.answer(message)
            if message.batch.keys == batch(0).keys:
                return None
            return Refused(message.request_id, Busy.code, "full")

        node.script = script
        with pytest.raises(EventStreamError):
            await log.append_many(event(number) for number in range(5))
        await trio.sleep(1)
        assert cluster.log.ids() == []
        await log.append(event(9))
        assert cluster.log.ids() == ["9"]
