"""Subscriptions whose offset some nodes have cut away, and others may keep."""

from dataclasses import replace

import pytest
import trio

from esnode.errors import OffsetOutOfRange
from esnode.messages import Records, Refused, Subscribe
from esnode.wire import Message
from tests.appending import client
from tests.client.test_client_reading import take
from tests.fake_cluster import FakeNode, Reply, Script

pytestmark = pytest.mark.usefixtures("autojump_clock")


def keeps_from(first_offset: int) -> Script:
    """A node that has cut away what is before `first_offset`; otherwise honest."""

    def answer(node: FakeNode, message: Message) -> Reply:
        if isinstance(message, Subscribe) and message.from_offset < first_offset:
            return Refused(message.request_id, OffsetOutOfRange.code, "cut away")
        reply = node.answer(message)
        return replace(reply, first_offset=first_offset) if isinstance(reply, Records) else reply

    return answer


@pytest.mark.parametrize("keeper", [1, 2, 3])
async def test_a_subscription_asks_the_nodes_that_may_still_have_what_one_has_cut(keeper: int) -> None:
    async with client() as (cluster, log):
        cluster.grow(5)
        for node in cluster.nodes.values():
            node.script = None if node.id == keeper else keeps_from(4)
        async with log.subscribe(1) as events:
            with trio.fail_after(5):
                assert await take(events, 4) == [1, 2, 3, 4]


async def test_a_subscription_ends_when_no_node_that_answers_has_its_offset() -> None:
    """With the first event that any of them keeps; the next try asks all of them again."""
    async with client() as (cluster, log):
        cluster.grow(6)
        cluster.nodes[1].script, cluster.nodes[2].script = keeps_from(4), keeps_from(3)
        await cluster.nodes[3].kill()
        async with log.subscribe(1) as events:
            with pytest.raises(OffsetOutOfRange, match=r"\(1 did not answer\); the first one is 3"):
                with trio.fail_after(10):
                    await anext(events)
            cluster.nodes[2].script = None
            assert await take(events, 1) == [1]
