"""Reading as a measurement: the log from an offset to its end as it stands, from one node.

Decides which node is read: the leader, or one that was named. With several partitions, all are read at the
same time, each from its own leader. Every record's checksum is checked, as every client does; decoding the
events is a choice, since most of its cost is the application's own. Leaves nothing in the log. Never prints.
Called by `esctl bench consume`.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import trio

from esctl.bench import usage
from esctl.bench.latency import SERIES_STEP_S, Point, Recorder
from esctl.bench.usage import Usage
from esctl.clusters.state import Cluster, Node
from esctl.errors import EventNotFound
from esctl.query.barrier import confirmed_end
from esctl.query.logreading import Reading, ReadRequest, reading
from esnode.client import StoredBatch

FEWEST_POINTS: Final = 10
"""Of a series."""


@dataclass(frozen=True, slots=True)
class ExtentPart:
    """What is there to read of a partition, and from whom."""

    partition: int | None
    node: Node
    leads: bool
    from_offset: int
    events: int


@dataclass(frozen=True, slots=True)
class Extent:
    """What is there to read, of one partition or of several."""

    parts: Sequence[ExtentPart]

    @property
    def node(self) -> Node | None:
        """Who is read from; None where these are several."""
        nodes = {part.node.id: part.node for part in self.parts}
        return nodes.popitem()[1] if len(nodes) == 1 else None

    @property
    def leads(self) -> bool:
        """Are they the leaders?"""
        return all(part.leads for part in self.parts)

    @property
    def from_offset(self) -> int | None:
        """None with several partitions: each has its own."""
        return self.parts[0].from_offset if len(self.parts) == 1 else None

    @property
    def events(self) -> int:
        """How many there are; offsets that hold no event count too."""
        return sum(part.events for part in self.parts)


@dataclass(slots=True)
class Consumption:
    """One reading: what came so far."""

    extent: Extent
    decode: bool
    events: int = 0
    payload_bytes: int = 0
    begun_s: float = 0.0
    ended_s: float = 0.0
    before: Usage | None = None
    after: Usage | None = None
    arrivals: Recorder = field(default_factory=lambda: Recorder(0.0))

    def take(self, batch: StoredBatch) -> None:
        """A batch came."""
        if not batch.count:
            return  # adopted keys
        if self.decode:
            self.payload_bytes += sum(map(len, batch.encoded()))
            batch.events()
        elif batch.count == batch.entry.count:
            self.payload_bytes += len(batch.entry.payload)
        else:
            self.payload_bytes += sum(map(len, batch.encoded()))
        self.events += batch.count
        now = trio.current_time()
        self.arrivals.record(now, now, now, batch.count)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended_s - self.begun_s

    def figures(self) -> dict[str, float | None]:
        """Of a reading that has ended."""
        assert self.before is not None
        assert self.after is not None
        node = self.extent.node
        found: dict[str, float | None] = {
            "events_per_s": round(self.events / self.seconds, 1),
            "payload_mb_per_s": round(self.payload_bytes / self.seconds / 1e6, 3),
            "node_cpu_us_per_event": None
            if node is None
            else usage.cost_of(node.id, self.before, self.after, self.events),
            "client_cpu_us_per_event": usage.client_cost(self.before, self.after, self.events),
            "node_rss_bytes": usage.memory_of(node.id, self.after) if node is not None else None,
            "events": self.events,
            "seconds": round(self.seconds, 3),
        }
        if len(self.extent.parts) > 1:
            found["nodes_cpu_us_per_event"] = usage.cost_of_all(self.before, self.after, self.events)
        return found

    def series(self) -> dict[str, list[Point]]:
        """What came, second by second; a short reading in smaller steps."""
        step_s = min(SERIES_STEP_S, self.seconds / FEWEST_POINTS)
        return {"events_per_s": self.arrivals.throughput_series(self.begun_s, self.ended_s, step_s)}


async def extent_of(
    cluster: Cluster,
    from_offset: int | None,
    max_events: int | None,
    node: int | None,
    partition: int | None = None,
) -> Extent:
    """What a reading will find; from the first event that is kept where no offset is named.

    With several partitions, of all of them, or of `partition`; `max_events` is a bound for each.
    Raises `EventNotFound`, `NodeNotFound`, `Unreachable`, `NoQuorum`, `OperationTimeout`.
    """
    if cluster.partitions == 1 or partition is not None:
        return Extent([await _part(cluster, from_offset, max_events, node, partition)])
    parts: list[ExtentPart] = []
    empty: list[EventNotFound] = []
    for number in range(cluster.partitions):
        try:
            parts.append(await _part(cluster, from_offset, max_events, node, number))
        except EventNotFound as error:
            empty.append(error)
    if not parts:
        raise empty[0]
    return Extent(parts)


async def _part(
    cluster: Cluster, from_offset: int | None, max_events: int | None, node: int | None, partition: int | None
) -> ExtentPart:
    end = await confirmed_end(cluster, partition=partition)
    begin = end.first_offset if from_offset is None else from_offset
    if end.first_offset == end.next_offset:
        raise EventNotFound(
            f"the log of {cluster.name} is empty", next_step=f"esctl bench produce --cluster {cluster.name}"
        )
    if not end.first_offset <= begin < end.next_offset:
        raise EventNotFound(
            f"the log of {cluster.name} has the events from {end.first_offset} to {end.next_offset - 1},"
            f" and not {begin}",
            next_step=f"esctl bench consume --from {end.first_offset} --cluster {cluster.name}",
        )
    there = end.next_offset - begin
    chosen = cluster.node(node if node is not None else end.leader)
    return ExtentPart(partition, chosen, chosen.id == end.leader, begin, min(there, max_events or there))


async def consume(cluster: Cluster, consumption: Consumption) -> None:
    """Read it all. A follower that is behind ends where it is."""
    async with AsyncExitStack() as stack:
        sources = [
            await stack.enter_async_context(reading(cluster, _request(part), lambda _stale: None))
            for part in consumption.extent.parts
        ]
        consumption.before = await usage.take(cluster)
        consumption.begun_s = trio.current_time()
        async with trio.open_nursery() as nursery:
            for source in sources:
                nursery.start_soon(_drain, source, consumption)
        consumption.ended_s = trio.current_time()
        consumption.after = await usage.take(cluster)


def _request(part: ExtentPart) -> ReadRequest:
    return ReadRequest(part.from_offset, part.events, follow=False, node=part.node, partition=part.partition)


async def _drain(source: Reading, consumption: Consumption) -> None:
    while (batch := await source.next_batch()) is not None:
        consumption.take(batch)
