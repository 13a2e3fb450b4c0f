"""Small batches at a fixed rate, in any state of the cluster, and a record of the result of each.

Gaps are found in the times of the acks; an `Operations` holds what was acked, to be compared with the log at
the end. Decides nothing about faults. Never prints. Called by the drills and storms.
"""

import math
import secrets
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from esctl.bench.generator import SOURCE, Generator
from esctl.bench.openloop import MOST_BEHIND_S, WINDOW, OpenLoop, Turn, events_a_batch
from esctl.clusters.state import Cluster
from esctl.events.producer import Appender
from esctl.query.ringsurvey import source_of
from esctl.verify.operations import Operations
from esnode.client import Log, connect
from esnode.errors import EventStreamError

EVENT_BYTES: Final = 100
ENOUGH: Final = 0.5
"""With less than this of the rate acked, the load did not happen."""


class SteadyLoad:
    """`rate` events a second from `run` to `end`; the generator makes batches of `events_a_batch(rate)`."""

    def __init__(self, log: Appender, generator: Generator, rate: float) -> None:
        self.rate = rate
        self.operations = Operations()
        """On trio's clock."""
        self.sent = self.acked = 0
        self.errors: dict[str, int] = {}
        """Events without an ack, by the code of the error."""
        self.begun_s = self.ended_s = 0.0
        self._log = log
        self._generator = generator
        self._acks_s = array("d")
        self._newest_acked_s = -math.inf
        """When the latest batch was handed over that has been acked."""
        self._news = trio.lowlevel.ParkingLot()
        self._loop = OpenLoop(rate, events_a_batch(rate), most_behind_s=MOST_BEHIND_S)

    @property
    def enough(self) -> bool:
        """Was there load enough to speak of?"""
        return self.acked >= ENOUGH * self.rate * (self.ended_s - self.begun_s) > 0

    @property
    def never_acked(self) -> int:
        """Events that were handed over and have no ack: once the load is over they never will."""
        return self.sent - self.acked

    @property
    def acks_s(self) -> Sequence[float]:
        """When acks came, in order."""
        return self._acks_s

    async def run(self) -> None:
        """Send until `end`, then wait for the last answers."""
        self.begun_s = trio.current_time()
        await self._loop.run(self._append, self.begun_s)

    def end(self) -> None:
        """Send nothing more."""
        self.ended_s = trio.current_time()
        self._loop.end()

    async def wait_answered(self, since_s: float) -> None:
        """Return when a batch is acked that was handed over after `since_s`."""
        while self._newest_acked_s <= since_s:
            await self._news.park()

    async def _append(self, _turn: Turn) -> None:
        batch, sent_s = self._generator.next_batch(), trio.current_time()
        self.sent += batch.count
        attempt = self.operations.append_begins(batch.keys, sent_s)
        try:
            taken = await self._log.append_batch(batch)
        except EventStreamError as error:
            self.errors[error.code] = self.errors.get(error.code, 0) + batch.count
            if error.definite:
                self.operations.refused(attempt)
            return
        now = trio.current_time()
        self.operations.acked(attempt, taken.ranges, now, taken.duplicates)
        self.acked += batch.count
        self._acks_s.append(now)
        self._newest_acked_s = max(self._newest_acked_s, sent_s)
        self._news.unpark_all()


@asynccontextmanager
async def under_load(
    cluster: Cluster, rate: float, append_timeout_s: float, partition: int | None = None
) -> AsyncIterator[tuple[SteadyLoad, Log]]:
    """A load that is ready to run against the cluster, with events of its own, and the client that it has.

    With several partitions, its events are of one of them. Raises what `connect` does.
    """
    sources = (await source_of(cluster, partition, SOURCE),)
    generator = Generator(secrets.token_hex(8), EVENT_BYTES, events_a_batch(rate), sources)
    opened = connect(
        cluster.addresses,
        cluster=cluster.identity,
        partition=partition,
        window=WINDOW,
        timeout_s=append_timeout_s,
    )
    async with opened as log:
        yield SteadyLoad(log, generator, rate), log


def longest_gap_s(acks_s: Sequence[float], begin_s: float, end_s: float) -> float | None:
    """The longest time between two acks that follow each other, of those gaps that touch that time.

    A gap that began before `begin_s`, or ends after `end_s`, counts whole. None where acks do not
    enclose any of it.
    """
    first = max(0, bisect_right(acks_s, begin_s) - 1)
    return _longest(acks_s, first, min(len(acks_s) - 1, bisect_left(acks_s, end_s)))


def longest_gap_within_s(acks_s: Sequence[float], begin_s: float, end_s: float) -> float | None:
    """The same of gaps that begin and end within that time."""
    return _longest(acks_s, bisect_left(acks_s, begin_s), bisect_right(acks_s, end_s) - 1)


def _longest(acks_s: Sequence[float], first: int, last: int) -> float | None:
    return max((acks_s[at + 1] - acks_s[at] for at in range(first, last)), default=None)


def first_ack_s(acks_s: Sequence[float], since_s: float) -> float | None:
    """The first ack at that time or later; None when there is none."""
    at = bisect_left(acks_s, since_s)
    return acks_s[at] if at < len(acks_s) else None
