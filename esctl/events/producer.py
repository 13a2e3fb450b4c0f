"""Events into the log: batches go through a bounded window, and every event is counted once.

Decides how many batches are under way, when they may leave, and what is said when no ack comes. Retries
belong to the client library below: what fails here has failed for good, or is unknown. Never prints.
Called by `esctl produce`, `esctl demo` and the torture tests.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypedDict

import trio

from esctl.events.ndjson import BadLine, BatchMaker, EventReader, GoodLine, Line
from esctl.ui.values import Count, ErrorCode, Seconds
from esnode.dedup.batch import Batch, OffsetRange
from esnode.errors import CallerError, EventStreamError, first_of
from esnode.ring import TOKEN_BYTES, Ring

LINGER_S: Final = 0.001
"""How long an event may wait for others to fill its batch, while the input has nothing more."""
PACED_BATCH_S: Final = 0.01
"""With a rate, a batch holds the events of this time at most, so that a slow stream is not a jerky one."""
SILENCE_S: Final = 1.0
"""Without an ack for so long, somebody is told."""


class EventSource(Protocol):
    """Where bytes come from; see `inputs.py`."""

    async def read(self) -> bytes:
        """What is there, at least a byte; empty at the end."""


class Taken(Protocol):
    """What an append returns."""

    @property
    def ranges(self) -> Sequence[OffsetRange]:
        """The offsets of the batch's events, in their order."""

    @property
    def duplicates(self) -> int:
        """How many of them had been in the log before."""

    @property
    def resent(self) -> bool:
        """Whether the client had to send it again: then a duplicate may be this run's own."""

    @property
    def partitions(self) -> Sequence[int]:
        """The partition of each range; empty where all are in partition 0."""


class Appender(Protocol):
    """The part of the client library that a producer needs."""

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> Taken:
        """Put a batch in the log, retried until the client's timeout.

        `on_sent` is called when it leaves this process for the first time.
        """


class ProducedData(TypedDict):
    """What has become of the events of one input."""

    sent: Count
    acked: Count
    duplicates: Count
    resent_duplicates: Count
    failed: Count
    unknown: Count
    seconds: Seconds
    events_per_s: float


class BadLineData(TypedDict):
    """A line that is no event, and why."""

    line: int
    code: ErrorCode
    reason: str


class ProduceAnswer(ProducedData):
    """What has become of the events, and the lines that are none."""

    bad_lines: list[BadLineData]


@dataclass(slots=True)
class ProduceTally:
    """What has become of the events. `sent == acked + refused + unknown`, always."""

    sent: int = 0
    """They left this process; what was given up before that, or never read, is in no count."""
    acked: int = 0
    duplicates: int = 0
    """Of those acked, how many had been in the log before."""
    resent_duplicates: int = 0
    """Of those duplicates, how many were in batches that the client had to send again after a failover."""
    refused: int = 0
    """Sent, and certainly not taken."""
    malformed: int = 0
    """Never sent."""
    begun_s: float | None = None
    ended_s: float = 0.0
    bad_lines: list[BadLine] = field(default_factory=list)
    """The first of them."""
    refusals: list[str] = field(default_factory=list)
    """The codes of the first refusals."""

    @property
    def unknown(self) -> int:
        """Sent, and no answer yet: they may be in the log, and sending them again is safe."""
        return self.sent - self.acked - self.refused

    @property
    def failed(self) -> int:
        """Certainly not in the log by this run."""
        return self.refused + self.malformed

    @property
    def seconds(self) -> float:
        """From the first sending to the last ack."""
        return 0.0 if self.begun_s is None else max(0.0, self.ended_s - self.begun_s)

    @property
    def events_per_s(self) -> float:
        """Acked events a second."""
        return self.acked / self.seconds if self.seconds else 0.0

    def as_data(self) -> ProducedData:
        """For the JSON answer."""
        return {
            "sent": self.sent,
            "acked": self.acked,
            "duplicates": self.duplicates,
            "resent_duplicates": self.resent_duplicates,
            "failed": self.failed,
            "unknown": self.unknown,
            "seconds": round(self.seconds, 3),
            "events_per_s": round(self.events_per_s, 1),
        }


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told what while a producer works. Each is called in the producer's own tasks."""

    acked: Callable[[Batch, Taken], None] = lambda _batch, _taken: None
    silence: Callable[[float], Awaitable[None]] | None = None
    """No ack for so many seconds, again and again while it lasts."""
    recovered: Callable[[float], None] = lambda _seconds: None
    """The first ack after a silence that was told, and how long the silence was."""
    bad_line: Callable[[BadLine], None] = lambda _line: None
    refused: Callable[[Batch, EventStreamError], None] = lambda _batch, _error: None


