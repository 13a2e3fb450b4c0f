"""Appending through the client: batches, the window, timeouts, and the context."""

from collections.abc import Callable
from typing import Any

import cbor2
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from esnode import limits
from esnode.client import Ack, BatchAck, connect
from esnode.client.acks import acks_of
from esnode.dedup.batch import Batch, OffsetRange, ProducerStamp
from esnode.errors import (
    ConnectionLost,
    EventStreamError,
    InvalidConfig,
    InvalidEvent,
    InvalidRequest,
    NoQuorum,
    OperationTimeout,
    Unreachable,
    WrongCluster,
)
from esnode.messages import Appended, TransferLeadership
from esnode.wire import Message, encode
from tests.appending import batch, client, collect, collect_batches, event, running, swallow
from tests.fake_cluster import FakeCluster, FakeNode, Reply

pytestmark = pytest.mark.usefixtures("autojump_clock")


# --- batches ----------------------------------------------------------------------------------------


async def test_an_append_returns_the_offset_of_its_event() -> None:
    async with client() as (cluster, log):
        assert await log.append(event(1)) == Ack(0, duplicate=False)
        assert await log.append(event(2)) == Ack(1, duplicate=False)
        assert cluster.log.ids() == ["1", "2"]
        assert log.leader_id == 1


async def test_an_event_sent_twice_is_stored_once_and_says_so() -> None:
    async with client() as (cluster, log):
        first = await log.append(event(1))
        assert await log.append(event(1)) == Ack(first.offset, duplicate=True)
        assert cluster.log.ids() == ["1"]


async def test_appends_at_the_same_time_share_a_batch() -> None:
    async with client() as (cluster, log):
        async with trio.open_nursery() as nursery:
            acks = collect(nursery, log, *range(10))
        assert [append.batch.count for append in cluster.nodes[1].appends] == [10]
        stored = cluster.log.ids()
        assert {number: stored[ack.offset] for number, ack in acks.items()} == {n: str(n) for n in range(10)}


async def test_a_full_batch_does_not_wait_for_its_time() -> None:
    async with client(batch_events=4, batch_ms=1_000_000) as (cluster, log):
        async with trio.open_nursery() as nursery:
            collect(nursery, log, *range(8))
        assert [append.batch.count for append in cluster.nodes[1].appends] == [4, 4]
        assert trio.current_time() < 1


async def test_a_batch_that_is_not_full_waits_for_its_time_and_no_longer() -> None:
    async with client(batch_ms=50) as (_, log):
        await log.status()
        begun = trio.current_time()
        await log.append(event(1))
        assert trio.current_time() - begun == pytest.approx(0.05)


async def test_many_events_are_cut_into_batches_in_order() -> None:
    async with client(batch_events=4, window=2) as (cluster, log):
        acks = await log.append_many(event(n) for n in range(10))
        assert acks == [Ack(n, duplicate=False) for n in range(10)]
        assert [append.batch.count for append in cluster.nodes[1].appends] == [4, 4, 2]
        assert await log.append_many([]) == []


async def test_many_large_events_are_cut_by_size() -> None:
    async with client() as (cluster, log):
        big = [{**event(n), "data": "x" * (limits.MAX_EVENT_BYTES - 100)} for n in range(6)]
        assert len(await log.append_many(big)) == 6
        assert [append.batch.count for append in cluster.nodes[1].appends] == [4, 2]


async def test_large_single_appends_do_not_overfill_a_batch() -> None:
    async with client() as (cluster, log), trio.open_nursery() as nursery:
        for n in range(6):
            big = {**event(n), "data": "x" * (limits.MAX_EVENT_BYTES - 100)}
            nursery.start_soon(log.append, big)
    assert sorted(append.batch.count for append in cluster.nodes[1].appends) == [2, 4]


async def test_a_bad_event_is_refused_before_anything_is_sent() -> None:
    async with client() as (cluster, log):
        with pytest.raises(InvalidEvent, match="'id'"):
            await log.append({"source": "/s", "type": "t"})
        with pytest.raises(InvalidEvent):
            await log.append_many([event(1), {"id": "2"}])
        assert cluster.log.ids() == []


