"""The events of several partitions: up to the ends of their logs as they were at the beginning, or on and on.

Decides their order. Up to the end, one partition is read after the other, as they owned their sources
(`tenures.py`): two readings of the same logs give the same, and the events of each source are in order,
whatever partitions it was in. Followed, what comes first is given first; of one source, see
`sourcefollowing.py`. What a reader has seen for certain is as in `logreading.py`. Never prints. Called by
`esctl consume` and `export`.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol

import trio

from esctl.clusters.state import Cluster
from esctl.query.eachpartition import of_each
from esctl.query.logreading import (
    Bounds,
    Reading,
    ReadRequest,
    Staleness,
    bounds_of,
    reading_of,
    subscription,
)
from esctl.query.sourcefollowing import SourceFollower
from esctl.query.tenures import RingTurn, Tenure, agree, in_order, next_owner, tenures_of, turn_at, turns_of
from esnode.client import BatchSubscription, MergedBatches, StoredBatch, connect, connect_node

SETTLE_S: Final = 2.0
"""How long partitions may go by different rings before they are read as they are: a switch takes 0.1 s."""
SETTLE_ROUND_S: Final = 0.05


class BatchSource(Protocol):
    """What is read, a batch at a time."""

    async def next_batch(self) -> StoredBatch | None:
        """The next batch; None at the end."""


@dataclass(frozen=True, slots=True)
class ReadRange:
    """What there is to read of a partition, and by which rings it went."""

    bounds: Bounds
    turns: Sequence[RingTurn]

    @property
    def turn(self) -> RingTurn:
        """By which ring it went at the end."""
        return turn_at(self.turns, self.bounds.next_offset)


class OneAfterTheOther:
    """Each tenure up to its end. To be closed."""

    def __init__(
        self,
        cluster: Cluster,
        wanted: ReadRequest,
        tenures: Iterable[Tenure],
        ranges: Mapping[int, ReadRange],
    ) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._unread = deque(tenures)
        self._ranges = ranges
        self._open = AsyncExitStack()
        self._source: Reading | None = None

    async def next_batch(self) -> StoredBatch | None:
        """The next batch; None at the end of the last one. Raises as `reading` does."""
        while True:
            if self._source is not None and (batch := await self._source.next_batch()) is not None:
                return batch
            await self.aclose()
            if not self._unread:
                return None
            tenure = self._unread.popleft()
            wanted = replace(self._wanted, partition=tenure.partition, max_events=None, follow=False)
            node = self._ranges[tenure.partition].bounds.node
            bounds = Bounds(tenure.begin, tenure.end, node)
            self._source = await self._open.enter_async_context(reading_of(self._cluster, wanted, bounds))

    async def aclose(self) -> None:
        """Close what is open."""
        self._source = None
        await self._open.aclose()


class Following:
    """All partitions as they grow."""

    def __init__(self, batches: MergedBatches) -> None:
        self._batches = batches

    async def next_batch(self) -> StoredBatch | None:
        """The next batch of any partition."""
        return await anext(self._batches)


class UntilThenOn:
    """What there is now, then what comes."""

    def __init__(self, now: OneAfterTheOther, later: SourceFollower) -> None:
        self._now: OneAfterTheOther | None = now
        self._later = later

    async def next_batch(self) -> StoredBatch | None:
        """The next batch; there is always one, some time."""
        if self._now is not None:
            if (batch := await self._now.next_batch()) is not None:
                return batch
            self._now = None
        return await self._later.next_batch()


@asynccontextmanager
async def reading_all(
    cluster: Cluster,
    wanted: ReadRequest,
    stale: Callable[[Staleness], None],
    source: str | None = None,
    begins: Mapping[int, int] = MappingProxyType({}),
) -> AsyncIterator[tuple[BatchSource, Mapping[int, Bounds]]]:
    """Open all partitions, with what there is to read of each; `stale` is told how old an answer may be.

    With a `source`, what may have its events is read, in their order, and its partitions are given; the
    other events there come, too. An offset in `wanted` is one of the partition that owns it now; `begins` has
    others, by partition. Raises as `reading` does, with the partition in the message; then nothing was read
    of any.
    """
    ranges = await _ranges(cluster, wanted, stale, source, begins)
    tenures = in_order(
        (
            tenure
            for partition, one in ranges.items()
            for tenure in tenures_of(partition, one.turns, one.bounds.begin, one.bounds.next_offset)
        ),
        source,
    )
    bounds = {partition: one.bounds for partition, one in ranges.items()}
    starts = {partition: one.begin for partition, one in bounds.items()}
    async with AsyncExitStack() as stack:
        now = OneAfterTheOther(cluster, wanted, tenures, ranges)
        stack.push_async_callback(now.aclose)
        if source is not None:
            owner = next_owner({partition: one.turn for partition, one in ranges.items()}, source)
            own = {one.partition for one in tenures} | {owner}
            told = {partition: one for partition, one in bounds.items() if partition in own}
            if not wanted.follow:
                yield now, told
                return
            at = {
                partition: (max(one.bounds.begin, one.bounds.next_offset), one.turn)
                for partition, one in ranges.items()
            }
            later = SourceFollower(cluster, wanted.node, source, at)
            stack.push_async_callback(later.aclose)
            yield UntilThenOn(now, later), told
        elif not wanted.follow:
            yield now, bounds
        elif wanted.node is None:
            log = await stack.enter_async_context(connect(cluster.addresses, cluster=cluster.identity))
            yield Following(log.subscribe_all_batches(starts)), bounds
        else:
            async with trio.open_nursery() as nursery:
                async with MergedBatches(starts, _subscriber(cluster, wanted), nursery) as merged:
                    yield Following(merged), bounds
                nursery.cancel_scope.cancel()


async def _ranges(
    cluster: Cluster,
    wanted: ReadRequest,
    stale: Callable[[Staleness], None],
    source: str | None,
    begins: Mapping[int, int],
) -> dict[int, ReadRange]:
    """What there is of each partition; with a `source`, an offset is one of the partition that owns it."""
    if source is None or wanted.from_offset is None:
        return await _settled(cluster, wanted, stale, begins)
    ends = await _settled(cluster, replace(wanted, from_offset=None, last=0), stale)
    owner = next_owner({partition: one.turn for partition, one in ends.items()}, source)
    where = owner if cluster.partitions > 1 else None
    return {**ends, owner: await _range(cluster, replace(wanted, partition=where), _calm)}


async def _settled(
    cluster: Cluster,
    wanted: ReadRequest,
    stale: Callable[[Staleness], None],
    begins: Mapping[int, int] = MappingProxyType({}),
) -> dict[int, ReadRange]:
    """The same, once all partitions go by one ring: else a source might have events at its new owner, and
    events before these that came to the old one only after it was asked."""
    told: dict[int | None, Staleness] = {}

    async def ask(partition: int | None) -> ReadRange:
        note, begin = partial(told.__setitem__, partition), begins.get(partition or 0, wanted.from_offset)
        return await _range(cluster, replace(wanted, partition=partition, from_offset=begin), note)

    give_up_at = trio.current_time() + SETTLE_S
    while True:
        ranges = await of_each(cluster, ask)
        if agree({number: one.turn for number, one in ranges.items()}) or trio.current_time() > give_up_at:
            for staleness in told.values():
                stale(staleness)
            return ranges
        await trio.sleep(SETTLE_ROUND_S)  # the partitions of a plan switch one after the other


async def _range(cluster: Cluster, wanted: ReadRequest, stale: Callable[[Staleness], None]) -> ReadRange:
    """Ask a partition where it begins and ends, then the node that said so by which rings it went."""
    bounds = await bounds_of(cluster, wanted, stale)
    link = connect_node(bounds.node.client, cluster=cluster.identity, partition=wanted.partition)
    async with link:
        return ReadRange(bounds, turns_of((await link.status()).get("ring", {})))


def _calm(_staleness: Staleness) -> None:
    """What a majority has confirmed is not stale."""


def _subscriber(
    cluster: Cluster, wanted: ReadRequest
) -> Callable[[Mapping[int, int]], Awaitable[dict[int, BatchSubscription]]]:
    """Opens a subscription of each partition, of the node that is wanted."""

    async def subscribe(begins: Mapping[int, int]) -> dict[int, BatchSubscription]:
        return {
            partition: subscription(cluster, replace(wanted, partition=partition), begin)
            for partition, begin in begins.items()
        }

    return subscribe
