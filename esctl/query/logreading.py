"""Events from an offset on: up to the end of the log as it was at the beginning, or on and on.

Decides what the reader has seen for certain. From the cluster: every event acked before the start, since
the end is confirmed by a majority first; any node may then serve it, and the next one when that fails.
From one node: what that node has applied, and how old that may be. Memory holds one answer of a node at a
time. Never prints. Called by `esctl consume`.
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
    end itself; it goes before `from_offset`."""

    from_offset: int | None
    max_events: int | None
    follow: bool
    node: Node | None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Staleness:
    """How far a single node may be behind: what it has applied, and when it last heard from the leader."""

    next_offset: int
    silence_ms: int

    def __str__(self) -> str:
        events = quantity(self.next_offset, "event")
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

    def __init__(self, cluster: Cluster, source: BatchSubscription, end: int, *, follow: bool) -> None:
        self._cluster = cluster
        self._source = source
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
            return StoredBatch(batch.entry, batch.offset, min(batch.next_offset, self.end))
        raise OperationTimeout(
            f"nothing came for {self._patience_s:g} s: the events from {at} to {self.end - 1} are missing",
            next_step=f"esctl consume --from {at} --cluster {self._cluster.name}",
        )


@asynccontextmanager
async def reading(
    cluster: Cluster, wanted: ReadRequest, stale: Callable[[Staleness], None]
) -> AsyncIterator[Reading]:
    """Open what is wanted. `stale` is told how old one node's answer may be.

    Raises `OffsetOutOfRange`, `Unreachable`, `NoQuorum`, `OperationTimeout`.
    """
    async with AsyncExitStack() as stack:
        end, source = await _open(cluster, wanted, stale, stack)
        yield Reading(cluster, source, end, follow=wanted.follow)


async def _open(
    cluster: Cluster, wanted: ReadRequest, stale: Callable[[Staleness], None], stack: AsyncExitStack
) -> tuple[int, BatchSubscription]:
    """Where to stop, and what to read from."""
    if wanted.node is None:
        confirmed = await confirmed_end(cluster)
        begin = _begin(cluster, wanted, confirmed.first_offset, confirmed.next_offset)
        next_offset = confirmed.next_offset
        log = await stack.enter_async_context(connect(cluster.addresses, cluster=cluster.identity))
        source = log.subscribe_batches(begin)
    else:
        link = connect_node(wanted.node.client, cluster=cluster.identity)
        await stack.enter_async_context(link)
        answer = await link.read_records(limits.MAX_INDEX, 1)
        next_offset = answer.next_offset
        stale(Staleness(answer.next_offset, answer.silence_ms))
        begin = _begin(cluster, wanted, answer.first_offset, answer.next_offset)
        source = await stack.enter_async_context(link.subscribe_batches(begin))
    end = UNTIL_EVER if wanted.max_events is None else begin + wanted.max_events
    return (end if wanted.follow else min(end, next_offset)), source


def _begin(cluster: Cluster, wanted: ReadRequest, first_offset: int, next_offset: int) -> int:
    """Where to begin; raises `OffsetOutOfRange` for an offset that was asked for and is cut away."""
    if wanted.last is not None:
        return max(first_offset, next_offset - wanted.last)
    if wanted.from_offset is None:
        return first_offset
    if wanted.from_offset < first_offset:
        raise OffsetOutOfRange(
            f"event {wanted.from_offset} is not kept any more; the first one is {first_offset}",
            next_step=f"esctl consume --from {first_offset} --cluster {cluster.name}",
        )
    return wanted.from_offset