MAX_BAD_LINES: Final = 100


class Producer:
    """Sends batches to `log`, at most `window` at a time and `rate` events a second (0: no bound)."""

    def __init__(
        self,
        log: Appender,
        *,
        window: int,
        rate: float = 0.0,
        tally: ProduceTally | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.tally = tally if tally is not None else ProduceTally()
        self._log = log
        self._window = window
        self._rate = rate
        self.watch = watch if watch is not None else Watch()
        self._last_news_s = 0.0
        self._under_way = 0
        """Batches that wait for their answer, sent or not."""
        self._silent = False
        self._next_turn_s = 0.0
        self._ready: deque[Batch] = deque()

    def batch_events(self, wanted: int) -> int:
        """How many events a batch may hold so that `rate` is kept smoothly."""
        return min(wanted, max(1, math.ceil(self._rate * PACED_BATCH_S))) if self._rate else wanted

    async def send(self, batches: trio.MemoryReceiveChannel[Batch]) -> None:
        """Send them all and wait for every answer.

        Raises, in a group, the first error whose outcome is not known, such as `OperationTimeout`: then
        nothing more is sent, and `tally` says what is known. A definite refusal is counted, and the rest
        goes on.
        """
        slots = trio.Semaphore(self._window)
        async with trio.open_nursery() as outer:
            outer.start_soon(self._tell_silence)
            async with trio.open_nursery() as nursery:
                async for batch in batches:
                    await slots.acquire()
                    if self._rate:
                        await self._wait_turn(batch.count)
                    self._ready.append(batch)
                    nursery.start_soon(self._append_next, slots)
            outer.cancel_scope.cancel()

    async def _append_next(self, slots: trio.Semaphore) -> None:
        """Append the oldest batch: tasks that start together run in any order, batches do not."""
        await self._append(self._ready.popleft())
        slots.release()

    async def _append(self, batch: Batch) -> None:
        tally = self.tally
        departure = _Departure(tally, batch.count)
        now = trio.current_time()
        if tally.begun_s is None:
            tally.begun_s = now
        if not self._under_way:  # a silence counts from the moment when somebody waits for an answer
            self._last_news_s = now
        self._under_way += 1
        try:
            taken = await self._log.append_batch(batch, on_sent=departure.note)
        except EventStreamError as error:
            if not (error.definite and isinstance(error, CallerError)):
                raise
            departure.note()
            tally.refused += batch.count
            if len(tally.refusals) < MAX_BAD_LINES:
                tally.refusals.append(error.code)
            self.watch.refused(batch, error)
            return
        finally:
            self._under_way -= 1
            tally.ended_s = trio.current_time()
        departure.note()
        tally.acked += batch.count
        tally.duplicates += taken.duplicates
        tally.resent_duplicates += taken.duplicates if taken.resent else 0
        self._heard()
        self.watch.acked(batch, taken)

    def _heard(self) -> None:
        now = trio.current_time()
        if self._silent:
            self._silent = False
            self.watch.recovered(now - self._last_news_s)
        self._last_news_s = now

    async def _wait_turn(self, count: int) -> None:
        """Return when `count` more events may leave without being ahead of the rate.

        After a stall the plan begins anew: what was missed is not made up for in a burst.
        """
        now = trio.current_time()
        turn = max(now, self._next_turn_s)
        self._next_turn_s = turn + count / self._rate
        await trio.sleep_until(turn)

    async def _tell_silence(self) -> None:
        if self.watch.silence is None:
            return
        while True:
            await trio.sleep(SILENCE_S / 4)
            silent_s = trio.current_time() - self._last_news_s
            if self._under_way and silent_s >= SILENCE_S:
                self._silent = True
                await self.watch.silence(silent_s)


class _Departure:
    """Counts the events of a batch as sent, once."""

    __slots__ = ("_count", "_tally")

    def __init__(self, tally: ProduceTally, count: int) -> None:
        self._tally, self._count = tally, count

    def note(self) -> None:
        """They have left, or an answer proves that they had."""
        self._tally.sent += self._count
        self._count = 0


class PartitionedBatches:
    """Good lines -> batches whose events are all of one partition: a batch of several would be split.

    An event waits for no more than `events` others of each partition. Without a `ring` there is one.
    """

    def __init__(self, events: int, ring: Ring | None) -> None:
        self._ring = ring
        partitions = (0,) if ring is None else ring.partitions
        self._makers = {partition: BatchMaker(events) for partition in partitions}
        self._most_lines = events * len(partitions)
        self._lines = 0
        self._begun: dict[int, int] = {}
        """The line that began what waits for each partition; the oldest first."""

    @property
    def waiting(self) -> bool:
        """Are there events that are not in a batch yet?"""
        return bool(self._begun)

    def add(self, line: GoodLine) -> Iterator[Batch]:
        """Take an event in; the batches that are full now, or have waited for long enough."""
        partition = 0 if self._ring is None else self._ring.owner(int.from_bytes(line.key[:TOKEN_BYTES]))
        maker = self._makers[partition]
        self._lines += 1
        for batch in maker.add(line):
            self._begun.pop(partition, None)
            yield batch
        if maker.waiting:
            self._begun.setdefault(partition, self._lines)
        while self._begun and self._lines - next(iter(self._begun.values())) >= self._most_lines:
            yield self._take(next(iter(self._begun)))

    def take(self) -> Iterator[Batch]:
        """All events that wait."""
        while self._begun:
            yield self._take(next(iter(self._begun)))

    def _take(self, partition: int) -> Batch:
        del self._begun[partition]
        return self._makers[partition].take()


class BatchCutter:
    """The events of an input in batches. A bad line is counted, told, and passed over."""

    def __init__(
        self, batch_events: int, tally: ProduceTally, watch: Watch, ring: Ring | None = None
    ) -> None:
        self._reader = EventReader()
        self._batches = PartitionedBatches(batch_events, ring)
        self._tally = tally
        self._watch = watch

    async def run(self, source: EventSource, batches: trio.MemorySendChannel[Batch]) -> None:
        """Read `source` to its end; a batch that is not full leaves when nothing more came for `LINGER_S`."""
        write, chunks = trio.open_memory_channel[bytes](1)
        async with batches, trio.open_nursery() as nursery:
            nursery.start_soon(_read_all, source, write)
            while True:
                with trio.move_on_after(LINGER_S if self._batches.waiting else math.inf) as linger:
                    try:
                        chunk = await chunks.receive()
                    except trio.EndOfChannel:
                        break
                if linger.cancelled_caught:
                    await _send_all(self._batches.take(), batches)
                else:
                    await self._pass_on(self._reader.feed(chunk), batches)
            await self._pass_on(self._reader.end(), batches)
            await _send_all(self._batches.take(), batches)

    async def _pass_on(self, lines: Iterator[Line], batches: trio.MemorySendChannel[Batch]) -> None:
        for line in lines:
            if isinstance(line, BadLine):
                note_bad_line(line, self._tally, self._watch)
                continue
            await _send_all(self._batches.add(line), batches)


async def _send_all(made: Iterator[Batch], batches: trio.MemorySendChannel[Batch]) -> None:
    for batch in made:
        await batches.send(batch)


async def check(source: EventSource, tally: ProduceTally, watch: Watch) -> int:
    """Look at every line and send nothing; how many events there are. Bad lines are counted and told."""
    reader = EventReader()
    events = 0
    while data := await source.read():
        events += count_events(reader.feed(data), tally, watch)
    return events + count_events(reader.end(), tally, watch)


def count_events(lines: Iterator[Line], tally: ProduceTally, watch: Watch) -> int:
    """How many of these lines are events; the others are counted and told."""
    events = 0
    for line in lines:
        if isinstance(line, BadLine):
            note_bad_line(line, tally, watch)
        else:
            events += 1
    return events


def note_bad_line(line: BadLine, tally: ProduceTally, watch: Watch) -> None:
    """Count a bad line, and tell it unless its like was told."""
    tally.malformed += 1
    if line.again:
        return
    if len(tally.bad_lines) < MAX_BAD_LINES:
        tally.bad_lines.append(line)
    watch.bad_line(line)


async def produce(
    producer: "Producer", source: EventSource, batch_events: int, ring: Ring | None = None
) -> None:
    """Everything in `source` into the log; raises as `Producer.send` does, and what `source` raises.

    With a `ring`, each batch is for one of its partitions.
    """
    send, batches = trio.open_memory_channel[Batch](0)
    cutter = BatchCutter(producer.batch_events(batch_events), producer.tally, producer.watch, ring)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cutter.run, source, send)
            await producer.send(batches)
    except BaseExceptionGroup as group:
        raise _the_declared(group) from None


async def _read_all(source: EventSource, chunks: trio.MemorySendChannel[bytes]) -> None:
    async with chunks:
        while data := await source.read():
            await chunks.send(data)


def _the_declared(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first declared error when there is nothing else in the group; otherwise the group."""
    declared, rest = group.split(EventStreamError)
    return group if rest is not None or declared is None else first_of(declared)
