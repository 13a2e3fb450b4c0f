"""Producer sessions: numbers without gaps, what happens when there is one, and going on after a restart."""

from functools import partial

import pytest
import trio
import trio.testing

from esnode.client import Ack, Log, ProducerState, connect
from esnode.errors import (
    Busy,
    ConnectionLost,
    EventStreamError,
    InvalidRequest,
    LeadershipLost,
    OperationTimeout,
    OutOfSequence,
    ProducerFenced,
    ProducersFull,
    UnknownProducer,
    WindowFull,
)
from esnode.messages import Append, OpenProducerSession, Refused
from esnode.wire import Message
from tests.appending import batch, client, collect, collect_batches, event, refuse_once, running, swallow
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


# === what was given up =======================================================================


def store_and_say_nothing(node: FakeNode, message: Message) -> Reply:
    """A node whose answers to appends are lost."""
    answer = node.answer(message)
    return None if isinstance(message, Append) else answer


async def test_what_was_given_up_and_is_in_the_log_is_known_for_ever_when_it_is_sent_again() -> None:
    """The window is over when the application sends it again, as it is told to."""
    async with client(producer_session=True, timeout_s=1.0, batch_ms=0) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = store_and_say_nothing
        with pytest.raises(OperationTimeout):
            await log.append(event(1))
        with pytest.raises(OperationTimeout):
            await log.append_batch(batch(2, 3))
        cluster.nodes[1].script = None
        cluster.log.forget_keys()
        assert (await log.append(event(1))).offset == 1
        assert (await log.append_batch(batch(2, 3))).duplicates == 2
        assert [ack.offset for ack in await log.append_many([event(n) for n in (3, 1, 4, 2, 5)])] == [
            3,
            1,
            4,
            2,
            5,
        ]
        assert cluster.log.ids() == ["0", "1", "2", "3", "4", "5"]
        assert cluster.producers == 1


async def test_an_event_that_was_given_up_in_a_batch_that_others_wait_for_keeps_its_number() -> None:
    async with client(producer_session=True, batch_events=3) as (cluster, log):
        cluster.nodes[1].script = store_and_say_nothing
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.1):
                async with trio.open_nursery() as impatient:
                    collect(impatient, log, 1, 2)
                    acks = collect(nursery, log, 0)
            cluster.log.forget_keys()
            again = collect(nursery, log, 1)  # joins those who wait
            await trio.sleep(0.1)
            cluster.nodes[1].script = None
            await cluster.nodes[1].kill()
            await cluster.elect(2)
        assert len(cluster.nodes[2].appends) == 1
        cluster.log.forget_keys()
        acks |= again | dict(zip((2, 3), await log.append_many([event(2), event(3)]), strict=True))
        assert len(cluster.log.ids()) == 4
        assert {number: cluster.log.ids()[ack.offset] for number, ack in acks.items()} == {
            0: "0",
            1: "1",
            2: "2",
            3: "3",
        }


async def test_a_batch_that_is_never_answered_is_given_up_though_those_who_left_it_come_back() -> None:
    """They come back at different times, so that never all of them have left it."""

    def swallow_first(node: FakeNode, message: Message) -> Reply:
        return swallow(node, message) if len(node.appends) == 1 else node.answer(message)

    async with client(producer_session=True, batch_events=2, timeout_s=1.0) as (cluster, log):
        cluster.nodes[1].script = swallow_first
        acks: dict[int, Ack] = {}

        async def insist(number: int, pause_s: float) -> None:
            while number not in acks:
                with trio.move_on_after(pause_s):
                    acks[number] = await log.append(event(number))
                pause_s = 1.0

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(insist, 0, 0.2)
                nursery.start_soon(insist, 1, 0.6)
        assert {number: cluster.log.ids()[ack.offset] for number, ack in acks.items()} == {0: "0", 1: "1"}
        assert sorted(cluster.log.ids()) == ["0", "1"]