@pytest.mark.parametrize(
    "wrong",
    [
        Batch(0, b"", b"\x80"),
        Batch(limits.MAX_BATCH_EVENTS + 1, bytes(16 * 1025), b"\x80"),
        Batch(1, bytes(15), cbor2.dumps([b"e"])),
        Batch(2, bytes(32), cbor2.dumps([b"e"])),
        Batch(1, bytes(16), cbor2.dumps(["text"])),
        Batch(1, bytes(16), bytes(limits.MAX_BATCH_BYTES + 1)),
        Batch(1, bytes(16), cbor2.dumps([b"e"]), ProducerStamp(1, 1, 0, 1)),
    ],
    ids=range(7),
)
async def test_a_raw_batch_that_no_node_would_take_is_refused_here(wrong: Batch) -> None:
    async with client() as (cluster, log):
        with pytest.raises(InvalidRequest):
            await log.append_batch(wrong)
        assert not cluster.nodes[1].appends


@pytest.mark.parametrize(
    ("ranges", "duplicates", "new"),
    [
        ([(5, 3)], 0, [True, True, True]),
        ([(5, 3)], 3, [False, False, False]),
        ([(2, 1), (9, 2)], 1, [False, True, True]),
        ([(9, 1), (2, 1), (10, 1)], 1, [True, False, True]),
        ([(9, 1), (9, 1), (10, 1)], 1, [True, False, True]),
        ([(-1, 2), (9, 2)], 2, [False, False, True, True]),
    ],
)
def test_the_new_events_of_a_batch_are_told_by_their_offsets(
    ranges: list[tuple[int, int]], duplicates: int, new: list[bool]
) -> None:
    answer = BatchAck(tuple(OffsetRange(*part) for part in ranges), duplicates, resent=False)
    acks = acks_of(answer)
    assert [not ack.duplicate for ack in acks] == new
    assert [ack.offset for ack in acks] == [
        base + n if base >= 0 else -1 for base, count in ranges for n in range(count)
    ]


def test_events_whose_place_nobody_remembers_are_duplicates_at_no_offset() -> None:
    answer = BatchAck((OffsetRange(-1, 2), OffsetRange(9, 2)), 3, resent=True)
    assert acks_of(answer) == [Ack(-1, True), Ack(-1, True), Ack(9, True), Ack(10, False)]


# --- the window -------------------------------------------------------------------------------------


async def test_no_more_batches_than_the_window_are_under_way() -> None:
    async with client(window=2) as (cluster, log):
        node = cluster.nodes[1]
        node.script = swallow
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 1, 2, 3, 4)
            await trio.sleep(0.3)
            assert len(node.appends) == 2
            node.script = None
            await node.kill()
            node.up = True  # what was swallowed is sent again on a new connection
        assert len(acks) == 4
        assert cluster.log.ids() == ["1", "2", "3", "4"]


async def test_single_appends_wait_when_the_window_is_full_and_keep_their_order() -> None:
    async with client(window=1, batch_events=2) as (cluster, log):
        node = cluster.nodes[1]
        gate: list[Message] = []

        def hold(node: FakeNode, message: Message) -> Reply:
            gate.append(message)
            return None

        await log.status()
        node.script = hold
        async with trio.open_nursery() as nursery:
            for number in range(6):
                collect(nursery, log, number)
                await wait_all_tasks_blocked()
            assert len(node.appends) == 1
            node.script = None
            await node.kill()
            node.up = True
        assert cluster.log.ids() == ["0", "1", "2", "3", "4", "5"]
        assert [append.batch.count for append in node.appends] == [2, 2, 2, 2]


async def test_events_that_waited_leave_once_each_when_several_places_come_free() -> None:
    async with client(window=2, batch_events=1) as (cluster, log):
        node = cluster.nodes[1]
        node.script = swallow
        async with trio.open_nursery() as nursery:
            for number in range(8):
                collect(nursery, log, number)
                await wait_all_tasks_blocked()
            assert len(node.appends) == 2
            node.script = None
            answers = [node.answer(append) for append in node.appends]
            (connection,) = node.connections
            await node.send(connection, b"".join(encode(a) for a in answers if isinstance(a, Appended)))
        assert cluster.log.ids() == [str(number) for number in range(8)]
        assert len(node.appends) == 8


