"""A client of several partitions: each event goes to the one that owns its source, and comes back from it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from esnode.client import Ack, Log, StoredEvent, connect
from esnode.dedup.batch import Batch, OffsetRange
from esnode.errors import (
    InvalidRequest,
    Moved,
    NoQuorum,
    PartitionNeeded,
    UnknownPartition,
    Unreachable,
)
from esnode.events import make_batch
from esnode.messages import Append, Refused
from esnode.ring import Ring
from esnode.wire import Message
from tests.fake_cluster import FakeNode, Reply
from tests.fake_partitions import FakePartitions

pytestmark = pytest.mark.usefixtures("autojump_clock")


def sources_of(partitions: int, each: int = 1) -> list[str]:
    """Sources of partition 0, then of 1, and so on: `each` of every partition."""
    ring = Ring(1, range(partitions))
    found: dict[int, list[str]] = {partition: [] for partition in range(partitions)}
    number = 0
    while any(len(sources) < each for sources in found.values()):
        source = f"/s{number}"
        found[ring.owner_of(source)].append(source)
        number += 1
    return [source for partition in found for source in found[partition][:each]]


ZERO, ONE, TWO, THREE = FOUR = sources_of(4)


def event(source: str, number: int) -> dict[str, Any]:
    return {"id": str(number), "source": source, "type": "t"}


@asynccontextmanager
async def client(partitions: int = 4, **settings: Any) -> AsyncIterator[tuple[FakePartitions, Log]]:
    async with trio.open_nursery() as nursery:
        fake = FakePartitions(nursery, partitions)
        async with connect(fake.addresses, dial=fake.dial, **settings) as log:
            yield fake, log
        nursery.cancel_scope.cancel()


def stored(fake: FakePartitions) -> list[list[str]]:
    """The ids of each partition."""
    return [part.log.ids() for part in fake.parts]


# --- routing ------------------------------------------------------------------------------------


async def test_an_event_is_in_the_partition_of_its_source_and_its_ack_says_which() -> None:
    async with client() as (fake, log):
        for number, source in enumerate(FOUR):
            assert await log.append(event(source, number)) == Ack(0, False, number)
        assert stored(fake) == [["0"], ["1"], ["2"], ["3"]]
        assert log.partitions == (0, 1, 2, 3)
        assert log.leader_ids == {0: 1, 1: 2, 2: 3, 3: 1}


async def test_an_event_sent_twice_is_stored_once_by_its_partition() -> None:
    async with client() as (fake, log):
        for _ in range(2):
            for number, source in enumerate(FOUR):
                await log.append(event(source, number))
        assert stored(fake) == [["0"], ["1"], ["2"], ["3"]]
        assert await log.append(event(THREE, 3)) == Ack(0, True, 3)


async def test_single_events_share_a_batch_with_those_of_their_partition() -> None:
    async with client(batch_events=64) as (fake, log), trio.open_nursery() as nursery:
        await log.append(event(ZERO, 100))
        for number in range(40):
            nursery.start_soon(log.append, event(FOUR[number % 4], number))
    counts = [[append.batch.count for append in sent(part.nodes)] for part in fake.parts]
    assert counts == [[1, 10], [10], [10], [10]]


def sent(nodes: dict[int, FakeNode]) -> list[Append]:
    return [append for node in nodes.values() for append in node.appends]


async def test_many_events_are_cut_by_partition_and_acked_in_their_order() -> None:
    async with client(batch_events=3) as (fake, log):
        acks = await log.append_many([event(FOUR[n % 2], n) for n in range(10)])
        assert acks == [Ack(n // 2, False, n % 2) for n in range(10)]
        assert stored(fake)[:2] == [["0", "2", "4", "6", "8"], ["1", "3", "5", "7", "9"]]
        assert [append.batch.count for append in sent(fake.parts[0].nodes)] == [3, 2]


async def test_a_batch_of_one_partition_goes_there_as_it_is_and_one_of_several_is_split() -> None:
    async with client() as (_, log):
        whole = await log.append_batch(make_batch([event(TWO, 0), event(TWO, 1)]))
        assert whole.placed_ranges == [(2, OffsetRange(0, 1)), (2, OffsetRange(1, 1))]
        mixed = await log.append_batch(
            make_batch([event(ZERO, 2), event(TWO, 1), event(ZERO, 4), event(TWO, 0)])
        )
        assert mixed.placed_ranges == [
            (0, OffsetRange(0, 1)), (2, OffsetRange(1, 1)), (0, OffsetRange(1, 1)), (2, OffsetRange(0, 1)),
        ]  # fmt: skip
        assert mixed.duplicates == 2


async def test_a_batch_is_noted_as_sent_once_however_many_parts_it_has() -> None:
    noted: list[bool] = []
    async with client() as (_, log):
        batch = make_batch([event(source, 1) for source in FOUR])
        await log.append_batch(batch, on_sent=lambda: noted.append(True))
    assert noted == [True]


async def test_events_of_a_source_keep_the_order_of_the_calls_made_before_anything_is_known() -> None:
    async with client(batch_events=1) as (fake, log), trio.open_nursery() as nursery:
        started: list[int] = []

        async def one(number: int) -> None:
            started.append(number)
            await log.append(event(ONE, number))

        for number in range(30):
            nursery.start_soon(one, number)
    assert fake.parts[1].log.ids() == [str(number) for number in started]


async def test_a_partition_without_a_leader_holds_up_no_other() -> None:
    async with client(timeout_s=2) as (fake, log):
        await log.append(event(ZERO, 0))
        await fake.parts[1].elect(0)
        with pytest.raises(NoQuorum) as late:
            await log.append(event(ONE, 1))
        assert late.value.definite
        assert await log.append(event(TWO, 2)) == Ack(0, False, 2)
        await fake.parts[1].elect(3)
        assert await log.append(event(ONE, 1)) == Ack(0, False, 1)


async def test_a_part_that_is_refused_makes_the_whole_indefinite_if_another_is_stored() -> None:
    def refuse(_node: FakeNode, message: Message) -> Reply:
        assert isinstance(message, Append)
        return Refused(message.request_id, InvalidRequest.code, "no")

    async with client() as (fake, log):
        await log.append(event(ONE, 0))
        fake.parts[1].nodes[2].script = refuse
        with pytest.raises(InvalidRequest) as refused:
            await log.append_batch(make_batch([event(ZERO, 1), event(ONE, 2)]))
        assert not refused.value.definite
        with pytest.raises(InvalidRequest) as refused:
            await log.append_batch(make_batch([event(ONE, 3)]))
        assert refused.value.definite
        assert stored(fake)[0] == ["1"]


async def test_a_client_of_one_partition_is_told_that_a_source_is_not_of_it() -> None:
    def check(node: FakeNode, message: Message) -> Reply:
        if isinstance(message, Append) and Ring(1, range(4)).owner(_token(message.batch)) != 2:
            return Refused(message.request_id, Moved.code, "the source belongs to partition 1")
        return node.answer(message)

    async with client(partition=2) as (fake, log):
        fake.parts[2].nodes[3].script = check
        assert await log.append(event(TWO, 0)) == Ack(0, False, 2)
        with pytest.raises(Moved):
            await log.append(event(ONE, 1))
        assert stored(fake) == [[], [], ["0"], []]


def _token(batch: Batch) -> int:
    return int.from_bytes(batch.keys[:4])


async def test_nobody_who_answers_is_an_error_in_time() -> None:
    async with client(timeout_s=1) as (fake, log):
        for part in fake.parts:
            for node in part.nodes.values():
                await node.kill()
        fake.is_down = True
        with pytest.raises(Unreachable):
            await log.append(event(ONE, 1))


# --- sessions -----------------------------------------------------------------------------------


async def test_each_partition_has_a_producer_session_of_its_own() -> None:
    async with client(producer="p") as (fake, log):
        for number in range(8):
            await log.append(event(FOUR[number % 2], number))
        assert [len(part.sessions) for part in fake.parts[:2]] == [1, 1]
        assert (await log.producer_state(partition=1)).name == "p"
        with pytest.raises(PartitionNeeded):
            await log.producer_state()
        with pytest.raises(InvalidRequest, match="numbers its own"):
            await log.append_many([event(ZERO, 8), event(ONE, 9)], first_sequence=0)


# --- reading ------------------------------------------------------------------------------------


async def test_what_is_about_one_log_wants_its_number() -> None:
    async with client() as (_, log):
        await log.append(event(ONE, 7))
        with pytest.raises(PartitionNeeded):
            await log.read(0)
        with pytest.raises(UnknownPartition):
            await log.read(0, partition=4)
        (read,) = await log.read(0, partition=1)
        assert (read.partition, read.event["id"]) == (1, "7")
        with pytest.raises(PartitionNeeded):
            async for _ in log.subscribe(0):
                pass
        async for one in log.subscribe(0, partition=1):
            assert one == read
            break


async def test_the_state_of_an_event_is_asked_of_its_partition() -> None:
    async with client() as (_, log):
        await log.append(event(THREE, 7))
        assert (await log.explain(THREE, "7")).offset == 0
        assert (await log.explain(TWO, "7")).offset is None


async def test_all_partitions_are_followed_at_once_each_in_order() -> None:
    async with client() as (_, log):
        await log.append_many([event(FOUR[n % 4], n) for n in range(20)])
        seen: list[StoredEvent] = []
        following = log.subscribe_all()
        async for one in following:
            seen.append(one)
            if len(seen) == 20:
                break
        for partition in range(4):
            numbers = [int(one.event["id"]) for one in seen if one.partition == partition]
            assert numbers == list(range(partition, 20, 4))
        assert following.next_offsets == {0: 5, 1: 5, 2: 5, 3: 5}
        await following.aclose()
        await log.append(event(TWO, 20))
        again = await anext(log.subscribe_all(following.next_offsets))
        assert (again.partition, again.offset, again.event["id"]) == (2, 5, "20")