async def test_what_was_acked_and_not_heard_of_is_known_when_it_is_sent_again() -> None:
    """Of several batches one is given up: the application is told to send all of them again."""

    def first_only(node: FakeNode, message: Message) -> Reply:
        return swallow(node, message) if cluster.log.ids() else node.answer(message)

    async with client(producer_session=True, batch_events=2, timeout_s=1.0) as (cluster, log):
        cluster.nodes[1].script = first_only
        with pytest.raises(OperationTimeout):
            await log.append_many([event(n) for n in range(4)])
        assert cluster.log.ids() == ["0", "1"]
        cluster.nodes[1].script = None
        cluster.log.forget_keys()
        assert [ack.offset for ack in await log.append_many([event(n) for n in range(4)])] == [0, 1, 2, 3]


async def test_a_gap_left_by_what_was_given_up_and_is_not_in_the_log_is_closed() -> None:
    async with client(producer_session=True, timeout_s=1.0) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = swallow
        with pytest.raises(OperationTimeout):
            await log.append(event(1))
        cluster.nodes[1].script = None
        assert (await log.append(event(2))).offset == 1
        assert stamps(cluster.nodes[1])[-1] == (1, 1, 1)
        assert cluster.sessions[1].epoch == 2
        assert (await log.append(event(1))).offset == 2
        assert cluster.log.ids() == ["0", "2", "1"]


async def test_what_waits_behind_something_given_up_is_stored_once_and_in_order() -> None:
    async with client(producer_session=True) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = swallow
        with trio.move_on_after(0.1):
            async with trio.open_nursery() as nursery:
                collect_batches(nursery, log, 1)
                await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 2, 3, 4)
            await trio.sleep(0.1)
            cluster.nodes[1].script = None
            await cluster.nodes[1].kill()
            await cluster.elect(2)
        assert {number: ack.ranges[0].base_offset for number, ack in acks.items()} == {2: 1, 3: 2, 4: 3}
        assert stamps(cluster.nodes[2]) == [(1, 1, 1), (1, 2, 1), (1, 3, 1)]
        assert cluster.producers == 1


async def test_events_that_were_given_up_and_come_again_at_once_keep_their_order() -> None:
    async with client(producer_session=True, batch_events=1) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = swallow
        with trio.move_on_after(0.1):
            async with trio.open_nursery() as nursery:
                collect_batches(nursery, log, 1, 2, 3, 4, 5)
        cluster.nodes[1].script = hold_openings
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 5, 4, 3, 2, 1)
            await trio.sleep(0.1)
            cluster.nodes[1].script = None
            await cluster.nodes[1].kill()
            await cluster.elect(2)
        assert {number: ack.ranges[0].base_offset for number, ack in acks.items()} == {
            5: 1,
            4: 2,
            3: 3,
            2: 4,
            1: 5,
        }


async def test_nothing_overtakes_a_call_that_waits_for_what_was_given_up() -> None:
    async with client(producer_session=True, batch_events=2) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = swallow
        with trio.move_on_after(0.1):
            await log.append(event(1))
        cluster.nodes[1].script = hold_openings
        async with trio.open_nursery() as nursery:
            for call in (
                partial(log.append_batch, batch(1, 2)),
                partial(log.append_many, [event(3)]),
                partial(log.append, event(4)),
                partial(log.append_batch, batch(5)),
            ):
                nursery.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
            cluster.nodes[1].script = None
            await cluster.nodes[1].kill()
            await cluster.elect(2)
        assert cluster.log.ids() == ["0", "1", "2", "3", "4", "5"]


async def test_nothing_gets_between_the_parts_of_a_batch_of_which_some_was_given_up() -> None:
    async with client(producer_session=True, window=1) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = store_and_say_nothing
        with trio.move_on_after(0.1):
            await log.append(event(1))
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:
            for numbers in ((2,), (1, 3), (4,)):
                nursery.start_soon(log.append_batch, batch(*numbers))
                await trio.testing.wait_all_tasks_blocked()
            cluster.nodes[1].script = None
            await cluster.nodes[1].kill()
            await cluster.elect(2)
        assert cluster.log.ids() == ["0", "1", "2", "3", "4"]


def hold_openings(node: FakeNode, message: Message) -> Reply:
    """A node that does not say what became of a session."""
    return None if isinstance(message, OpenProducerSession) else node.answer(message)


async def test_a_batch_that_is_refused_for_good_leaves_no_gap() -> None:
    async with client(producer_session=True) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = refuse_once(WindowFull)
        with pytest.raises(WindowFull):
            await log.append(event(1))
        cluster.nodes[1].script = None
        assert (await log.append(event(2))).offset == 1
        assert stamps(cluster.nodes[1])[-1] == (1, 1, 1)


