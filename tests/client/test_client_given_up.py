"""What a client does with the rest when a part is given up or refused: nothing twice, and no false word."""

from collections.abc import Callable
from functools import partial

import pytest
import trio
import trio.testing

from esnode.errors import LeadershipLost, OperationTimeout, OutOfSequence, UnknownProducer, WindowFull
from esnode.messages import Append, Refused
from esnode.wire import Message
from tests.appending import batch, client, event, swallow
from tests.fake_cluster import FakeNode, Reply

pytestmark = pytest.mark.usefixtures("autojump_clock")


def store_and_say_nothing(node: FakeNode, message: Message) -> Reply:
    reply = node.answer(message)
    return None if isinstance(message, Append) else reply


def full_from(number: int) -> Callable[[FakeNode, Message], Reply]:
    """A node that has no room from the `number`th append on."""
    seen = 0

    def script(node: FakeNode, message: Message) -> Reply:
        nonlocal seen
        seen += isinstance(message, Append)
        if isinstance(message, Append) and seen >= number:
            return Refused(message.request_id, WindowFull.code, "full")
        return node.answer(message)

    return script


async def refused(call: Callable[[], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        await call()  # type: ignore[misc]


async def test_a_list_behind_a_number_that_was_given_up_is_refused_and_the_client_goes_on() -> None:
    async with client(producer="a", timeout_s=1.0, batch_events=1) as (cluster, log):
        await log.append(event(0), sequence=0)
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, partial(log.append, event(1), sequence=1), OperationTimeout)
            await trio.sleep(0.5)
            later = [event(2), event(3), event(4)]
            nursery.start_soon(refused, partial(log.append_many, later, first_sequence=2), OutOfSequence)
            await trio.sleep(0.4)
            cluster.nodes[1].script = None
        await log.append_many([event(1), *later], first_sequence=1)
        assert cluster.log.ids() == ["0", "1", "2", "3", "4"]


async def test_whoever_gets_the_place_of_a_refused_call_is_behind_those_before_it() -> None:
    async with client(producer="a", timeout_s=1.0, batch_events=1, window=3) as (cluster, log):
        await log.append(event(0), sequence=0)
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:
            given_up = partial(log.append_batch, batch(1), first_sequence=1)
            nursery.start_soon(refused, given_up, OperationTimeout)
            await trio.sleep(0.5)
            behind_it = partial(log.append_batch, batch(2), first_sequence=2)
            nursery.start_soon(refused, behind_it, OutOfSequence)
            for number in (3, 4, 5, 6, 7):
                await trio.sleep(0.01)
                nursery.start_soon(log.append_batch, batch(number))
            await trio.sleep(0.4)
            cluster.nodes[1].script = None
        assert cluster.log.ids() == ["0", "3", "4", "5", "6", "7"]


@pytest.mark.parametrize("session", [False, True])
async def test_what_is_refused_for_good_is_not_sent_once_more(session: bool) -> None:
    async with client(batch_events=1, producer_session=session) as (cluster, log):
        await log.append(event(0))
        node = cluster.nodes[1]
        node.script = swallow
        async with trio.open_nursery() as nursery:
            call = log.append_batch if session else log.append_many
            wanted = batch(1) if session else [event(1)]
            nursery.start_soon(refused, partial(call, wanted), WindowFull)  # type: ignore[arg-type]
            await trio.sleep(0.1)
            late = Refused(node.appends[-1].request_id, WindowFull.code, "full")
            await cluster.elect(0)
            await cluster.elect(1)
            await trio.sleep(0.1)
            node.script = None
            for connection in list(node.connections):
                await node.send(connection, late)
            await trio.testing.wait_all_tasks_blocked()
        assert cluster.log.ids() == ["0"]


@pytest.mark.parametrize("others", [0, 3])
async def test_a_number_of_a_session_that_the_log_has_forgotten_is_of_no_use_in_the_next(others: int) -> None:
    def forget_after_one(node: FakeNode, message: Message) -> Reply:
        if not isinstance(message, Append) or len(node.appends) == 2:
            return node.answer(message)
        cluster.sessions.clear()
        node.script = None
        return Refused(message.request_id, LeadershipLost.code, "who knows")

    async with client(producer_session=True, batch_events=1) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = forget_after_one
        with pytest.raises(UnknownProducer):
            await log.append_many([event(1), event(2)])
        for number in range(10, 10 + others):
            await log.append(event(number))
        (ack,) = await log.append_many([event(1)])
        assert ack.offset == cluster.log.ids().index("1")


async def test_a_part_that_waits_with_a_number_of_a_forgotten_session_gets_the_next_one() -> None:
    async with client(producer_session=True, batch_events=1, window=1) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = store_and_say_nothing
        with trio.move_on_after(0.1):
            await log.append(event(1))
        cluster.nodes[1].script = swallow
        await trio.sleep(0.3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, partial(log.append_batch, batch(2)), UnknownProducer)
            await trio.sleep(0.1)
            nursery.start_soon(log.append_batch, batch(1, 3))
            await trio.sleep(0.1)
            cluster.sessions.clear()
            cluster.nodes[1].script = None
            await cluster.nodes[1].kill()
            cluster.nodes[1].up = True
            await cluster.elect(2)
        assert cluster.log.ids() == ["0", "1", "3"]


async def test_a_batch_of_which_a_part_is_stored_is_not_called_certainly_not_done() -> None:
    sent: list[None] = []
    async with client(producer_session=True, batch_events=1) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = store_and_say_nothing
        with trio.move_on_after(0.1):
            await log.append(event(1))
        cluster.nodes[1].script = full_from(2)
        with pytest.raises(WindowFull) as told:
            await log.append_batch(batch(5, 1, 6), on_sent=lambda: sent.append(None))
        assert not told.value.definite
        assert cluster.log.ids() == ["0", "1", "5"]
        assert len(sent) == 1
