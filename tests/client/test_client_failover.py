"""The client finds the leader, and brings it everything, whatever happens to nodes and answers."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from esnode.client import Ack, BatchAck, connect
from esnode.dedup.batch import OffsetRange
from esnode.errors import (
    Busy,
    EventStreamError,
    LeadershipLost,
    NoQuorum,
    NotLeader,
    OperationTimeout,
    Rejoining,
    WindowFull,
)
from esnode.messages import Append, Appended, LeaderIs, Read, Refused, StatusRequest
from esnode.wire import Message
from tests.appending import batch, client, collect, collect_batches, event, refuse_once, running, swallow
from tests.fake_cluster import FakeNode, Reply, Script

pytestmark = pytest.mark.usefixtures("autojump_clock")


# --- finding the leader -----------------------------------------------------------------------------


async def test_the_leader_is_found_through_any_node() -> None:
    async with running() as cluster:
        cluster.leader = 3
        async with connect(["node:2"], dial=cluster.dial) as log:
            await log.append(event(1))
            assert log.leader_id == 3
        assert 1 not in cluster.dialed


async def test_a_node_that_wrongly_thinks_it_leads_is_asked_again_until_it_knows_better() -> None:
    async with client() as (cluster, log):
        cluster.leader = 0
        cluster.nodes[1].says = LeaderIs(1, 1, "node:1")
        async with trio.open_nursery() as nursery:
            acks = collect(nursery, log, 1)
            await trio.sleep(0.2)
            assert 2 < len(cluster.nodes[1].appends) < 50
            await cluster.elect(2)
        assert acks[1].offset == 0
        assert log.leader_id == 2


async def test_long_refusals_and_a_long_time_without_a_node_are_no_reason_to_stop() -> None:
    """The pauses double up to a bound: a thousand doublings are more than a float holds."""

    def busy(node: FakeNode, message: Message) -> Reply:
        if isinstance(message, Append):
            return Refused(message.request_id, Busy.code, "not now")
        return node.answer(message)

    async with client(1, timeout_s=None) as (cluster, log), trio.open_nursery() as nursery:
        node = cluster.nodes[1]
        node.script = busy
        acks = collect(nursery, log, 1)
        await trio.sleep(1_500)
        assert len(node.appends) > 1_100
        await node.kill()
        await trio.sleep(1_500)
        assert len(cluster.dialed) > 1_100
        node.up, node.script = True, FakeNode.answer
    assert acks[1].offset == 0


async def test_a_leader_of_an_older_term_is_not_believed() -> None:
    async with running() as cluster:
        cluster.nodes[1].says = LeaderIs(4, 1, "node:1")
        cluster.nodes[2].says = LeaderIs(5, 2, "node:2")
        cluster.leader = 2
        async with connect(cluster.addresses, dial=cluster.dial) as log:
            await trio.sleep(0.1)
            await log.append(event(1))
            assert log.leader_id == 2
            assert not cluster.nodes[1].appends


async def test_a_node_is_dialled_again_until_it_is_there() -> None:
    async with running(1) as cluster:
        cluster.nodes[1].up = False
        async with connect(cluster.addresses, dial=cluster.dial, timeout_s=None) as log:
            async with trio.open_nursery() as nursery:
                acks = collect(nursery, log, 1)
                await trio.sleep(60)
                assert 45 < len(cluster.dialed) < 150  # 20 ms at first, then doubling to about a second
                cluster.nodes[1].up = True
            assert acks == {1: Ack(0, duplicate=False)}


async def test_a_leader_that_has_just_come_back_is_dialled_as_soon_as_others_name_it() -> None:
    async with running() as cluster:
        cluster.nodes[3].up = False
        async with connect(cluster.addresses, dial=cluster.dial) as log:
            await trio.sleep(60)  # by now it is tried about once a second
            assert log.connections == {"node:1": True, "node:2": True, "node:3": False}
            dialed = len(cluster.dialed)
            cluster.nodes[3].up = True
            begun = trio.current_time()
            await cluster.elect(3)
            await log.append(event(1))
            assert trio.current_time() - begun < 0.01
            assert cluster.dialed[dialed:] == [3]
            assert all(log.connections.values())


async def test_a_leader_that_cannot_be_reached_is_not_dialled_faster_by_those_who_name_it() -> None:
    async with running() as cluster:
        cluster.nodes[3].up = False
        await cluster.elect(3)
        async with connect(cluster.addresses, dial=cluster.dial):
            await trio.sleep(60)
            dialed = len(cluster.dialed)
            for _ in range(200):
                await cluster.nodes[1].say_leader()
                await trio.sleep(0.01)
            assert len(cluster.dialed) - dialed <= 5  # as often as without


async def test_a_node_that_names_ever_new_leaders_fills_nothing() -> None:
    async with running(1) as cluster:
        cluster.leader = 0
        async with connect(cluster.addresses, dial=cluster.dial) as log:
            await log.status()
            for number in range(2, 200):
                cluster.nodes[number] = FakeNode(cluster, number)
                cluster.nodes[number].up = False
                cluster.nodes[1].says = LeaderIs(number, number, f"node:{number}")
                await cluster.nodes[1].say_leader()
            await wait_all_tasks_blocked()
            assert len(set(cluster.dialed)) <= 32


# --- failover ---------------------------------------------------------------------------------------


async def test_when_the_leader_dies_everything_unanswered_goes_to_the_next_in_order() -> None:
    async with client() as (cluster, log):
        old, new = cluster.nodes[1], cluster.nodes[2]
        old.script = swallow
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, *range(20))
            await trio.sleep(0.1)
            assert len(old.appends) == 20
            await old.kill()
            await trio.sleep(0.3)
            assert not new.appends
            begun = trio.current_time()
            await cluster.elect(2)
        assert trio.current_time() - begun < 0.001
        assert [append.batch for append in new.appends] == [append.batch for append in old.appends]
        assert [acks[n].ranges[0].base_offset for n in range(20)] == list(range(20))
        assert all(ack.resent and not ack.duplicates for ack in acks.values())


async def test_what_the_dead_leader_had_committed_is_acked_with_its_offset() -> None:
    async with client() as (cluster, log):

        def commit_silently(node: FakeNode, message: Message) -> Reply:
            node.answer(message)
            return None

        cluster.nodes[1].script = commit_silently
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 1, 2, 3)
            await trio.sleep(0.1)
            await cluster.nodes[1].kill()
            await cluster.elect(3)
        assert cluster.log.ids() == ["1", "2", "3"]
        assert acks[2] == BatchAck((OffsetRange(1, 1),), duplicates=1, resent=True)


async def test_an_event_that_may_still_leave_with_others_is_not_called_undone() -> None:
    """Seed 6 of the simulation of whole nodes, after 17 simulated seconds."""
    async with client(timeout_s=1.0, batch_ms=100) as (cluster, log):
        cluster.leader = 0
        async with trio.open_nursery() as nursery:

            async def append_and_give_up() -> None:
                with pytest.raises(OperationTimeout) as caught:
                    await log.append(event(1))
                assert not caught.value.definite

            nursery.start_soon(append_and_give_up)
            await trio.sleep(0.05)
            acks = collect(nursery, log, 2)
            await trio.sleep(0.97)
            await cluster.elect(1)
        assert cluster.log.ids() == ["1", "2"]
        assert acks[2].offset == 1


async def test_a_new_leader_gets_everything_while_the_old_one_is_still_connected() -> None:
    async with client() as (cluster, log):
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 1, 2)
            await trio.sleep(0.1)
            cluster.nodes[1].says = LeaderIs(1, 1, "node:1")  # cut off, it does not know
            await cluster.elect(2)
        assert acks.keys() == {1, 2}
        assert cluster.dialed.count(1) == 1


async def test_a_late_answer_of_the_old_leader_counts() -> None:
    async with client() as (cluster, log):
        asked: list[Append] = []

        def remember(node: FakeNode, message: Message) -> Reply:
            if isinstance(message, Append):
                asked.append(message)
                return None
            return node.answer(message)

        cluster.nodes[1].script = cluster.nodes[2].script = remember
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 1)
            await trio.sleep(0.1)
            await cluster.elect(2)
            await trio.sleep(0.1)
            old = cluster.nodes[1]
            (connection,) = old.connections
            await old.send(connection, Appended(asked[0].request_id, (OffsetRange(7, 1),), 0))
        assert acks[1].ranges == (OffsetRange(7, 1),)


async def test_a_late_refusal_of_the_old_leader_counts_for_nothing() -> None:
    async with client() as (cluster, log):
        cluster.nodes[1].script = cluster.nodes[2].script = swallow
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 1)
            await trio.sleep(0.1)
            await cluster.elect(2)
            await trio.sleep(0.1)
            old = cluster.nodes[1]
            (connection,) = old.connections
            await old.send(connection, Refused(old.appends[0].request_id, WindowFull.code, "late"))
            await trio.sleep(0.1)
            cluster.nodes[2].script = None
            await cluster.nodes[2].kill()
            await cluster.elect(3)
        assert acks.keys() == {1}


@pytest.mark.parametrize("error", [Busy, LeadershipLost, NotLeader])
async def test_a_refusal_that_passes_is_tried_again_with_the_same_keys(error: type[EventStreamError]) -> None:
    async with client() as (cluster, log):
        cluster.nodes[1].script = refuse_once(error)
        ack = await log.append_batch(batch(1, 2))
        assert ack.ranges == (OffsetRange(0, 1), OffsetRange(1, 1))
        first, second = cluster.nodes[1].appends
        assert second == replace(first, run=first.run + 1)


async def test_a_busy_node_is_given_a_pause() -> None:
    async with client(timeout_s=1.0) as (cluster, log):
        cluster.nodes[1].script = lambda node, message: (
            Refused(message.request_id, Busy.code, "full")
            if isinstance(message, Append)
            else node.answer(message)
        )
        with pytest.raises(OperationTimeout):
            await log.append(event(1))
        assert 4 <= len(cluster.nodes[1].appends) <= 12, "each pause is about twice as long as the one before"


async def test_a_refusal_that_does_not_pass_is_raised() -> None:
    async with client() as (cluster, log):
        cluster.nodes[1].script = refuse_once(WindowFull)
        with pytest.raises(WindowFull, match="not now") as caught:
            await log.append(event(1))
        assert caught.value.definite
        with pytest.raises(WindowFull):
            await log.append_many([event(2), event(3)])


async def test_a_refusal_after_a_sending_without_an_answer_is_not_definite() -> None:
    """The first leader may have stored it, or may get it late: what the second one says is of its own log."""
    async with client() as (cluster, log):
        cluster.nodes[1].script = swallow
        cluster.nodes[2].script = refuse_once(WindowFull)
        async with trio.open_nursery() as nursery:

            async def append_and_be_refused() -> None:
                with pytest.raises(WindowFull) as caught:
                    await log.append_batch(batch(1))
                assert not caught.value.definite

            nursery.start_soon(append_and_be_refused)
            await trio.sleep(0.1)
            await cluster.nodes[1].kill()
            await cluster.elect(2)


def refuse_all(error: type[EventStreamError]) -> Script:
    """A node that answers every read and append with this refusal."""

    def script(node: FakeNode, message: Message) -> Reply:
        if isinstance(message, Append | Read):
            return Refused(message.request_id, error.code, f"node {node.id} says so")
        return node.answer(message)

    return script


async def test_a_read_that_every_node_refuses_says_why_and_asks_less_often() -> None:
    """The whole cluster rejoins: that is no timeout, and nothing may or may not have been done."""
    async with running() as cluster:
        await cluster.elect(0)
        for node in cluster.nodes.values():
            node.script = refuse_all(Rejoining)
        async with connect(cluster.addresses, dial=cluster.dial, timeout_s=10.0) as log:
            with pytest.raises(Rejoining, match="says so") as caught:
                await log.read(0, 10, linearizable=False)
        assert caught.value.definite
        asked = [sum(isinstance(each, Read) for each in node.received) for node in cluster.nodes.values()]
        assert min(asked) >= 5
        assert sum(asked) < 300


async def test_a_read_goes_to_a_node_that_comes_up_while_the_others_rejoin() -> None:
    async with running() as cluster:
        await cluster.elect(0)
        cluster.nodes[3].up = False
        for node_id in (1, 2):
            cluster.nodes[node_id].script = refuse_all(Rejoining)
        async with (
            connect(cluster.addresses, dial=cluster.dial, timeout_s=30.0) as log,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(log.read, 0, 10)
            await trio.sleep(3)
            cluster.nodes[3].up = True
            assert await log.read(0, 10, linearizable=False) == []
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("refusal", "raised"), [(Busy, OperationTimeout), (NotLeader, NoQuorum)])
async def test_an_append_that_was_only_ever_refused_is_certainly_not_done(
    refusal: type[EventStreamError], raised: type[EventStreamError]
) -> None:
    async with running() as cluster:
        cluster.nodes[1].script = refuse_all(refusal)
        async with connect(cluster.addresses, dial=cluster.dial, timeout_s=1.0) as log:
            with pytest.raises(raised, match="says so") as caught:
                await log.append_batch(batch(1))
        assert caught.value.definite
        assert cluster.log.ids() == []


async def test_an_append_that_was_refused_after_it_was_never_answered_may_be_done() -> None:
    def once_silent(node: FakeNode, message: Message) -> Reply:
        if isinstance(message, Append) and len(node.appends) == 1:
            return None
        return refuse_all(Busy)(node, message)

    async with running() as cluster:
        cluster.nodes[1].script = once_silent
        async with (
            connect(cluster.addresses, dial=cluster.dial, timeout_s=5.0) as log,
            trio.open_nursery() as nursery,
        ):

            async def give_up() -> None:
                with pytest.raises(OperationTimeout) as caught:
                    await log.append_batch(batch(1))
                assert not caught.value.definite

            nursery.start_soon(give_up)
            await trio.sleep(1)
            await cluster.nodes[1].kill()
            cluster.nodes[1].up = True


async def test_each_append_of_a_refused_batch_gets_the_error() -> None:
    async with client() as (cluster, log):
        cluster.nodes[1].script = refuse_once(WindowFull)
        caught: list[EventStreamError] = []

        async def one(number: int) -> None:
            with pytest.raises(WindowFull) as info:
                await log.append(event(number))
            caught.append(info.value)

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(one, number)
        assert len({id(error) for error in caught}) == 3


# --- bad and silent nodes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda append: b"\xff" * 50,
        lambda append: b"\x00\x00\x00\x02\x11\x00",
        lambda append: append,
        lambda append: Appended(append.request_id, (OffsetRange(0, 9),), 0),
        lambda append: Refused(append.request_id, "ES7777", "from the future"),
    ],
    ids=["garbage", "half a message", "a client's message", "offsets of other events", "an unknown code"],
)
async def test_a_node_that_answers_nonsense_is_left_and_the_rest_goes_on(
    nonsense: Callable[[Append], Reply],
) -> None:
    async with client() as (cluster, log):
        spoken: list[Append] = []

        def script(node: FakeNode, message: Message) -> Reply:
            if isinstance(message, Append) and not spoken:
                spoken.append(message)
                return nonsense(message)
            return node.answer(message)

        cluster.nodes[1].script = script
        assert (await log.append(event(1))).offset == 0
        assert cluster.dialed.count(1) == 2


async def test_an_answer_to_a_question_given_up_is_ignored() -> None:
    async with client(timeout_s=1.0) as (cluster, log):
        node = cluster.nodes[1]
        node.script = swallow
        with pytest.raises(OperationTimeout):
            await log.append(event(1))
        node.script = None
        (connection,) = node.connections
        await node.send(connection, Appended(node.appends[0].request_id, (OffsetRange(0, 1),), 0))
        await log.append(event(2))
        assert cluster.dialed.count(1) == 1


async def test_a_silent_node_is_hung_up_on_and_dialled_again() -> None:
    async with client() as (cluster, log):
        node = cluster.nodes[1]
        await log.status()
        node.script = lambda node, message: None

        async with trio.open_nursery() as nursery:
            acks = collect(nursery, log, 1)
            await trio.sleep(1.0)
            assert cluster.dialed.count(1) == 1
            await trio.sleep(1.5)
            assert cluster.dialed.count(1) == 2
            node.script = None
        assert acks.keys() == {1}


async def test_a_slow_leader_that_still_speaks_is_waited_for() -> None:
    async with client(timeout_s=30) as (cluster, log):
        node = cluster.nodes[1]
        node.script = swallow
        async with trio.open_nursery() as nursery:
            acks = collect(nursery, log, 1)
            await trio.sleep(20)
            (connection,) = node.connections
            await node.send(connection, node.answer(node.appends[0]))
        assert acks.keys() == {1}
        assert len(node.appends) == 1
        assert cluster.dialed.count(1) == 1


async def test_an_idle_connection_is_asked_now_and_then(autojump_clock: MockClock) -> None:
    async with client() as (cluster, log):
        await log.status()
        await trio.sleep(60)
        for node in cluster.nodes.values():
            asked = [message for message in node.received if isinstance(message, StatusRequest)]
            assert 8 <= len(asked) <= 13
        assert cluster.dialed == [1, 2, 3] or len(cluster.dialed) == 3