async def test_a_session_that_is_refused_again_and_again_is_opened_after_a_pause_each_time() -> None:
    async with client(producer_session=True) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = refuse_once(OutOfSequence)
        async with trio.open_nursery() as nursery:
            acks = collect_batches(nursery, log, 1, 2)
            await trio.sleep(0.35)
            assert 3 <= cluster.sessions[1].epoch <= 6
            cluster.nodes[1].script = None
        assert acks.keys() == {1, 2}
        assert cluster.producers == 1


# === a session that is over ==================================================================


async def refused(log: Log, number: int, found: dict[int, Exception]) -> None:
    """Append an event; the error is wanted."""
    try:
        await log.append(event(number))
    except EventStreamError as error:
        found[number] = error


async def test_a_session_that_the_log_has_forgotten_is_told_to_those_who_may_be_stored() -> None:
    errors: dict[int, Exception] = {}
    async with client(producer_session=True, batch_events=1) as (cluster, log):
        await log.append(event(0))
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, log, 1, errors)
            await trio.sleep(0.1)
            cluster.sessions.clear()
            cluster.nodes[1].script = None
            assert (await log.append(event(2))).offset == 1, "certainly not stored: it goes on"
        assert isinstance(errors[1], UnknownProducer)
        assert not errors[1].definite
        assert stamps(cluster.nodes[1])[-1] == (2, 0, 1)


async def test_a_list_whose_beginning_went_with_its_session_is_not_gone_on_with() -> None:
    async with client(producer_session=True, batch_events=1, window=4) as (cluster, log):
        await log.append(event(0))
        doubtful = 0

        def lose_four(node: FakeNode, message: Message) -> Reply:
            nonlocal doubtful
            if not isinstance(message, Append):
                return None
            doubtful += 1
            if doubtful == 4:
                cluster.sessions.clear()
                node.script = None
            return Refused(message.request_id, LeadershipLost.code, "who knows")

        cluster.nodes[1].script = lose_four
        with pytest.raises(UnknownProducer):
            await log.append_many([event(number) for number in range(1, 13)])
        await log.append(event(20))
        assert cluster.log.ids() == [event(0)["id"], event(20)["id"]]


async def test_the_older_holder_of_a_name_is_fenced_for_good_and_told_so() -> None:
    errors: dict[int, Exception] = {}
    async with client(producer="billing-1", batch_events=1) as (cluster, older):
        await older.append(event(0))
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, older, 1, errors)
            await trio.sleep(0.1)
            cluster.nodes[1].script = None
            async with connect(cluster.addresses, dial=cluster.dial, producer="billing-1") as newer:
                assert (await newer.append(event(2))).offset == 1
                await refused(older, 3, errors)
                await refused(older, 4, errors)
                assert (await newer.append(event(5))).offset == 2
        assert {number: type(error) for number, error in errors.items()} == dict.fromkeys(
            (1, 3, 4), ProducerFenced
        )
        definite = {number for number, error in errors.items() if getattr(error, "definite", False)}
        assert definite == {3, 4}, "the first was sent, and nobody said what became of it"
        with pytest.raises(ProducerFenced):
            await older.producer_state()
        assert cluster.log.ids() == ["0", "2", "5"]
        assert cluster.sessions[1].epoch == 2, "the older one has not opened it again"


async def test_too_many_names_are_told_at_once() -> None:
    def script(node: FakeNode, message: Message) -> Reply:
        if isinstance(message, OpenProducerSession):
            return Refused(message.request_id, ProducersFull.code, "full")
        return node.answer(message)

    async with running() as cluster:
        cluster.nodes[1].script = script
        async with connect(cluster.addresses, dial=cluster.dial, producer="a") as log:
            for call in (log.producer_state, lambda: log.append(event(1))):
                with pytest.raises(ProducersFull):
                    await call()


async def test_whoever_waits_for_a_session_hears_that_the_log_was_closed() -> None:
    async with running() as cluster, trio.open_nursery() as nursery:
        await cluster.elect(0)

        async def wait(log: Log) -> None:
            with pytest.raises(ConnectionLost):
                await log.producer_state()

        async with connect(cluster.addresses, dial=cluster.dial, producer="a") as log:
            nursery.start_soon(wait, log)
            await trio.testing.wait_all_tasks_blocked(0.01)


