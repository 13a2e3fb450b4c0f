"""A client whose ring changes: what is unanswered goes to the new owners, once and in order."""

import random
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from esnode.client import Ack, Log, connect
from esnode.dedup.batch import OffsetRange
from esnode.dedup.ownership import Adoption
from esnode.errors import EventStreamError, Moved, UnknownPartition
from esnode.events import make_batch
from esnode.messages import Append
from esnode.raft import ringpayload
from esnode.raft.entry import EntryKind
from esnode.ring import Ring
from esnode.wire import Message
from tests.client.test_client_partitions import client, event, sources_of, stored
from tests.fake_cluster import FakeNode, Reply
from tests.fake_partitions import FakePartitions

pytestmark = pytest.mark.usefixtures("autojump_clock")


def owner(source: str, partitions: int) -> int:
    return Ring(1, range(partitions)).owner_of(source)


SOURCES = sources_of(4, each=3)
MOVES = next(source for source in SOURCES if owner(source, 2) == 1)
"""A source that moves from partition 0 to 1 when there are two."""
STAYS = next(source for source in SOURCES if owner(source, 2) == 0)
NEXT_MOVES = next(source for source in SOURCES if owner(source, 2) == 0 and owner(source, 3) == 2)


async def test_a_client_learns_the_newer_ring_and_sends_to_the_new_owner() -> None:
    async with client(1) as (fake, log):
        assert await log.append(event(MOVES, 0)) == Ack(0, False, 0)
        await fake.fence(2)
        await fake.open()
        assert await log.append(event(MOVES, 1)) == Ack(0, False, 1)
        assert await log.append(event(STAYS, 2)) == Ack(1, False, 0)
        assert log.partitions == (0, 1)
        assert stored(fake) == [["0", "2"], ["1"]]
        assert await log.append(event(MOVES, 0)) == Ack(-1, True, 1)  # adopted, so it is known there


async def test_a_ring_that_is_older_than_the_known_one_is_not_believed() -> None:
    async with client(1) as (fake, log):
        await log.append(event(MOVES, 0))
        await fake.fence(2)
        await fake.open()
        await log.append(event(MOVES, 1))
        fake.parts[0].ring_version, fake.parts[0].partitions = 1, 1
        for node in fake.parts[0].nodes.values():
            await node.say_leader()
        assert await log.append(event(MOVES, 2)) == Ack(1, False, 1)


async def test_between_fence_and_opening_a_moving_source_waits_and_all_others_go_on() -> None:
    async with client(1) as (fake, log), trio.open_nursery() as nursery:
        await log.append(event(MOVES, 0))
        await fake.fence(2)
        nursery.start_soon(log.append, event(MOVES, 1))
        with trio.fail_after(1):
            await log.append(event(STAYS, 2))
        assert stored(fake) == [["0", "2"], []]
        await fake.open()
    assert stored(fake) == [["0", "2"], ["1"]]


async def test_what_is_refused_as_moved_to_the_end_is_certainly_not_stored() -> None:
    async with client(1, timeout_s=2) as (fake, log):
        await log.append(event(MOVES, 0))
        await fake.fence(2)
        with pytest.raises(Moved) as refused:
            await log.append(event(MOVES, 1))
        assert refused.value.definite
        await fake.open()
        await log.append(event(MOVES, 2))
        assert stored(fake) == [["0"], ["2"]]


async def test_a_batch_whose_sources_part_is_acked_in_its_places() -> None:
    async with client(1) as (fake, log), trio.open_nursery() as nursery:
        await log.append(event(STAYS, 0))
        for part in fake.parts:
            part.owns = lambda _batch: False  # the fence, of which the client has not heard
        acks: list[Any] = []

        async def append() -> None:
            batch = make_batch([event(MOVES, 1), event(STAYS, 2), event(MOVES, 3)])
            acks.append(await log.append_batch(batch))
            acks.append(await log.append_batch(make_batch([event(STAYS, 4)])))

        nursery.start_soon(append)
        await wait_all_tasks_blocked()
        await fake.fence(2)
        await fake.open()
    assert acks[0].placed_ranges == [(1, OffsetRange(0, 1)), (0, OffsetRange(1, 1)), (1, OffsetRange(1, 1))]
    assert stored(fake) == [["0", "2", "4"], ["1", "3"]]


async def test_single_events_that_shared_a_batch_are_each_acked_by_their_owner() -> None:
    async with client(1, batch_events=64) as (fake, log):
        await log.append(event(STAYS, 100))
        fake.parts[0].owns = lambda _batch: False
        acks: dict[int, Ack] = {}

        async def one(number: int) -> None:
            acks[number] = await log.append(event((MOVES, STAYS)[number % 2], number))

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(one, number)
            await wait_all_tasks_blocked()
            await fake.fence(2)
            await fake.open()
        for number, ack in acks.items():
            partition = 1 - number % 2
            assert (ack.partition, ack.duplicate) == (partition, False)
            assert fake.parts[partition].log.ids()[ack.offset] == str(number)


async def test_what_may_be_stored_by_the_old_owner_says_so_to_the_new_one() -> None:
    async with client(1) as (fake, log), trio.open_nursery() as nursery:
        await log.append(event(STAYS, 0))
        leader = fake.parts[0].nodes[1]
        arrived = trio.Event()

        def swallow(node: FakeNode, message: Message) -> Reply:
            if not isinstance(message, Append):
                return node.answer(message)
            arrived.set()
            return None

        leader.script = swallow
        nursery.start_soon(log.append, event(MOVES, 1))
        await arrived.wait()
        await fake.fence(2)
        await fake.open()
        await trio.sleep(0.1)
        assert not fake.parts[1].log.ids()  # it may be answered yet
        await leader.kill()
        await fake.parts[0].elect(2)
    (append,) = fake.parts[1].nodes[2].appends
    assert (append.batch.sent_after, append.batch.sent_to) == (1, 0)
    assert stored(fake) == [["0"], ["1"]]


