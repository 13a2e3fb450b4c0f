"""A log that acks after a while, stands still when it is told to, and may fail: no node behind it.

And nodes that say what they use, for measurements of such a log.
"""

from collections.abc import Callable

import trio

from esctl.bench.usage import NodeUse, Usage
from esnode.client import BatchAck
from esnode.dedup.batch import Batch, OffsetRange
from esnode.errors import EventStreamError

MB = 1_000_000
RUN = "0123456789abcdef"


class Log:
    """Acks after `delay_s`; stands still from `still_from` to `still_to`; may fail."""

    def __init__(self, delay_s: float = 0.01, still_from: float = -1, still_to: float = -1) -> None:
        self.delay_s, self.still_from, self.still_to = delay_s, still_from, still_to
        self.begun = trio.current_time()
        self.batches = 0
        self.next_offset = 0
        self.error: EventStreamError | None = None
        self.fails_every = 10
        self.leads = True
        self.on_ack: Callable[[int], None] = lambda _next_offset: None

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> BatchAck:
        self.batches += 1
        number = self.batches
        if on_sent is not None and self.leads:
            on_sent()
        await trio.sleep(self.delay_s)
        now = trio.current_time() - self.begun
        if self.still_from <= now < self.still_to:
            await trio.sleep(self.still_to - now)
        if self.error is not None and number % self.fails_every == 0:
            raise self.error
        place = OffsetRange(self.next_offset, batch.count)
        self.next_offset += batch.count
        self.on_ack(self.next_offset)
        return BatchAck((place,), 0, False)


class Slow(Log):
    """A log that takes `events_per_s` at most, one batch after the other."""

    def __init__(self, events_per_s: float, delay_s: float = 0.002) -> None:
        super().__init__(delay_s)
        self._events_per_s = events_per_s
        self._free_s = trio.current_time()

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> BatchAck:
        self._free_s = max(self._free_s, trio.current_time()) + batch.count / self._events_per_s
        await trio.sleep_until(self._free_s)
        return await super().append_batch(batch, on_sent=on_sent)


class Nodes:
    """Three nodes that say what they use: so many seconds of processor time a second, so much memory."""

    def __init__(self, *, grows_mb_per_hour: float = 0.0, leader: int | None = 1) -> None:
        self.grows_mb_per_hour = grows_mb_per_hour
        self.leader = leader
        self.looks = 0
        self.keys_per_s = 0.0

    async def look(self) -> Usage:
        self.looks += 1
        now = trio.current_time()
        rss = 100 * MB + int(self.grows_mb_per_hour * MB * now / 3600)
        nodes = tuple(
            NodeUse(
                id=number,
                leads=number == self.leader,
                cpu_s=now * (0.5 if number == 1 else 0.1 * number),
                rss_bytes=rss + number,
                storage_bytes=int(now) * MB,
                live_keys=1000 + int(now * self.keys_per_s),
            )
            for number in (1, 2, 3)
        )
        return Usage(now, now * 0.25, nodes)
