"""Producer sessions: numbers without gaps, and what happens when there is one."""

import pytest
import trio

from esnode.dedup.batch import ProducerStamp
from esnode.errors import (
    Busy,
    OperationTimeout,
    OutOfSequence,
    UnknownProducer,
)
from esnode.messages import Append, Refused
from esnode.wire import Message
from tests.appending import batch, client, collect_batches, event, refuse_once, swallow
from tests.fake_cluster import FakeNode, Reply

pytestmark = pytest.mark.usefixtures("autojump_clock")


def stamps(node: FakeNode) -> list[tuple[int, int, int]]:
    found = [append.batch.producer for append in node.appends]
    return [(p.producer_id, p.sequence, p.covered) for p in found if p is not None]


async def test_a_producer_session_numbers_its_batches_without_gaps() -> None:
    async with client(producer_session=True) as (cluster, log):
        for numbers in ((1, 2), (3,), (4, 5)):
            await log.append_batch(batch(*numbers))
        assert stamps(cluster.nodes[1]) == [(1, 0, 2), (1, 2, 1), (1, 3, 2)]


async def test_a_batch_keeps_its_number_when_it_is_sent_again() -> None:
    async with client(producer_session=True) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:
            collect_batches(nursery, log, 1, 2, 3)
            await trio.sleep(0.1)
            await cluster.nodes[1].kill()
            await cluster.elect(2)
        assert stamps(cluster.nodes[2]) == [(1, 1, 1), (1, 2, 1), (1, 3, 1)]


async def test_an_unknown_session_is_opened_again_and_the_batches_numbered_anew() -> None:
    async with client(producer_session=True) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = refuse_once(UnknownProducer)
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 1, 2)
            await trio.sleep(0.35)
            assert 3 <= cluster.producers <= 6  # each try after a pause
            cluster.nodes[1].script = None
        assert acks.keys() == {1, 2}
        last_id = stamps(cluster.nodes[1])[-1][0]
        assert last_id > 1
        assert [stamp for stamp in stamps(cluster.nodes[1]) if stamp[0] == last_id] == [
            (last_id, 0, 1),
            (last_id, 1, 1),
        ]


async def test_a_gap_left_by_an_append_that_was_given_up_begins_a_new_session() -> None:
    async with client(producer_session=True, timeout_s=1.0) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = swallow
        with pytest.raises(OperationTimeout):
            await log.append(event(1))

        def insist(node: FakeNode, message: Message) -> Reply:
            if isinstance(message, Append) and message.batch.producer == ProducerStamp(1, 1, 2, 1):
                return Refused(message.request_id, OutOfSequence.code, "1 is missing")
            return node.answer(message)

        cluster.nodes[1].script = insist
        assert (await log.append(event(2))).offset == 1
        assert stamps(cluster.nodes[1])[-1] == (2, 0, 1)


async def test_a_batch_behind_a_refused_one_waits_for_it() -> None:
    async with client(producer_session=True) as (cluster, log):
        await log.append(event(0))
        refused: list[int] = []

        def script(node: FakeNode, message: Message) -> Reply:
            if not isinstance(message, Append) or message.batch.producer is None:
                return node.answer(message)
            if len(refused) < 3:
                error = Busy if not refused else OutOfSequence
                refused.append(message.request_id)
                return Refused(message.request_id, error.code, "not now")
            return node.answer(message)

        cluster.nodes[1].script = script
        async with trio.open_nursery() as nursery:
            collect_batches(nursery, log, 1, 2, 3)
        assert cluster.log.ids() == ["0", "1", "2", "3"]
        await trio.sleep(1)
        assert cluster.producers == 1
