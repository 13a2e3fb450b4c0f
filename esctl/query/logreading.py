"""Events from an offset on: up to the end of the log as it was at the beginning, or on and on.

Decides what the reader has seen for certain. From the cluster: every event acked before the start, since
the end is confirmed by a majority first; any node may then serve it, and the next one when that fails.
From one node: what that node has applied, and how old that may be. Memory holds one answer of a node at a
time. This is one log: that of the only partition, or of one of several; `partitionreading.py` reads several.
Never prints. Called by `esctl consume`, `export` and `bench`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from esctl.clusters.state import Cluster, Node
from esctl.query.barrier import confirmed_end
from esctl.ui.formatting import quantity
from esnode import limits
from esnode.client import BatchSubscription, StoredBatch, connect, connect_node
from esnode.errors import OffsetOutOfRange, OperationTimeout

UNTIL_EVER: Final = limits.MAX_INDEX


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read. Without a `from_offset`, from the first event that is kept; `max_events` and `node` are
    None for no bound and for the cluster. `last` is how many events before the end to begin at, 0 for the
    end itself; it goes before `from_offset`. `partition` is None where the cluster has one."""

    from_offset: int | None
    max_events: int | None
    follow: bool
    node: Node | None
    last: int | None = None
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Staleness:
    """How far a single node may be behind: what it has applied, and when it last heard from the leader."""

    next_offset: int
    silence_ms: int
    partition: int | None = None

    def __str__(self) -> str:
        events = quantity(self.next_offset, "event")
        if self.partition is not None:
            events += f" of partition {self.partition}"
        if self.silence_ms == 0:
            return f"it says that it leads, and has {events}"
        if self.silence_ms < 0:
            return f"it has {events} and has not heard from a leader since it started"
        return (
            f"it has {events} and heard from the leader {self.silence_ms} ms ago;"
            " what was acked since then may be missing"
        )


class Reading:
    """The batches in order, the last one cut at the end."""

    def __init__(self, source: BatchSubscription, end: int, *, follow: bool, again: str) -> None:
        """`again` is the command that goes on from an offset, which stands for `{}` in it."""
        self._source = source
        self._again = again
        self.begins_at = source.next_offset
        self.end = end
        """Where it stops: an offset that nothing is read from."""
        self.ends_before = end if not follow and end < source.next_offset else None
        """Where the log ends, when that is before the offset to begin at: nothing can be read then."""
        self._patience_s = float("inf") if follow else limits.OPERATION_TIMEOUT_S

    async def next_batch(self) -> StoredBatch | None:
        """The next batch; None at the end. Raises `OperationTimeout` when the rest does not come."""
        at = self._source.next_offset
        if at >= self.end:
            return None
        batch = await self._source.next_within(self._patience_s)
        if batch is not None:
            return StoredBatch(batch.entry, min(batch.offset, self.end), min(batch.next_offset, self.end))
        raise OperationTimeout(
            f"nothing came for {self._patience_s:g} s: the events from {at} to {self.end - 1} are missing",
            next_step=self._again.format(at),
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """What there is to read: from the offset `begin` on, and where the log ends now, as `node` says."""

    begin: int
    next_offset: int
    node: Node


@asynccontextmanager
async def reading(
    cluster: Cluster, wanted: ReadRequest, stale: Callable[[Staleness], None]
) -> AsyncIterator[Reading]:
    """Open what is wanted. `stale` is told how old one node's answer may be.

    Raises `OffsetOutOfRange`, `Unreachable`, `NoQuorum`, `OperationTimeout`.
    """
    async with reading_of(cluster, wanted, await bounds_of(cluster, wanted, stale)) as opened:
        yield opened


async def bounds_of(cluster: Cluster, wanted: ReadRequest, stale: Callable[[Staleness], None]) -> Bounds:
    """Ask for it; raises as `reading` does."""
    if wanted.node is None:
        confirmed = await confirmed_end(cluster, partition=wanted.partition)
        first, end, node = confirmed.first_offset, confirmed.next_offset, cluster.node(confirmed.leader)
    else:
        node = wanted.node
        link = connect_node(wanted.node.client, cluster=cluster.identity, partition=wanted.partition)
        async with link:
            answer = await link.read_records(limits.MAX_INDEX, 1)
        first, end = answer.first_offset, answer.next_offset
        stale(Staleness(end, answer.silence_ms, wanted.partition))
    return Bounds(_begin(cluster, wanted, first, end), end, node)


@asynccontextmanager
async def reading_of(cluster: Cluster, wanted: ReadRequest, bounds: Bounds) -> AsyncIterator[Reading]:
    """Open what is wanted, once it is known what there is."""
    begin = bounds.begin
    end = UNTIL_EVER if wanted.max_events is None else begin + wanted.max_events
    end = end if wanted.follow else min(end, bounds.next_offset)
    again = _again(cluster, wanted, "{}")
    async with AsyncExitStack() as stack:
        if wanted.node is None:
            opened = connect(cluster.addresses, cluster=cluster.identity, partition=wanted.partition)
            source = (await stack.enter_async_context(opened)).subscribe_batches(begin)
        else:
            source = await stack.enter_async_context(subscription(cluster, wanted, begin))
        yield Reading(source, end, follow=wanted.follow, again=again)


def subscription(cluster: Cluster, wanted: ReadRequest, from_offset: int) -> BatchSubscription:
    """Of the node that is wanted; to be closed."""
    assert wanted.node is not None
    link = connect_node(wanted.node.client, cluster=cluster.identity, partition=wanted.partition)
    return link.subscribe_batches(from_offset)


def _begin(cluster: Cluster, wanted: ReadRequest, first_offset: int, next_offset: int) -> int:
    """Where to begin; raises `OffsetOutOfRange` for an offset that was asked for and is cut away."""
    if wanted.last is not None:
        return max(first_offset, next_offset - wanted.last)
    if wanted.from_offset is None:
        return first_offset
    if wanted.from_offset < first_offset:
        raise OffsetOutOfRange(
            f"event {wanted.from_offset} is not kept any more; the first one is {first_offset}",
            next_step=_again(cluster, wanted, str(first_offset)),
        )
    return wanted.from_offset


def _again(cluster: Cluster, wanted: ReadRequest, offset: str) -> str:
    """The command that reads on from `offset`."""
    of = "" if wanted.partition is None else f" --partition {wanted.partition}"
    return f"esctl consume --from {offset}{of} --cluster {cluster.name}"