async def test_a_batch_that_fills_up_just_as_its_place_comes_free_leaves_once() -> None:
    async with client(window=2, batch_events=2) as (cluster, log):
        node = cluster.nodes[1]
        await log.status()
        for turn in range(0, 200, 6):  # which of the two woken tasks runs first is trio's choice
            node.script = swallow
            seen = len(node.appends)

            async def one_after_the_other(number: int) -> None:
                await log.append(event(number))
                await log.append(event(number + 3))

            async with trio.open_nursery() as nursery:
                for number in range(turn, turn + 3):
                    nursery.start_soon(one_after_the_other, number)
                    await trio.sleep(0.01)
                node.script = None
                answers = [node.answer(append) for append in node.appends[seen:]]
                (connection,) = node.connections
                await node.send(connection, b"".join(encode(a) for a in answers if isinstance(a, Appended)))
            assert sorted(cluster.log.ids(), key=int) == [str(n) for n in range(turn + 6)]
        frames = [append.request_id for append in node.appends]
        assert len(frames) == len(set(frames))


async def test_a_cancelled_append_that_waited_for_room_is_not_sent() -> None:
    async with client(window=1, batch_events=1, timeout_s=None) as (cluster, log):
        node = cluster.nodes[1]
        node.script = swallow
        async with trio.open_nursery() as nursery:
            collect(nursery, log, 1)
            await trio.sleep(0.1)
            collect(nursery, log, 2)
            await trio.sleep(0.1)
            with trio.move_on_after(0.1):
                await log.append(event(3))
            node.script = None
            await node.kill()
            node.up = True
        await trio.sleep(1)
        assert cluster.log.ids() == ["1", "2"]


async def test_a_cancelled_append_gives_its_place_back() -> None:
    async with client(window=1, timeout_s=None) as (cluster, log):
        cluster.nodes[1].script = swallow
        with trio.move_on_after(1) as scope:
            await log.append_batch(batch(1))
        assert scope.cancelled_caught
        with trio.move_on_after(1) as scope:
            await log.append(event(2))
        assert scope.cancelled_caught
        cluster.nodes[1].script = None
        assert await log.append(event(3)) == Ack(0, duplicate=False)


# --- timeouts --------------------------------------------------------------------------------------


async def test_no_answer_in_time_is_indefinite() -> None:
    async with client(timeout_s=2.0) as (cluster, log):
        cluster.nodes[1].script = swallow
        begun = trio.current_time()
        with pytest.raises(OperationTimeout) as caught:
            await log.append(event(1))
        assert not caught.value.definite
        assert trio.current_time() - begun == pytest.approx(2.0, abs=0.01)
        with pytest.raises(OperationTimeout):
            await log.append_batch(batch(2))
        with pytest.raises(OperationTimeout):
            await log.append_many([event(3)])


async def test_no_leader_in_time_is_definite() -> None:
    async with client(timeout_s=2.0) as (cluster, log):
        cluster.leader = 0
        for attempt in (log.append(event(1)), log.append_batch(batch(2)), log.append_many([event(3)])):
            with pytest.raises(NoQuorum, match="3 of 3 nodes answer") as caught:
                await attempt
            assert caught.value.definite
        assert cluster.log.ids() == []


async def test_a_batch_says_when_it_leaves_and_that_it_never_did() -> None:
    left: list[int] = []
    async with client(timeout_s=2.0) as (cluster, log):
        await log.append_batch(batch(1), on_sent=lambda: left.append(1))
        assert left == [1]
    async with client(timeout_s=2.0) as (cluster, log):
        cluster.leader = 0
        with pytest.raises(NoQuorum):
            await log.append_batch(batch(2), on_sent=lambda: left.append(2))
    assert left == [1]


async def test_no_node_in_time_is_definite_and_names_each() -> None:
    async with running() as cluster:
        for node in cluster.nodes.values():
            node.up = False
        async with connect(cluster.addresses, dial=cluster.dial, timeout_s=1.0) as log:
            with pytest.raises(Unreachable, match="node:2: node:2 refuses") as caught:
                await log.append(event(1))
            assert caught.value.definite


async def test_another_cluster_is_named_as_the_reason() -> None:
    async with client(cluster="other", timeout_s=1.0) as (_, log):
        with pytest.raises(WrongCluster, match="'fake', not 'other'"):
            await log.append(event(1))


