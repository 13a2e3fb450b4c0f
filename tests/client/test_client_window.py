"""What the client says of a batch that it sends again, so that nothing is stored twice after the window."""

import pytest
import trio
import trio.testing

from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange
from esnode.errors import Busy, LeadershipLost, WindowPassed
from esnode.messages import Append, Appended, Refused
from esnode.wire import Message
from tests.appending import batch, client, collect_batches, refuse_once, swallow
from tests.fake_cluster import FakeNode, Reply

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def test_a_batch_that_is_sent_again_says_where_the_log_ended_when_it_was_sent_first() -> None:
    async with client() as (cluster, log):
        await log.append_batch(batch(1, 2, 3))
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 4)
            await trio.sleep(0.1)
            cluster.grow(5)
            await cluster.nodes[1].kill()
            await cluster.elect(2)
        assert acks[4].ranges == (OffsetRange(8, 1),)
        await log.append_batch(batch(5))
        said = [append.batch.sent_after for node in cluster.nodes.values() for append in node.appends]
        assert said == [0, 3, 3, 9]


async def test_a_batch_that_was_only_refused_for_certain_is_sent_as_for_the_first_time() -> None:
    async with client() as (cluster, log):
        cluster.nodes[1].script = refuse_once(Busy)
        await log.append_batch(batch(1))
        assert [append.batch.sent_after for append in cluster.nodes[1].appends] == [0, 0]


async def test_the_log_s_end_is_learnt_from_what_nodes_say_of_themselves() -> None:
    async with client() as (cluster, log):
        cluster.grow(7)
        await cluster.nodes[1].say_leader()
        cluster.nodes[1].script = refuse_once(LeadershipLost)
        await log.append_batch(batch(1))
        assert [append.batch.sent_after for append in cluster.nodes[1].appends] == [7, 7]


async def test_a_batch_that_may_be_stored_and_whose_window_has_passed_is_not_sent_again() -> None:
    def lose_then_refuse(node: FakeNode, message: Message) -> Reply:
        if not isinstance(message, Append):
            return node.answer(message)
        code = LeadershipLost.code if len(node.appends) == 1 else WindowPassed.code
        return Refused(message.request_id, code, "not now")

    async with client() as (cluster, log):
        cluster.nodes[1].script = lose_then_refuse
        with pytest.raises(WindowPassed) as caught:
            await log.append_batch(batch(1))
        assert not caught.value.definite
        assert len(cluster.nodes[1].appends) == 2
        cluster.nodes[1].script = None
        assert (await log.append_batch(batch(2))).ranges == (OffsetRange(0, 1),)


async def test_a_first_sending_that_is_refused_for_an_old_end_of_the_log_goes_again_with_the_new_one() -> (
    None
):
    """It was the only one, so it is certainly not stored: the client had not heard how far the log is."""

    def refuse_old_ends(node: FakeNode, message: Message) -> Reply:
        if isinstance(message, Append) and message.batch.sent_after < 7:
            return Refused(message.request_id, WindowPassed.code, "forgotten")
        return node.answer(message)

    async with client() as (cluster, log):
        await log.append_batch(batch(1))
        cluster.nodes[1].script = refuse_old_ends
        async with trio.open_nursery() as nursery:
            collect_batches(nursery, log, 2)
            await trio.testing.wait_all_tasks_blocked()
            cluster.grow(7)
            await cluster.nodes[1].say_leader()
        assert [append.batch.sent_after for append in cluster.nodes[1].appends] == [0, 1, 8]


async def test_an_ack_that_knows_no_offset_tells_nothing_of_the_log_s_end() -> None:
    """A producer session may know an event whose offset nobody remembers."""

    def forgetful(node: FakeNode, message: Message) -> Reply:
        if isinstance(message, Append):
            return Appended(message.request_id, (OffsetRange(UNKNOWN_OFFSET, 1),), 1)
        return node.answer(message)

    async with client() as (cluster, log):
        cluster.nodes[1].script = forgetful
        ack = await log.append_batch(batch(1))
        assert ack.ranges == (OffsetRange(UNKNOWN_OFFSET, 1),)
        cluster.nodes[1].script = refuse_once(LeadershipLost)
        await log.append_batch(batch(2))
        assert [append.batch.sent_after for append in cluster.nodes[1].appends] == [0, 0, 0]