# === a name, and numbers of the application ==================================================


async def test_an_application_that_was_restarted_goes_on_where_the_log_is() -> None:
    async with running() as cluster:
        async with connect(cluster.addresses, dial=cluster.dial, producer="billing-1") as log:
            assert await log.producer_state() == ProducerState("billing-1", 1, 1, None, None)
            await log.append_many([event(n) for n in range(5)], first_sequence=0)
        cluster.log.forget_keys()
        async with connect(cluster.addresses, dial=cluster.dial, producer="billing-1") as log:
            state = await log.producer_state()
            assert state == ProducerState("billing-1", 1, 2, 4, 4)
            assert state.next_sequence == 5
            again = await log.append_batch(batch(2, 3, 4), first_sequence=2)
            assert (again.duplicates, [part.base_offset for part in again.ranges]) == (3, [2, 3, 4])
            async with trio.open_nursery() as nursery:
                for number in range(5, 9):
                    nursery.start_soon(append_numbered, log, number)
                    await trio.lowlevel.checkpoint()
            assert (await log.append(event(9))).offset == 9, "without a number it gets the next one"
        assert cluster.log.ids() == [str(n) for n in range(10)]


async def append_numbered(log: Log, number: int) -> None:
    assert (await log.append(event(number), sequence=number)).offset == number


async def test_single_appends_whose_numbers_follow_each_other_leave_together() -> None:
    async with client(producer="a") as (cluster, log):
        await log.producer_state()
        async with trio.open_nursery() as nursery:
            for number in (0, 1, 2, 1, 2, 3):
                nursery.start_soon(append_numbered, log, number)
                await trio.lowlevel.checkpoint()
        assert stamps(cluster.nodes[1]) == [(1, 0, 3), (1, 1, 3)]
        assert cluster.log.ids() == ["0", "1", "2", "3"]


async def test_a_number_that_leaves_a_gap_is_refused_before_it_is_sent() -> None:
    async with client(producer="a") as (cluster, log):
        await log.append(event(0), sequence=0)
        sent = len(cluster.nodes[1].appends)
        with pytest.raises(OutOfSequence, match="number 2 cannot be sent before number 1") as caught:
            await log.append(event(2), sequence=2)
        assert caught.value.definite
        assert len(cluster.nodes[1].appends) == sent
        assert (await log.append(event(1), sequence=1)).offset == 1


async def test_a_number_of_the_application_behind_one_given_up_and_not_stored_is_refused() -> None:
    async with client(producer="a", timeout_s=1.0, batch_events=1) as (cluster, log):
        await log.append(event(0), sequence=0)
        cluster.nodes[1].script = swallow
        async with trio.open_nursery() as nursery:
            nursery.start_soon(times_out, log, 1)
            await trio.sleep(0.5)
            nursery.start_soon(leaves_a_gap, log, 2)
            await trio.sleep(0.4)
            cluster.nodes[1].script = None
        for number in (1, 2):
            await append_numbered(log, number)
        assert cluster.log.ids() == ["0", "1", "2"]


async def times_out(log: Log, number: int) -> None:
    with pytest.raises(OperationTimeout):
        await log.append(event(number), sequence=number)


async def leaves_a_gap(log: Log, number: int) -> None:
    with pytest.raises(OutOfSequence) as caught:
        await log.append(event(number), sequence=number)
    assert caught.value.definite


async def test_numbers_without_a_session_and_names_that_are_none_are_refused() -> None:
    async with client() as (_, log):
        for call in (
            lambda: log.append(event(1), sequence=1),
            lambda: log.append_many([event(1)], first_sequence=1),
            lambda: log.append_batch(batch(1), first_sequence=1),
            log.producer_state,
        ):
            with pytest.raises(InvalidRequest, match="producer=NAME"):
                await call()
    async with client(producer="a") as (_, log):
        for number in (-1, 2**56):
            with pytest.raises(InvalidRequest, match="MAX_INDEX"):
                await log.append(event(1), sequence=number)
    for name in ("", "a" * 256, "\u00e9" * 128):
        with pytest.raises(InvalidRequest, match="MAX_PRODUCER_NAME_BYTES"):
            connect(["node:1"], producer=name)
