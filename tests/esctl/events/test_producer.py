"""The producer: its window, its rate, its count, what it says in a silence, and what ends it."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from esctl.events.ndjson import BadLine, GoodLine
from esctl.events.producer import PartitionedBatches, Producer, ProduceTally, Watch, check, produce
from esnode.client import BatchAck
from esnode.dedup.batch import Batch, OffsetRange, split_keys
from esnode.errors import EventStreamError, EventTooLarge, NoQuorum, OperationTimeout, Unreachable
from esnode.events import decode_events, encode_event, key_of
from esnode.ring import Ring


def lines(*numbers: int) -> bytes:
    events = [{"id": str(n), "source": "/test", "type": "t"} for n in numbers]
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@dataclass
class Chunks:
    """An input that gives these bytes; a number is a pause in seconds."""

    parts: deque[bytes | float]

    @classmethod
    def of(cls, *parts: bytes | float) -> "Chunks":
        return cls(deque(parts))

    async def read(self) -> bytes:
        while self.parts:
            part = self.parts.popleft()
            if isinstance(part, bytes):
                return part
            await trio.sleep(part)
        return b""


@dataclass
class Log:
    """A log that acks after `delay_s`, or raises what `fails` says of a batch."""

    delay_s: float = 0.01
    fails: Callable[[list[str]], EventStreamError | None] = lambda _ids: None
    resent: bool = False
    leader_until_s: float = float("inf")
    """After this nothing leaves any more."""
    known: set[bytes] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    begun_s: float = field(default_factory=trio.current_time)
    under_way: int = 0
    most_under_way: int = 0

    async def append_batch(self, batch: Batch, *, on_sent: Callable[[], None] | None = None) -> BatchAck:
        if on_sent is not None and trio.current_time() - self.begun_s < self.leader_until_s:
            on_sent()
        ids = [event["id"] for event in decode_events(batch.payload)]
        self.ids += ids
        self.sizes.append(batch.count)
        self.times.append(trio.current_time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await trio.sleep(self.delay_s)
        finally:
            self.under_way -= 1
        error = self.fails(ids)
        if error is not None:
            raise error
        keys = split_keys(batch.keys)
        duplicates = sum(key in self.known for key in keys)
        self.known.update(keys)
        return BatchAck((OffsetRange(0, batch.count),), duplicates, self.resent)


async def test_every_event_is_sent_in_the_order_of_the_input(autojump_clock: trio.abc.Clock) -> None:
    log = Log()
    producer = Producer(log, window=7)
    await produce(producer, Chunks.of(lines(*range(500)), lines(*range(500, 1000))), 64)
    assert log.ids == [str(n) for n in range(1000)]
    assert log.most_under_way == 7
    assert max(log.sizes) == 64
    tally = producer.tally
    assert (tally.sent, tally.acked, tally.duplicates, tally.failed, tally.unknown) == (1000, 1000, 0, 0, 0)
    assert tally.seconds == pytest.approx(0.03, abs=0.005)
    assert tally.events_per_s == pytest.approx(1000 / tally.seconds)


async def test_events_that_were_there_before_are_counted_as_duplicates(
    autojump_clock: trio.abc.Clock,
) -> None:
    log = Log()
    await produce(Producer(log, window=2), Chunks.of(lines(*range(100))), 10)
    log.resent = True
    again = Producer(log, window=2)
    await produce(again, Chunks.of(lines(*range(90, 110))), 10)
    assert again.tally.as_data() | {"seconds": 0, "events_per_s": 0} == {
        "sent": 20, "acked": 20, "duplicates": 10, "resent_duplicates": 10, "failed": 0, "unknown": 0,
        "seconds": 0, "events_per_s": 0,
    }  # fmt: skip


async def test_a_slow_input_is_passed_on_at_once(autojump_clock: trio.abc.Clock) -> None:
    log = Log()
    await produce(Producer(log, window=2), Chunks.of(lines(1, 2), 5.0, lines(3), 5.0, lines(4)), 64)
    assert log.sizes == [2, 1, 1]
    assert [round(at - log.times[0], 1) for at in log.times] == [0, 5, 10]


async def test_a_rate_is_kept_and_its_batches_are_small(autojump_clock: trio.abc.Clock) -> None:
    log = Log()
    producer = Producer(log, window=8, rate=500)
    await produce(producer, Chunks.of(lines(*range(1000))), 64)
    assert max(log.sizes) == 5
    assert log.times[-1] - log.times[0] == pytest.approx(1000 / 500, abs=0.05)
    assert Producer(log, window=8).batch_events(64) == 64


async def test_a_bad_line_is_counted_and_told_and_the_rest_goes_in(autojump_clock: trio.abc.Clock) -> None:
    log, told = Log(), list[BadLine]()
    producer = Producer(log, window=2, watch=Watch(bad_line=told.append))
    await produce(producer, Chunks.of(lines(1) + b"{oops\n" + lines(3) + b'{"id":"4"}\n' + lines(5)), 64)
    assert log.ids == ["1", "3", "5"]
    assert [line.number for line in told] == [2, 4]
    assert producer.tally.bad_lines == told
    assert (producer.tally.acked, producer.tally.failed) == (3, 2)


async def test_a_check_sends_nothing_and_sees_every_line(autojump_clock: trio.abc.Clock) -> None:
    tally, told = ProduceTally(), list[BadLine]()
    events = await check(Chunks.of(lines(1), b"\n[]\n", b'{"id": "4"'), tally, Watch(bad_line=told.append))
    assert events == 1
    assert [line.number for line in told] == [3, 4]
    assert (tally.sent, tally.malformed) == (0, 2)


async def test_a_refused_batch_is_counted_and_the_rest_goes_in(autojump_clock: trio.abc.Clock) -> None:
    def fails(ids: list[str]) -> EventStreamError | None:
        return EventTooLarge("too large") if "3" in ids else None

    refused = list[str]()
    log = Log(fails=fails)
    watch = Watch(refused=lambda _batch, error: refused.append(str(error)))
    producer = Producer(log, window=1, watch=watch)
    await produce(producer, Chunks.of(lines(*range(6))), 2)
    tally = producer.tally
    assert (tally.sent, tally.acked, tally.failed, tally.unknown) == (6, 4, 2, 0)
    assert refused == ["too large"]
    assert tally.refusals == ["ES1002"]


@pytest.mark.parametrize("error", [OperationTimeout("late"), Unreachable("nobody")])
async def test_what_has_no_answer_ends_it_and_is_counted_as_unknown(
    error: EventStreamError, autojump_clock: trio.abc.Clock
) -> None:
    log = Log(fails=lambda ids: error if "20" in ids else None)
    producer = Producer(log, window=4)
    with pytest.raises(type(error)) as caught:
        await produce(producer, Chunks.of(lines(*range(1000))), 10)
    assert caught.value is error
    tally = producer.tally
    assert tally.unknown >= 10
    assert tally.sent == tally.acked + tally.unknown < 1000


@pytest.mark.parametrize("error", [NoQuorum("nobody leads"), Unreachable("nobody")])
async def test_what_never_left_is_neither_sent_nor_unknown(
    error: EventStreamError, autojump_clock: trio.abc.Clock
) -> None:
    silent = list[float]()

    async def silence(seconds: float) -> None:
        silent.append(seconds)

    log = Log(delay_s=30, fails=lambda _ids: error, leader_until_s=0)
    producer = Producer(log, window=4, watch=Watch(silence=silence))
    with pytest.raises(type(error)):
        await produce(producer, Chunks.of(lines(*range(1000))), 10)
    tally = producer.tally
    assert (tally.sent, tally.acked, tally.failed, tally.unknown) == (0, 0, 0, 0)
    assert silent  # it waited, and that was told


async def test_what_waits_for_a_leader_at_ctrl_c_is_not_unknown(autojump_clock: trio.abc.Clock) -> None:
    producer = Producer(Log(delay_s=0.1, leader_until_s=0.25), window=4)
    with trio.move_on_after(0.35):
        await produce(producer, Chunks.of(lines(*range(1000))), 10)
    tally = producer.tally
    assert (tally.sent, tally.acked, tally.unknown) == (120, 120, 0)


async def test_ctrl_c_leaves_a_count_that_adds_up(autojump_clock: trio.abc.Clock) -> None:
    producer = Producer(Log(delay_s=0.1), window=4)
    with trio.move_on_after(0.25):
        await produce(producer, Chunks.of(lines(*range(1000))), 10)
    tally = producer.tally
    assert (tally.sent, tally.acked, tally.unknown) == (120, 80, 40)


async def test_a_silence_is_told_and_so_is_its_end(autojump_clock: trio.abc.Clock) -> None:
    silent, recovered = list[float](), list[float]()

    async def silence(seconds: float) -> None:
        silent.append(seconds)

    watch = Watch(silence=silence, recovered=recovered.append)
    await produce(Producer(Log(delay_s=3.0), window=4, watch=watch), Chunks.of(5.0, lines(1)), 10)
    assert silent[0] == pytest.approx(1.0, abs=0.3)
    assert len(silent) > 1
    assert recovered == [pytest.approx(3.0, abs=0.01)]


async def test_nobody_is_told_of_a_silence_when_nothing_is_under_way(autojump_clock: trio.abc.Clock) -> None:
    silent = list[float]()

    async def silence(seconds: float) -> None:
        silent.append(seconds)

    source = Chunks.of(lines(1), 60.0, lines(2), 60.0)
    await produce(Producer(Log(), window=4, watch=Watch(silence=silence)), source, 10)
    assert silent == []


# --- several partitions ---------------------------------------------------------------------------


def good(source: str, number: int) -> GoodLine:
    event = {"id": str(number), "source": source, "type": "t"}
    return GoodLine(number, encode_event(event), key_of(event))


ZERO, THREE = "/nyc/EWR", "/s"
"""Sources of partitions 0 and 3 of four: see docs/protocol.md."""


def test_each_batch_is_of_one_partition_and_full() -> None:
    batches = PartitionedBatches(4, Ring(1, range(4)))
    made = [batch for n in range(16) for batch in batches.add(good((ZERO, THREE)[n % 2], n))]
    assert not batches.waiting
    assert [[int(event["id"]) for event in decode_events(batch.payload)] for batch in made] == [
        [0, 2, 4, 6], [1, 3, 5, 7], [8, 10, 12, 14], [9, 11, 13, 15],
    ]  # fmt: skip


def test_an_event_of_a_partition_with_few_events_waits_for_a_bounded_number_of_others() -> None:
    batches = PartitionedBatches(4, Ring(1, range(4)))
    assert list(batches.add(good(THREE, 0))) == []
    after = next(n for n in range(1, 100) for batch in batches.add(good(ZERO, n)) if batch.count == 1)
    assert after == 16


def test_what_waits_is_taken_whole_and_once() -> None:
    batches = PartitionedBatches(4, Ring(1, range(4)))
    for number, source in enumerate((ZERO, THREE, ZERO)):
        assert list(batches.add(good(source, number))) == []
    assert [batch.count for batch in batches.take()] == [2, 1]
    assert not batches.waiting
    assert list(batches.take()) == []
