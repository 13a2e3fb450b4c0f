"""Reading through the client: pages, subscriptions that outlive their connections, and single nodes."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import cbor2
import pytest
import trio

from esnode import limits
from esnode.client import BatchSubscription, NodeLink, StoredEvent, Subscription, connect, connect_node
from esnode.client.stored import batches_of
from esnode.dedup.batch import event_key
from esnode.errors import (
    Busy,
    ConnectionLost,
    DamagedRecord,
    FrameTooLarge,
    InvalidConfig,
    InvalidRequest,
    NewerFormat,
    NoQuorum,
    NotLeader,
    OffsetOutOfRange,
    OperationTimeout,
    ProtocolError,
    Unreachable,
    WrongCluster,
)
from esnode.events import make_batch
from esnode.messages import (
    Appended,
    Goodbye,
    KeyExplained,
    LeaderIs,
    Read,
    Refused,
    StatusReply,
    StatusRequest,
    Subscribe,
)
from esnode.raft.entry import EntryKind, seal
from esnode.wire import Message
from tests.appending import client, event, running
from tests.fake_cluster import FakeCluster, FakeNode, Reply
from tests.storage.test_versioncheck import doctored

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def take(subscription: Subscription, number: int) -> list[int]:
    """The offsets of the next `number` events."""
    return [(await anext(subscription)).offset for _ in range(number)]


async def take_batches(subscription: BatchSubscription, number: int) -> list[tuple[int, int]]:
    """Where the next `number` batches begin and end."""
    batches = [await anext(subscription) for _ in range(number)]
    return [(batch.offset, batch.next_offset) for batch in batches]


def offsets(events: list[StoredEvent]) -> list[int]:
    return [stored.offset for stored in events]


# --- records --------------------------------------------------------------------------------------


def record(base_offset: int, *numbers: int, kind: EntryKind = EntryKind.BATCH) -> bytes:
    batch = make_batch([event(number) for number in numbers]) if numbers else None
    return seal(
        index=base_offset + 1,
        term=1,
        kind=kind,
        base_offset=base_offset,
        log_time_ms=0,
        count=len(numbers),
        keys=batch.keys if batch else b"",
        payload=batch.payload if batch else b"",
    ).record


def test_records_are_cut_to_what_was_asked_for() -> None:
    records = [record(0, 0, 1, 2), record(3, kind=EntryKind.NOOP), record(3, 3, 4), record(5, 5, 6, 7)]
    found = list(batches_of(records, 1, 6))
    assert [(one.offset, one.next_offset, one.count) for one in found] == [(1, 3, 2), (3, 5, 2), (5, 6, 1)]
    assert [stored.event for one in found for stored in one.events()] == [event(n) for n in range(1, 6)]
    keys = itertools.chain.from_iterable(one.keys() for one in found)
    assert list(keys) == [event_key("/test", str(n)) for n in range(1, 6)]


def test_records_before_what_was_asked_for_are_left_out() -> None:
    assert list(batches_of([record(0, 0, 1)], 2)) == []


def test_a_gap_between_records_is_noticed() -> None:
    with pytest.raises(ProtocolError, match="left out the events from 2 to 3"):
        list(batches_of([record(0, 0, 1), record(3, 3)], 0))


def test_a_damaged_record_is_noticed() -> None:
    damaged = bytearray(record(0, 0, 1))
    damaged[-1] ^= 1
    with pytest.raises(DamagedRecord):
        list(batches_of([bytes(damaged)], 0))


# --- read -----------------------------------------------------------------------------------------


async def test_a_read_takes_as_many_pages_as_it_needs() -> None:
    async with client() as (cluster, log):
        cluster.grow(9)
        assert offsets(await log.read(0)) == list(range(9))
        assert offsets(await log.read(3, max_events=4)) == [3, 4, 5, 6]
        assert await log.read(9) == []
        assert (await log.read(8))[0].event == {"id": "8", "source": "/grown", "type": "t"}


async def test_a_linearizable_read_goes_to_the_leader_and_waits_for_one() -> None:
    async with client(timeout_s=1.0) as (cluster, log):
        await log.read(0)
        assert not [m for n in (2, 3) for m in cluster.nodes[n].received if isinstance(m, Read)]
        await cluster.elect(0)
        with pytest.raises(NoQuorum):
            await log.read(0)


async def test_a_read_that_need_not_be_linearizable_goes_to_any_node() -> None:
    async with client() as (cluster, log):
        cluster.grow(3)
        cluster.leader = 0
        assert offsets(await log.read(0, linearizable=False)) == [0, 1, 2]


async def test_a_read_that_any_node_may_answer_moves_on_when_its_node_goes() -> None:
    async with client() as (cluster, log):
        await log.status()
        cluster.grow(1)
        await cluster.elect(0)
        asked: list[FakeNode] = []

        def go_silent(node: FakeNode, message: Message) -> Reply:
            if isinstance(message, Read) and not asked:
                asked.append(node)
                return None
            return node.answer(message)

        for node in cluster.nodes.values():
            node.script = go_silent

        async def kill_the_asked() -> None:
            await trio.sleep(0.1)
            await asked[0].kill()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill_the_asked)
            begun = trio.current_time()
            assert offsets(await log.read(0, 1, linearizable=False)) == [0]
            assert trio.current_time() - begun == pytest.approx(0.1, abs=0.01)


async def test_a_read_before_what_is_kept_is_refused() -> None:
    async with client() as (cluster, log):
        cluster.grow(3)
        cluster.log.first_offset = 2
        with pytest.raises(OffsetOutOfRange, match="the first is 2"):
            await log.read(1)


@pytest.mark.parametrize(("offset", "number"), [(-1, 1), (limits.MAX_INDEX + 1, 1), (0, 0), (0, 2**32)])
async def test_a_range_that_makes_no_sense_is_refused(offset: int, number: int) -> None:
    async with client() as (_, log):
        with pytest.raises(InvalidRequest, match="is not a range"):
            await log.read(offset, number)


# --- subscriptions --------------------------------------------------------------------------------


async def test_a_subscription_gives_what_is_there_and_then_what_comes() -> None:
    async with client() as (cluster, log), log.subscribe(2) as events:
        cluster.grow(5)
        assert await take(events, 3) == [2, 3, 4]
        async with trio.open_nursery() as nursery:

            async def later() -> None:
                await trio.sleep(100)
                cluster.grow(2, start=5)

            nursery.start_soon(later)
            assert await take(events, 2) == [5, 6]
        assert len(cluster.dialed) == 4  # signs of life kept it on its one connection


async def test_a_subscription_begins_and_goes_on_in_the_middle_of_a_batch() -> None:
    async with client() as (_, log):
        await log.append_many([event(n) for n in range(10)])
        async with log.subscribe(7) as events:
            first = await anext(events)
            assert (first.offset, first.event) == (7, event(7))
            await events.aclose()
            assert events.next_offset == 8
            assert await take(events, 2) == [8, 9]
            assert events.next_offset == 10


async def test_a_subscription_outlives_its_nodes_without_gap_or_repeat() -> None:
    async with client() as (cluster, log), log.subscribe(0) as events:
        seen: list[int] = []
        for number in range(12):
            cluster.grow(3, start=3 * number)
            seen += await take(events, 2)
            victim = cluster.nodes[number % 3 + 1]
            await victim.kill()
            victim.up = True
        seen += await take(events, 12)
        assert seen == list(range(36))


async def test_a_subscription_leaves_a_silent_node() -> None:
    async with client() as (cluster, log), log.subscribe(0) as events:
        cluster.grow(1)
        assert await take(events, 1) == [0]
        silent = next(n for n in cluster.nodes.values() if any(isinstance(m, Subscribe) for m in n.received))
        await silent.kill()
        silent.up = True
        silent.script = lambda node, message: None
        cluster.grow(1, start=1)
        begun = trio.current_time()
        assert await take(events, 1) == [1]
        assert trio.current_time() - begun < 10


async def test_a_subscription_leaves_a_node_that_has_lost_its_leader() -> None:
    async with client() as (cluster, log):
        cluster.grow(1)

        def stale(node: FakeNode, message: Message) -> Reply:
            if isinstance(message, Subscribe):
                return node.records(message.request_id, (), silence_ms=60_000)
            return node.answer(message)

        cluster.nodes[1].script = cluster.nodes[2].script = stale
        async with log.subscribe(0) as events:
            assert await take(events, 1) == [0]


async def test_a_subscription_goes_past_nodes_that_answer_nonsense() -> None:
    async with client() as (cluster, log):
        cluster.grow(2)
        damaged = bytearray(cluster.log.entries[0].record)
        damaged[-1] ^= 1
        nonsense: list[Reply] = [
            b"\xff" * 20,
            StatusReply(1, {}),
            Refused(1, Busy.code, "later"),
            Goodbye(Busy.code, "stopping"),
            cluster.nodes[1].records(1, (bytes(damaged),)),
            cluster.nodes[1].records(1, (cluster.log.entries[1].record,)),
        ]

        def script(node: FakeNode, message: Message) -> Reply:
            if not isinstance(message, Subscribe):
                return node.answer(message)
            if nonsense:
                return nonsense.pop()
            return node.records(message.request_id, cluster.log.records_from(message.from_offset))

        for node in cluster.nodes.values():
            node.script = script
        async with log.subscribe(0) as events:
            assert await take(events, 2) == [0, 1]
        assert not nonsense


async def test_a_subscription_that_meets_a_record_of_a_newer_version_says_so_and_asks_nobody_else() -> None:
    """Every node has the same; the events before it are given first."""
    async with client() as (cluster, log):
        cluster.grow(3)
        cluster.log.entries[2] = doctored(cluster.log.entries[2])
        async with log.subscribe(0) as events:
            assert await take(events, 2) == [0, 1]
            with pytest.raises(NewerFormat, match="of the kind 200"), trio.fail_after(5):
                await anext(events)


async def test_a_subscription_that_retention_has_overtaken_says_so() -> None:
    async with client() as (cluster, log):
        cluster.grow(5)
        cluster.log.first_offset = 3
        events = log.subscribe(1)
        with pytest.raises(OffsetOutOfRange, match="not kept any more on any node; the first one is 3"):
            await anext(events)


async def test_a_subscription_to_another_cluster_says_so() -> None:
    async with client(cluster="other") as (_, log):
        with pytest.raises(WrongCluster):
            await anext(log.subscribe(0))


async def test_an_event_that_is_none_is_named_and_can_be_passed() -> None:
    async with client() as (cluster, log):
        payload = cbor2.dumps([cbor2.dumps(event(0)), b"\xff", cbor2.dumps(event(2))])
        cluster.log.add_entry(3, bytes(48), payload, 1)
        async with log.subscribe(0) as events:
            assert await take(events, 1) == [0]
            with pytest.raises(ProtocolError, match="at offset 1 is no event"):
                await anext(events)
            assert await take(events, 1) == [2]


async def test_a_wait_that_is_cancelled_loses_no_event() -> None:
    async with client() as (cluster, log), log.subscribe(0) as events:
        seen: list[int] = []
        for number in range(10):
            with trio.move_on_after(0.05 * number):
                while True:
                    seen.append((await anext(events)).offset)
            cluster.grow(4, start=4 * number)
        seen += await take(events, 40 - len(seen))
        assert seen == list(range(40))


async def test_batches_come_whole_and_tell_how_far_the_log_goes() -> None:
    async with client(batch_events=4) as (_, log):
        await log.append_many([event(n) for n in range(10)])
        async with log.subscribe_batches(1) as batches:
            assert await take_batches(batches, 3) == [(1, 4), (4, 8), (8, 10)]
            assert batches.next_offset == batches.end_offset == 10


async def test_leaving_the_log_closes_its_subscriptions() -> None:
    async with running() as cluster:
        async with connect(cluster.addresses, dial=cluster.dial) as log:
            cluster.grow(1)
            await take(log.subscribe(0), 1)
            await trio.testing.wait_all_tasks_blocked()
            assert sum(len(node.connections) for node in cluster.nodes.values()) == 4
        await trio.testing.wait_all_tasks_blocked()
        assert sum(len(node.connections) for node in cluster.nodes.values()) == 0


# --- one node -------------------------------------------------------------------------------------


@asynccontextmanager
async def linked(node_id: int = 2, **settings: Any) -> AsyncIterator[tuple[FakeCluster, NodeLink]]:
    """A cluster and a link to one of its nodes."""
    async with (
        running() as cluster,
        connect_node(f"node:{node_id}", dial=cluster.dial, **settings) as node,
    ):
        yield cluster, node


async def test_one_node_answers_for_itself() -> None:
    async with linked() as (cluster, node):
        cluster.grow(3)
        assert await node.status() == {"id": 2}
        assert node.welcome.node_id == 2
        assert node.leader == LeaderIs(1, 1, "node:1")
        assert offsets(await node.read(1)) == [1, 2]
        page = await node.read_page(0)
        assert ([batch.offset for batch in page.batches], page.next_offset) == ([0, 1], 3)
        assert (page.first_offset, page.silence_ms) == (0, 0)
        assert (await node.explain("/grown", "2")).offset == 2
        assert (await node.explain_key(bytes(16))).offset is None
        assert set(cluster.dialed) == {2}


async def test_one_node_does_not_follow_the_leader() -> None:
    async with linked() as (cluster, node):
        with pytest.raises(NotLeader):
            await node.transfer_leadership()
        cluster.leader = 2
        assert await node.transfer_leadership(3) == (2, 3)


async def test_one_nodes_log_can_be_followed() -> None:
    async with linked() as (cluster, node), node.subscribe(0) as events:
        cluster.grow(2)
        assert await take(events, 2) == [0, 1]
        await cluster.nodes[2].kill()
        cluster.nodes[2].up = True
        cluster.grow(1, start=2)
        assert await take(events, 1) == [2]
        assert set(cluster.dialed) == {2}


async def test_a_follower_that_has_lost_its_leader_can_still_be_followed_by_name() -> None:
    async with linked() as (cluster, node):
        cluster.grow(1)
        begun: list[int] = []

        def script(one: FakeNode, message: Message) -> Reply:
            if isinstance(message, Subscribe):
                begun.append(message.from_offset)
                return one.records(1, cluster.log.records_from(0)[: len(begun) - 1], silence_ms=-1)
            return one.answer(message)

        cluster.nodes[2].script = script
        async with node.subscribe(0) as events:
            assert await take(events, 1) == [0]
        assert begun == [0, 0]  # silent for three seconds, then asked again


async def test_questions_of_several_tasks_take_turns() -> None:
    async with linked() as (_, node):
        found: list[dict[str, Any]] = []

        async def ask() -> None:
            found.append(await node.status())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert found == [{"id": 2}] * 5


async def test_a_node_that_is_not_there_is_unreachable() -> None:
    async with running() as cluster:
        cluster.nodes[2].up = False
        link = connect_node("node:2", dial=cluster.dial)
        with pytest.raises(Unreachable):
            await link.__aenter__()


async def test_a_node_of_another_cluster_is_told_apart() -> None:
    async with running() as cluster:
        link = connect_node("node:2", cluster="other", dial=cluster.dial)
        with pytest.raises(WrongCluster):
            await link.__aenter__()
        await trio.testing.wait_all_tasks_blocked()
        assert not cluster.nodes[2].connections


async def test_a_node_that_does_not_answer_is_not_waited_for() -> None:
    async with linked(timeout_s=1.0) as (cluster, node):
        cluster.nodes[2].script = lambda one, message: None
        with pytest.raises(OperationTimeout, match="within 1 s"):
            await node.status()
        cluster.nodes[2].script = None
        assert await node.status() == {"id": 2}


async def test_a_node_that_goes_is_a_lost_connection() -> None:
    async with linked() as (cluster, node):
        await cluster.nodes[2].kill()
        with pytest.raises(ConnectionLost):
            await node.status()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (KeyExplained(1, 0, 0), ProtocolError),
        (Appended(1, (), 0), ProtocolError),
        (Goodbye(Busy.code, "stopping"), Busy),
        (Refused(1, Busy.code, "later"), Busy),
        (b"\xff" * 9, FrameTooLarge),
    ],
)
async def test_a_wrong_answer_of_one_node_is_a_typed_error(answer: Reply, error: type[Exception]) -> None:
    async with linked() as (cluster, node):
        cluster.nodes[2].script = lambda one, message: answer
        with pytest.raises(error):
            await node.status()


async def test_an_answer_that_comes_too_late_is_skipped() -> None:
    async with linked() as (cluster, node):
        cluster.nodes[2].script = lambda one, message: (
            None
            if not isinstance(message, StatusRequest)
            else StatusReply(message.request_id - 1, {"late": True})
            if message.request_id == 2
            else one.answer(message)
        )
        with trio.move_on_after(1):
            await node.explain_key(bytes(16))
        with trio.move_on_after(1) as scope:
            await node.status()
        assert scope.cancelled_caught
        assert await node.status() == {"id": 2}


def test_a_bad_address_is_named() -> None:
    with pytest.raises(InvalidConfig, match="host:port"):
        connect_node("nowhere")
