"""From the append to the subscriber: a load at a rate, and beside it one reader that follows the log.

Acks say at which offset each batch is, deliveries when each offset came: together they give the time from
the moment at which an event was meant to be sent to the one at which the subscriber had it, undecoded. Both
run in this process, on one clock. Never prints. Called by `esctl bench e2e`.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import trio
from numpy.typing import NDArray

from esctl.inquiry.barrier import confirmed_end
from esctl.inquiry.following import Wanted, reading
from esctl.load import trial, usage
from esctl.load.generator import Generator
from esctl.load.latency import Point, Recorder
from esctl.load.runner import DRAIN_S, Load, Plan
from esctl.load.usage import Usage
from esctl.state import Cluster, Node
from esnode.client import connect


class Deliveries:
    """When each event from `from_offset` on came. They come in order, and none is left out."""

    def __init__(self, from_offset: int) -> None:
        self.next_offset = from_offset
        self._from_offset = from_offset
        self._next_offsets = array("q")
        self._at_s = array("d")
        self._grown = trio.Event()

    def delivered(self, next_offset: int, at_s: float) -> None:
        """The events before `next_offset` are there."""
        self.next_offset = next_offset
        self._next_offsets.append(next_offset)
        self._at_s.append(at_s)
        self._grown.set()
        self._grown = trio.Event()

    async def wait_for(self, offset: int) -> None:
        """Until the event at `offset` has come."""
        while self.next_offset <= offset:
            await self._grown.wait()

    def times(self, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """When each of `offsets` came; NaN for those that have not."""
        at_s = np.append(np.array(self._at_s, dtype=np.float64), np.nan)
        places = np.searchsorted(np.array(self._next_offsets, dtype=np.int64), offsets, side="right")
        return np.where(offsets < self._from_offset, np.nan, at_s[places])


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """A load and its deliveries, ended both."""

    load: Load
    plan: Plan
    size_bytes: int
    node: Node
    follows: bool
    """The node was a follower at the begin."""
    delivered: Recorder
    """The batches that came, each with its delivery for its end."""
    undelivered: int
    """Events that were acked and did not come in time, the warm-up's too."""
    before: Usage
    after: Usage

    def figures(self) -> dict[str, float | None]:
        """Of the measured time. Latencies without a prefix are those to the delivery."""
        load, plan = self.load, self.plan
        begin_s, end_s = load.begun_s, load.ended_s
        acks = load.recorder
        events = acks.acked_between(self.before.at_s, self.after.at_s)
        return {
            "events_per_s": round(self.delivered.acked_between(begin_s, end_s) / plan.seconds, 1),
            **self.delivered.percentiles(begin_s, end_s, intended=True).as_figures(),
            **self.delivered.percentiles(begin_s, end_s, intended=False).as_figures("raw_"),
            **acks.percentiles(begin_s, end_s, intended=True).as_figures("ack_"),
            "acked": acks.acked_between(begin_s, end_s),
            "failed": load.failed,
            "unknown": load.unknown,
            "undelivered": self.undelivered,
            **usage.cost(self.before, self.after, events),
            **usage.memory(self.after),
        }

    def series(self) -> dict[str, list[Point]]:
        """Second by second."""
        begin_s, end_s = self.load.begun_s, self.load.ended_s
        return {
            "events_per_s": self.delivered.throughput_series(begin_s, end_s),
            "p99_ms": self.delivered.latency_series(begin_s, end_s, 99, intended=True),
            "ack_p99_ms": self.load.recorder.latency_series(begin_s, end_s, 99, intended=True),
        }

    def detail(self) -> dict[str, Any]:
        """What happened besides."""
        return trial.detail_of(self.load)


async def run_end_to_end(
    cluster: Cluster,
    generator: Generator,
    plan: Plan,
    node: int | None,
    begun: Callable[[Load], None] = lambda _load: None,
) -> EndToEnd:
    """Run a load, and follow it on `node`, the leader by default; `begun` is handed the load when it starts.

    Raises `NodeNotFound`, `Unreachable`, `NoQuorum`, `OperationTimeout`.
    """
    end = await confirmed_end(cluster)
    chosen = cluster.node(node if node is not None else end.leader)
    deliveries = Deliveries(end.next_offset)
    connecting = connect(cluster.addresses, cluster=cluster.identity, window=plan.window)
    async with connecting as log, trio.open_nursery() as nursery:
        await nursery.start(_follow, cluster, chosen, deliveries)
        async with trio.open_nursery() as sending:
            load = Load(log, generator, plan)
            begun(load)
            await sending.start(load.run)
            before, after = await trial.usage_around(cluster, load)
        offsets = load.recorder.last_offsets
        if offsets.size:
            with trio.move_on_after(DRAIN_S):
                await deliveries.wait_for(int(offsets.max()))
        nursery.cancel_scope.cancel()
    times = deliveries.times(offsets)
    delivered = load.recorder.ended_at(times)
    return EndToEnd(
        load,
        plan,
        generator.size,
        chosen,
        chosen.id != end.leader,
        delivered,
        load.recorder.events - delivered.events,
        before,
        after,
    )


async def _follow(
    cluster: Cluster,
    node: Node,
    deliveries: Deliveries,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Note what comes, until it is cancelled."""
    wanted = Wanted(deliveries.next_offset, None, follow=True, node=node)
    async with reading(cluster, wanted, lambda _stale: None) as source:
        task_status.started()
        while (batch := await source.next_batch()) is not None:
            deliveries.delivered(batch.next_offset, trio.current_time())
