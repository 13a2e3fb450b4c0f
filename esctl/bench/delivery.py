"""From the append to the subscriber: a load at a rate, and beside it one reader that follows the log.

Acks say at which offset each batch is, deliveries when each offset came: together they give the time from
the moment at which an event was meant to be sent to the one at which the subscriber had it, undecoded. Both
run in this process, on one clock. Never prints. Called by `esctl bench e2e`.
"""

from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import trio
from numpy.typing import NDArray

from esctl.bench.generator import Generator
from esctl.bench.latency import Point, Recorder
from esctl.bench.runner import DRAIN_S, Load, TrialPlan
from esctl.bench.trial import Trial, run_trial
from esctl.bench.usage import Look
from esctl.clusters.state import Cluster
from esctl.events.producer import Appender
from esctl.query.barrier import confirmed_end
from esctl.query.logreading import ReadRequest, reading
from esctl.query.ringsurvey import numbers
from esnode.client import StoredBatch


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


class FollowedLog(Protocol):
    """The log as it is followed; see `esctl/query/logreading.py`."""

    async def next_batch(self) -> StoredBatch | None:
        """The next batch, once there is one."""


@asynccontextmanager
async def following(cluster: Cluster, node: int | None) -> AsyncIterator[list["Followed"]]:
    """Open a subscription at the end of the log, on `node` or on the leader; of each partition, by number.

    Raises `NodeNotFound`, `Unreachable`, `NoQuorum`, `OperationTimeout`.
    """
    followed: list[Followed] = []
    async with AsyncExitStack() as stack:
        for partition in numbers(cluster):
            end = await confirmed_end(cluster, partition=partition)
            chosen = cluster.node(node if node is not None else end.leader)
            wanted = ReadRequest(end.next_offset, None, follow=True, node=chosen, partition=partition)
            source = await stack.enter_async_context(reading(cluster, wanted, lambda _stale: None))
            one = Followed(source, end.next_offset, chosen.id, follower=chosen.id != end.leader)
            followed.append(one)
        yield followed


@dataclass(frozen=True, slots=True)
class Followed:
    """A subscription that is open."""

    source: FollowedLog
    from_offset: int
    node: int
    follower: bool
    """The node was one at the beginning."""


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """A load and its deliveries, ended both."""

    trial: Trial
    followed: Sequence[Followed]
    delivered: Recorder
    """The batches that came, each with its delivery for its end."""
    undelivered: int
    """Events that were acked and did not come in time, the warm-up's too."""

    def figures(self) -> dict[str, float | None]:
        """Of the measured time. Latencies without a prefix are those to the delivery."""
        load = self.trial.load
        begin_s, end_s = load.begun_s, load.ended_s
        of_trial = self.trial.figures()
        delivered = self.delivered.acked_between(begin_s, end_s)
        return {
            **of_trial,
            "events_per_s": round(delivered / self.trial.plan.seconds, 1),
            "payload_mb_per_s": round(delivered * self.trial.size_bytes / self.trial.plan.seconds / 1e6, 3),
            **self.delivered.percentiles(begin_s, end_s, intended=True).as_figures(),
            **self.delivered.percentiles(begin_s, end_s, intended=False).as_figures("raw_"),
            **load.recorder.percentiles(begin_s, end_s, intended=True).as_figures("ack_"),
            "undelivered": self.undelivered,
        }

    def series(self) -> dict[str, list[Point]]:
        """Second by second."""
        load = self.trial.load
        begin_s, end_s = load.begun_s, load.ended_s
        return {
            "events_per_s": self.delivered.throughput_series(begin_s, end_s),
            "p99_ms": self.delivered.latency_series(begin_s, end_s, 99, intended=True),
            "ack_p99_ms": load.recorder.latency_series(begin_s, end_s, 99, intended=True),
        }


async def run_end_to_end(
    log: Appender,
    followed: Sequence[Followed],
    look: Look,
    generator: Generator,
    plan: TrialPlan,
    begun: Callable[[Load], None] = lambda _load: None,
) -> EndToEnd:
    """Run a load beside the subscriptions, one of each partition; `begun` is handed the load when it
    starts."""
    deliveries = [Deliveries(one.from_offset) for one in followed]
    async with trio.open_nursery() as nursery:
        for one, came in zip(followed, deliveries, strict=True):
            nursery.start_soon(_note, one.source, came)
        trial = await run_trial(log, look, generator, plan, begun)
        acks = trial.load.recorder
        offsets, partitions = acks.last_offsets, acks.partitions
        with trio.move_on_after(DRAIN_S):
            for number, came in enumerate(deliveries):
                if (theirs := offsets[partitions == number]).size:
                    await came.wait_for(int(theirs.max()))
        nursery.cancel_scope.cancel()
    ends_s = np.full(len(offsets), np.nan)
    for number, came in enumerate(deliveries):
        ends_s[partitions == number] = came.times(offsets[partitions == number])
    delivered = acks.ended_at(ends_s)
    return EndToEnd(trial, followed, delivered, acks.events - delivered.events)


async def _note(source: FollowedLog, deliveries: Deliveries) -> None:
    """Take down what comes, until it is cancelled."""
    while (batch := await source.next_batch()) is not None:
        deliveries.delivered(batch.next_offset, trio.current_time())
