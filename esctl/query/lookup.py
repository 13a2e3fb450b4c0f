"""Finds one event: by its offset, or by source and id through the deduplication table or the whole log.

The table knows an event for a bounded time; after that only the log itself can say. Never prints.
Called by `esctl event` and `esctl event dedup`.
"""

from collections.abc import Callable

from esctl.clusters.state import Cluster
from esctl.errors import EventNotFound
from esctl.query.barrier import LogEnd, confirmed_end
from esctl.query.ringsurvey import numbers, owner_of
from esnode import limits
from esnode.client import KeyState, StoredEvent, connect
from esnode.dedup.batch import event_key, identity_of
from esnode.errors import OperationTimeout


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


async def known(cluster: Cluster, source: str, event_id: str) -> tuple[KeyState, int | None]:
    """What the leader's table knows of the event, in the partition that owns the source; and that one."""
    partition = await owner_of(cluster, source)
    async with connect(cluster.addresses, cluster=cluster.identity, partition=partition) as log:
        return await log.explain(source, event_id), partition


def unplaced(state: KeyState) -> str:
    """Why the table has no offset of the event, for people."""
    if state.known:
        return "it was stored before its source moved to its partition"
    return "the deduplication table does not know it"


async def in_the_logs(
    cluster: Cluster, source: str, event_id: str, read: Callable[[int], None]
) -> StoredEvent | None:
    """Look through the whole log; `read` is told of every batch's size. Raises `OperationTimeout`.

    With several partitions, first that of the one that owns the source, then all others: the source may have
    moved since.
    """
    wanted, owner = identity_of(event_key(source, event_id)), await owner_of(cluster, source)
    for partition in sorted(numbers(cluster), key=lambda number: (number != owner, number)):
        found = await _in_one_log(cluster, wanted, read, partition)
        if found is not None:
            return found
    return None


async def _in_one_log(
    cluster: Cluster, wanted: bytes, read: Callable[[int], None], partition: int | None
) -> StoredEvent | None:
    end = await confirmed_end(cluster, partition=partition)
    async with (
        connect(cluster.addresses, cluster=cluster.identity, partition=partition) as log,
        log.subscribe_batches(end.first_offset) as batches,
    ):
        while batches.next_offset < end.next_offset:
            batch = await batches.next_within(limits.OPERATION_TIMEOUT_S)
            if batch is None:
                raise OperationTimeout(f"no events came for {limits.OPERATION_TIMEOUT_S:g} s")
            identities = batch.identities()
            if wanted in identities:
                return batch.events()[identities.index(wanted)]
            read(batch.count)
    return None
