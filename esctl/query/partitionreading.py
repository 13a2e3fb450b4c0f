"""The events of several partitions: up to the ends of their logs as they were at the beginning, or on and on.

Decides their order. Up to the end, one partition is read after the other, so that two readings of the same
logs give the same. Followed, what comes first is given first. In both, the events of a partition are in
order, and so are those of a source. What a reader has seen for certain is as in `logreading.py`.
Never prints. Called by `esctl consume`.
"""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Protocol

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
from esnode.client import BatchSubscription, MergedBatches, StoredBatch, connect


class BatchSource(Protocol):
    """What is read, a batch at a time."""

    async def next_batch(self) -> StoredBatch | None:
        """The next batch; None at the end."""


class OneAfterTheOther:
    """Each partition up to the end of its log. To be closed."""

    def __init__(self, cluster: Cluster, wanted: ReadRequest, bounds: Mapping[int, Bounds]) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._unread = deque(bounds.items())
        self._open = AsyncExitStack()
        self._source: Reading | None = None

    async def next_batch(self) -> StoredBatch | None:
        """The next batch; None at the end of the last partition. Raises as `reading` does."""
        while True:
            if self._source is not None and (batch := await self._source.next_batch()) is not None:
                return batch
            await self.aclose()
            if not self._unread:
                return None
            partition, bounds = self._unread.popleft()
            wanted = replace(self._wanted, partition=partition)
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


@asynccontextmanager
async def reading_all(
    cluster: Cluster, wanted: ReadRequest, stale: Callable[[Staleness], None]
) -> AsyncIterator[tuple[BatchSource, Mapping[int, Bounds]]]:
    """Open all partitions, with what there is to read of each; `stale` is told how old an answer may be.

    Raises as `reading` does, with the partition in the message; then nothing was read of any.
    """
    bounds = await of_each(
        cluster, lambda partition: bounds_of(cluster, replace(wanted, partition=partition), stale)
    )
    begins = {partition: one.begin for partition, one in bounds.items()}
    if not wanted.follow:
        one_after_the_other = OneAfterTheOther(cluster, wanted, bounds)
        try:
            yield one_after_the_other, bounds
        finally:
            await one_after_the_other.aclose()
    elif wanted.node is None:
        async with connect(cluster.addresses, cluster=cluster.identity) as log:
            yield Following(log.subscribe_all_batches(begins)), bounds
    else:
        async with trio.open_nursery() as nursery:
            async with MergedBatches(begins, _subscriber(cluster, wanted), nursery) as merged:
                yield Following(merged), bounds
            nursery.cancel_scope.cancel()


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