@pytest.mark.parametrize("session", [False, True])
async def test_events_of_a_source_keep_their_order_over_a_move(session: bool) -> None:
    async with client(1, batch_events=1, window=8, producer_session=session) as (fake, log):
        await log.append(event(STAYS, 1000))
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(log.append, event(MOVES, number))
                await trio.lowlevel.checkpoint()
                if number == 30:
                    await fake.fence(2)
                if number == 45:
                    await fake.open()
    ids = [int(one) for part in stored(fake) for one in part]
    assert ids == [1000, *range(60)]
    assert len(stored(fake)[1]) > 15


async def test_a_call_that_is_given_up_while_it_waits_for_the_new_owner_is_not_stored() -> None:
    async with client(1) as (fake, log):
        await log.append(event(MOVES, 0))
        await fake.fence(2)
        with trio.move_on_after(1):
            await log.append(event(MOVES, 1))
        await fake.open()
        await log.append(event(MOVES, 2))
        assert stored(fake) == [["0"], ["2"]]


async def test_who_follows_all_partitions_follows_a_new_one_from_its_beginning() -> None:
    async with client(1) as (fake, log):
        following = log.subscribe_all()
        await log.append(event(MOVES, 0))
        assert (await anext(following)).partition == 0
        await fake.fence(2)
        await fake.open()
        await log.append(event(MOVES, 1))
        found = await anext(following)
        assert (found.partition, found.offset, found.event["id"]) == (1, 0, "1")
        assert following.next_offsets == {0: 1, 1: 1}


async def test_a_log_that_the_ring_has_lost_can_be_read_by_who_comes_later() -> None:
    async with client(2) as (fake, log):
        await log.append(event(MOVES, 0))
        await fake.fence(1)
        await fake.open()
        assert (await log.append(event(MOVES, 1))).partition == 0
        assert stored(fake) == [["1"], ["0"]]
        async with connect(fake.addresses, dial=fake.dial) as later:
            following = later.subscribe_all()
            found = [await anext(following) for _ in range(2)]
            assert sorted((one.partition, one.event["id"]) for one in found) == [(0, "1"), (1, "0")]
            assert (await later.append(event(MOVES, 2))).partition == 0
        async with connect(fake.addresses, dial=fake.dial) as later:
            assert [one.event["id"] for one in await later.read(0, partition=1)] == ["0"]
            with pytest.raises(UnknownPartition):
                await later.read(0, partition=2)


async def test_a_subscription_goes_past_adopted_keys_that_no_event_follows() -> None:
    """Else whoever reads up to the end of the log waits there for ever."""
    async with client(1) as (fake, log):
        await log.append(event(STAYS, 0))
        payload = ringpayload.pack(Adoption(2, 1, 0, 3, 0))
        fake.parts[0].log.add_entry(3, b"a" * 48, payload, 1, EntryKind.ADOPTION)
        async with log.subscribe_batches(0) as batches:
            with trio.fail_after(10):
                found = [await anext(batches) for _ in range(2)]
            assert [(one.offset, one.next_offset) for one in found] == [(0, 1), (4, 4)]
            assert batches.next_offset == 4


def lossy(rng: random.Random) -> Any:
    """A node that does not answer some appends, stored or not, and says of others that it is busy."""

    def script(node: FakeNode, message: Any) -> Any:
        answer = node.answer(message)
        return None if isinstance(message, Append) and rng.random() < 0.02 else answer

    return script


async def produce(log: Log, source: str, rng: random.Random, numbers: range, acks: list[Ack]) -> None:
    for number in numbers:
        while True:
            try:
                acks.append(await log.append(event(source, number)))
                break
            except EventStreamError:
                continue
        await trio.sleep(rng.expovariate(50))


async def grow(fake: FakePartitions, rng: random.Random) -> None:
    for partitions in (2, 3, 4):
        await trio.sleep(rng.uniform(0.2, 0.5))
        await fake.fence(partitions)
        for part in fake.parts[-1:]:
            for node in part.nodes.values():
                node.script = fake.parts[0].nodes[1].script
        await trio.sleep(rng.uniform(0, 0.2))
        await fake.open()
        await fake.parts[rng.randrange(partitions)].elect(rng.randrange(1, 4))


@pytest.mark.parametrize("seed", range(12))
async def test_no_growth_loses_repeats_or_misplaces_an_event(seed: int) -> None:
    rng = random.Random(seed)
    settings: dict[str, Any] = {"batch_events": rng.choice((1, 4, 64)), "window": rng.choice((1, 4, 64))}
    settings |= {"timeout_s": 3, "rng": rng, "producer_session": rng.random() < 0.3}
    async with client(1, **settings) as (fake, log):
        for node in fake.parts[0].nodes.values():
            node.script = lossy(rng)
        acks: dict[str, list[Ack]] = {source: [] for source in SOURCES}
        async with trio.open_nursery() as nursery:
            for source in SOURCES:
                nursery.start_soon(produce, log, source, rng, range(60), acks[source])
            nursery.start_soon(grow, fake, rng)
        for source in SOURCES:
            in_each = [found_in(fake, place, source) for place in range(4)]
            assert sorted(number for ids in in_each for number in ids) == list(range(60))
            assert all(ids == sorted(ids) for ids in in_each)
            assert len(acks[source]) == 60


def found_in(fake: FakePartitions, partition: int, source: str) -> list[int]:
    return [int(one["id"]) for one in fake.parts[partition].log.events() if one["source"] == source]
