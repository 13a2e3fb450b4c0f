"""What applications do: append, read, subscribe, through the client library as it ships.

Everything they do and are told goes into the history that is checked in the end. Decides what is wanted,
never what may be true. Started by `world.py`, one task tree a client.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

import trio

from esctl.verify.operations import Operations
from esnode import limits
from esnode.client import Log, connect
from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange, split_keys
from esnode.errors import EventStreamError, OffsetOutOfRange
from esnode.events import key_of, make_batch
from esnode.ring import FIRST_VERSION, Ring
from esnode.transport.connection import Dialer

from .order import Order
from .swarm import Load

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Share:
    """Which of several partitions a world is; of one, by default."""

    partitions: int = 1
    partition: int = 0

    @property
    def asked(self) -> int | None:
        """What a client asks for."""
        return self.partition if self.partitions > 1 else None

    def source(self, name: str) -> str:
        """A source of this partition whose name begins like that."""
        return name if self.partitions == 1 else _owned_source(name, self.partitions, self.partition)


@cache
def _owned_source(name: str, partitions: int, partition: int) -> str:
    ring = Ring(FIRST_VERSION, range(partitions))
    names = (f"{name}-{number}" for number in count())
    return next(each for each in names if ring.owner_of(each) == partition)


class Application:
    """All clients of one world: the history, what was sent, and what came back."""

    def __init__(self, load: Load, history: Operations, source: random.Random, share: Share) -> None:
        self.load = load
        self.share = share
        self.history = history
        self.source = source
        self.order = Order()
        self.counts: dict[str, int] = {}
        self.acked_to = 0
        """The end of what somebody was told to be in the log."""
        self._recent: deque[Event] = deque(maxlen=200)
        self._made = 0

    def event(self) -> Event:
        """A new event, or one that was sent before."""
        if self._recent and self.source.random() < self.load.repeats:
            return self.source.choice(self._recent)
        return self._new(self.source.randrange(self.load.max_bytes))

    def many(self) -> list[Event]:
        """A list of events of all sizes, from a byte to the largest there may be."""
        count = self.source.randint(1, self.load.list_events)
        return [self._new(self._any_size()) for _ in range(count)]

    def _any_size(self) -> int:
        most = self.load.largest if self.source.random() < 0.2 else min(self.load.largest, 1000)
        return int(most ** self.source.random())

    def _new(self, size_bytes: int) -> Event:
        self._made += 1
        data = "x" * size_bytes
        source = self.share.source(f"/{self._made % 3}")
        event = {"id": str(self._made), "source": source, "type": "t", "data": data}
        self._recent.append(event)
        return event

    def count(self, what: str) -> None:
        """One more of these."""
        self.counts[what] = self.counts.get(what, 0) + 1


class Client:
    """One process that uses the log."""

    def __init__(self, application: Application, addresses: Sequence[str], dial: Dialer, seed: str) -> None:
        self._application = application
        self._source = random.Random(seed)
        self._stopped = False
        self._name = seed
        load = application.load
        self._connecting = connect(
            addresses,
            cluster="simulated",
            batch_events=load.batch_events,
            batch_ms=load.batch_ms,
            window=min(load.window, limits.MAX_SESSION_INFLIGHT),
            timeout_s=load.timeout_s,
            producer_session=self._source.random() < load.sessions,
            dial=dial,
            rng=random.Random(f"{seed}:library"),
            partition=application.share.asked,
        )

    def stop(self) -> None:
        """Begin nothing more; what was begun goes on."""
        self._stopped = True

    async def run(self) -> None:
        """Use the log until it is stopped, and everything begun has ended."""
        load = self._application.load
        async with self._connecting as log, trio.open_nursery() as subscriptions:
            for _ in range(load.subscribers):
                subscriptions.start_soon(self._follow, log)
            async with trio.open_nursery() as operations:
                operations.start_soon(self._read, log)
                while not self._stopped:
                    await trio.sleep(self._source.expovariate(1 / load.append_every_s))
                    what = self._source.random()
                    if what < 0.4:
                        operations.start_soon(self._append_one, log, self._application.event())
                    elif what < 0.6:
                        operations.start_soon(self._append_many, log, self._application.many())
                    else:
                        count = self._source.randint(1, load.max_events)
                        events = [self._application.event() for _ in range(count)]
                        operations.start_soon(self._append_batch, log, events)
            subscriptions.cancel_scope.cancel()

    async def _append_one(self, log: Log, event: Event) -> None:
        """Until it is acked, or a few attempts have failed."""
        application = self._application
        for _ in range(self._source.choice((1, 3, 10))):
            attempt = application.history.append_begins(key_of(event), trio.current_time())
            call = application.order.call(self._name, [key_of(event)])
            try:
                ack = await log.append(event)
            except EventStreamError as error:
                await self._failed(attempt, error)
                continue
            call.acked = True
            self._acked(attempt, (OffsetRange(ack.offset, 1),), None)
            return

    async def _append_batch(self, log: Log, events: Sequence[Event]) -> None:
        batch = make_batch(events)
        for _ in range(self._source.choice((1, 3, 10))):
            attempt = self._application.history.append_begins(batch.keys, trio.current_time())
            call = self._application.order.call(self._name, split_keys(batch.keys))
            try:
                ack = await log.append_batch(batch)
            except EventStreamError as error:
                await self._failed(attempt, error)
                continue
            call.acked = True
            self._acked(attempt, ack.ranges, None if ack.resent else ack.duplicates)
            return

    async def _append_many(self, log: Log, events: Sequence[Event]) -> None:
        """All of them, and all again if that fails."""
        application = self._application
        keys = [key_of(event) for event in events]
        for _ in range(self._source.choice((1, 3))):
            attempt = application.history.append_begins(b"".join(keys), trio.current_time())
            call = application.order.call(self._name, keys, many=True)
            try:
                acks = await log.append_many(events)
            except EventStreamError as error:
                application.count("op.many_failed")
                error.definite = False  # it is one batch's: those before it may be stored
                await self._failed(attempt, error)
                continue
            call.acked = True
            application.count("op.many")
            self._acked(attempt, [OffsetRange(ack.offset, 1) for ack in acks], None)
            return

    def _acked(self, attempt: int, ranges: Sequence[OffsetRange], duplicates: int | None) -> None:
        application = self._application
        application.history.acked(attempt, ranges, trio.current_time(), duplicates)
        application.count("op.acked")
        ends = [part.base_offset + part.count for part in ranges if part.base_offset != UNKNOWN_OFFSET]
        application.acked_to = max(application.acked_to, *ends, 0)

    async def _failed(self, attempt: int, error: EventStreamError) -> None:
        self._application.count("op.refused" if error.definite else "op.unknown")
        if error.definite:
            self._application.history.refused(attempt)
        await trio.sleep(self._source.uniform(0.01, 0.3))

    async def _read(self, log: Log) -> None:
        application = self._application
        while not self._stopped:
            await trio.sleep(self._source.expovariate(1 / application.load.read_every_s))
            from_offset = max(0, application.acked_to - self._source.choice((1, 1, 10, 100)))
            linearizable = self._source.random() < 0.8
            read = application.history.read_begins(trio.current_time(), linearizable=linearizable)
            try:
                events = await log.read(from_offset, 100_000, linearizable=linearizable)
            except EventStreamError as error:
                application.count("op.read_cut" if isinstance(error, OffsetOutOfRange) else "op.read_failed")
                continue
            keys = b"".join(key_of(stored.event) for stored in events)
            end = from_offset + len(events)
            if events or linearizable:
                application.history.read_ends(read, end, trio.current_time(), from_offset, keys)
            application.count("op.read")

    async def _follow(self, log: Log) -> None:
        application = self._application
        while True:
            from_offset = max(0, application.acked_to - self._source.choice((0, 0, 20)))
            number = application.history.subscription_begins(from_offset)
            async with log.subscribe_batches(from_offset) as subscription:
                try:
                    async for batch in subscription:
                        keys = b"".join(key_of(stored.event) for stored in batch.events())
                        now = trio.current_time()
                        application.history.subscription_saw(number, batch.offset, keys, now)
                        application.count("op.subscribed")
                except OffsetOutOfRange:
                    application.count("op.subscription_cut")
            await trio.sleep(0.1)