async def test_a_full_window_is_a_time_out_too() -> None:
    async with client(window=1, timeout_s=1.0) as (cluster, log):
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:

            async def fail(wait_s: float) -> None:
                await trio.sleep(wait_s)
                with pytest.raises(OperationTimeout):
                    await log.append_batch(batch(1))

            nursery.start_soon(fail, 0.0)
            await trio.sleep(0.5)
            with pytest.raises(OperationTimeout):
                await log.append_many([event(n) for n in range(200)])


async def test_without_a_time_out_an_append_waits_for_ever() -> None:
    async with client(timeout_s=None) as (cluster, log):
        cluster.leader = 0
        async with trio.open_nursery() as nursery:
            acks = collect(nursery, log, 1)
            await trio.sleep(3600)
            assert not acks
            await cluster.elect(2)
        assert acks[1] == Ack(0, duplicate=False)


# --- other requests ---------------------------------------------------------------------------------


async def test_a_hand_over_is_asked_for_once_even_when_the_leader_changes() -> None:
    async with client() as (cluster, log):
        cluster.nodes[1].script = lambda node, message: None
        async with trio.open_nursery() as nursery:

            async def transfer() -> None:
                with pytest.raises(ConnectionLost) as caught:
                    await log.transfer_leadership(2)
                assert not caught.value.definite

            nursery.start_soon(transfer)
            await trio.sleep(0.1)
            await cluster.elect(2)
            await trio.sleep(0.1)
            await cluster.nodes[1].kill()
        asked = [
            m for node in cluster.nodes.values() for m in node.received if isinstance(m, TransferLeadership)
        ]
        assert len(asked) == 1


async def test_a_hand_over_tells_from_whom_to_whom() -> None:
    async with client() as (_, log):
        assert await log.transfer_leadership() == (1, 2)
        assert await log.transfer_leadership(3) == (1, 3)


async def test_an_event_can_be_explained_by_source_and_id() -> None:
    async with client() as (_, log):
        await log.append(event(1))
        assert (await log.explain("/test", "1")).offset == 0
        assert (await log.explain("/test", "2")).offset is None


# --- the context ------------------------------------------------------------------------------------


async def test_an_error_of_the_caller_comes_out_as_it_was() -> None:
    async def fail(cluster: FakeCluster) -> None:
        async with connect(cluster.addresses, dial=cluster.dial) as log:
            await log.append(event(1))
            raise KeyError("mine")

    async with running() as cluster:
        with pytest.raises(KeyError, match="mine"):
            await fail(cluster)


async def test_leaving_ends_what_other_tasks_still_wait_for() -> None:
    async with running() as cluster, trio.open_nursery() as nursery:
        cluster.nodes[1].script = swallow
        errors: list[EventStreamError] = []

        async def one(attempt: Callable[[], Any]) -> None:
            with pytest.raises(ConnectionLost) as caught:
                await attempt()
            errors.append(caught.value)

        async with connect(
            cluster.addresses, dial=cluster.dial, timeout_s=None, window=1, batch_events=1
        ) as log:
            nursery.start_soon(one, lambda: log.append_batch(batch(1)))
            await trio.sleep(0.1)
            for number in range(2, 6):
                nursery.start_soon(one, lambda number=number: log.append(event(number)))
            nursery.start_soon(one, lambda: log.append_batch(batch(7)))
            await trio.sleep(0.1)
        with pytest.raises(ConnectionLost, match="closed"):
            await log.append(event(8))
        await wait_all_tasks_blocked()
        assert len(errors) == 6


async def test_leaving_under_cancellation_is_quick_and_clean() -> None:
    async with running() as cluster:
        with trio.move_on_after(1) as scope:
            async with connect(cluster.addresses, dial=cluster.dial) as log:
                await log.append(event(1))
                await trio.sleep_forever()
        assert scope.cancelled_caught
        await wait_all_tasks_blocked()
        assert not any(node.connections for node in cluster.nodes.values())


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_events": 0},
        {"batch_events": limits.MAX_BATCH_EVENTS + 1},
        {"window": 0},
        {"window": limits.MAX_SESSION_INFLIGHT + 1},
        {"batch_ms": -1},
        {"timeout_s": 0},
    ],
    ids=str,
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        connect(["node:1"], **settings)


def test_a_client_needs_good_addresses() -> None:
    with pytest.raises(InvalidRequest, match="at least one"):
        connect([])
    with pytest.raises(InvalidConfig, match="host:port"):
        connect(["nowhere"])
