"""Finds one event: by its offset, or by source and id through the deduplication table or the whole log.

The table knows an event for a bounded time; after that only the log itself can say. Never prints.
Called by `esctl event` and `esctl event dedup`.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from esctl.clusters.state import Cluster
from esctl.errors import EventNotFound
from esctl.query.barrier import LogEnd, confirmed_end
from esctl.query.logreading import ReadRequest, reading
from esctl.query.partitionreading import BatchSource, reading_all
from esctl.query.ringsurvey import owner_of
from esnode.client import KeyState, StoredEvent, connect
from esnode.dedup.batch import event_key, identity_of

ALL: Final = ReadRequest(None, None, follow=False, node=None)


async def at_offset(cluster: Cluster, offset: int, partition: int | None = None) -> StoredEvent | LogEnd:
    """The event at `offset`, or where the log ends when there is none yet; raises `OffsetOutOfRange`, and
    `EventNotFound` where the offset is that of a key that was adopted."""
    async with connect(cluster.addresses, cluster=cluster.identity, partition=partition) as log:
        events = await log.read(offset, 1)
    if events and events[0].offset == offset:
        return events[0]
    end = await confirmed_end(cluster, partition=partition)
    if offset >= end.next_offset:
        return end
    raise EventNotFound(
        f"no event is at offset {offset} of partition {partition}: a key of another partition's event is",
        next_step=f"esctl consume --from {offset} --partition {partition} --cluster {cluster.name}",
    )


async def known(cluster: Cluster, source: str, event_id: str) -> KeyState:
    """What the leader's table knows of the event; that of the partition that owns the source."""
    partition = owner_of(cluster, source)
    async with connect(cluster.addresses, cluster=cluster.identity, partition=partition) as log:
        return await log.explain(source, event_id)


async def in_the_log(
    cluster: Cluster, source: str, event_id: str, read: Callable[[int], None]
) -> StoredEvent | None:
    """Look through the whole log; `read` is told of every batch's size. Raises `OperationTimeout`.

    With several partitions, those that owned the source, when they did.
    """
    wanted = identity_of(event_key(source, event_id))
    async with AsyncExitStack() as stack:
        batches: BatchSource
        if cluster.partitions > 1:
            opened = reading_all(cluster, ALL, lambda _stale: None, source)
            batches, _ = await stack.enter_async_context(opened)
        else:
            batches = await stack.enter_async_context(reading(cluster, ALL, lambda _stale: None))
        while (batch := await batches.next_batch()) is not None:
            identities = batch.identities()
            if wanted in identities:
                return batch.events()[identities.index(wanted)]
            read(batch.count)
    return None
