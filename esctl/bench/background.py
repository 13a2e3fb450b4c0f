"""`python -m esctl.bench.background DIRECTORY`: a steady load that outlives the command that started it.

Sends what `plan.json` says until its time is over or SIGTERM, in any state of the cluster; writes a sample
every 100 ms and a ledger of the acks. It also follows the log, and so notices at once if an acked event is
not at its offset. Prints only that it is ready. Started by `backgroundloads.py`.
"""

import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import trio

from esctl.bench import backgroundloads, ledger
from esctl.bench.generator import Generator
from esctl.bench.ledger import Ledger, LoadPlan
from esctl.bench.openloop import MOST_BEHIND_S, WINDOW, OpenLoop, PassedOver, Turn
from esctl.clusters import jsonlines, state
from esctl.clusters.detached import say_ready
from esctl.events.producer import Appender
from esnode.client import BatchSubscription, connect
from esnode.dedup.batch import UNKNOWN_OFFSET, OffsetRange, split_keys
from esnode.errors import EventStreamError

SAMPLE_S: Final = 0.1
RECENT_S: Final = 1.0
"""The latencies of a sample are those of the acks of so long, and the waits of what was passed over."""
PASSED_OVER_PARTS: Final = 100
"""Into so many equal parts is cut what was passed over at once, however much it was."""
APPEND_TIMEOUT_S: Final = 10.0
DRAIN_S: Final = 2.0
"""How long the last acks are waited for after SIGTERM."""
REMEMBERED: Final = 200_000
"""Events of the log that are kept until their acks come."""


class Witness:
    """Holds acks against the log as it is followed: an acked event must be at its offset."""

    def __init__(self) -> None:
        self.lost = 0
        self.checked = 0
        self._position = 0
        self._seen: dict[int, bytes] = {}
        """What the log has where no ack has come yet; the oldest is dropped first."""
        self._due: dict[int, bytes] = {}
        """What was acked beyond what has been read."""

    def acked(self, keys: bytes, ranges: Sequence[OffsetRange]) -> None:
        """These events were acked there."""
        offsets = [
            part.base_offset + n if part.base_offset != UNKNOWN_OFFSET else UNKNOWN_OFFSET
            for part in ranges
            for n in range(part.count)
        ]
        for offset, key in zip(offsets, split_keys(keys), strict=False):
            if offset >= self._position:
                self._due[offset] = key
            elif offset in self._seen:
                self._judge(key, self._seen.pop(offset))

    def read(self, offset: int, keys: Sequence[bytes]) -> None:
        """The log has these events from `offset` on; what lies before was passed over, or read already."""
        skipped = [at for at in self._due if self._position <= at < offset] if offset > self._position else []
        for at in skipped:
            self._judge(self._due.pop(at), b"")
        for at, key in enumerate(keys, start=offset):
            due = self._due.pop(at, None)
            if due is None:
                self._seen[at] = key
            else:
                self._judge(due, key)
        self._position = max(self._position, offset + len(keys))
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def _judge(self, acked: bytes, found: bytes) -> None:
        self.checked += 1
        self.lost += acked != found


@dataclass(frozen=True, slots=True)
class _Latency:
    """What events had waited since they were due, as it was known `at_s`."""

    at_s: float
    latency_ms: float
    events: float
    acked: int


class BackgroundLoad:
    """The load, its figures and its books."""

    def __init__(
        self,
        log: Appender,
        plan: LoadPlan,
        books: Ledger,
        samples: TextIO,
    ) -> None:
        self.witnesses = {number: Witness() for number in range(len(plan.sources))}
        """Of each partition."""
        self.stopping = trio.Event()
        self._log, self._plan, self._books, self._samples = log, plan, books, samples
        self._generator = Generator(plan.run, plan.size, plan.batch, plan.sources)
        self._several = len(plan.sources) > 1
        self._loop = OpenLoop(
            plan.rate, plan.batch, most_behind_s=MOST_BEHIND_S, passed_over=self._take_passed_over
        )
        self._sent = self._acked = self._failed = self._unknown = 0
        self._recent: deque[_Latency] = deque()
        self._begun_s = self._last_ack_s = trio.current_time()
        self._longest_gap_s = 0.0

    async def run(self) -> None:
        """Send until the time is over or `stopping`; then wait for the last answers."""
        async with trio.open_nursery() as sampling:
            sampling.start_soon(self._sample)
            async with trio.open_nursery() as sending:
                sending.start_soon(self._loop.run, self._append, trio.current_time())
                with trio.move_on_after(self._plan.seconds):
                    await self.stopping.wait()
                self._loop.end()
                sending.cancel_scope.deadline = trio.current_time() + DRAIN_S
            sampling.cancel_scope.cancel()
        self._write(running=False)

    async def _append(self, turn: Turn) -> None:
        first, batch = self._generator.made, self._generator.next_batch()
        begun_s, count = trio.current_time(), batch.count
        owner = first // self._plan.batch % len(self._plan.sources) if self._several else None
        self._sent += count
        try:
            taken = await self._log.append_batch(batch)
        except EventStreamError as error:
            times = (begun_s, trio.current_time())
            self._books.failed(first, count, times, definite=error.definite, partition=owner)
            self._failed += count if error.definite else 0
            self._unknown += 0 if error.definite else count
            return
        now_s = trio.current_time()
        if self._several and taken.partitions:
            owner = taken.partitions[0]  # a batch is of one source
        self._books.acked(first, count, (begun_s, now_s), taken.ranges, taken.duplicates, owner)
        if (witness := self.witnesses.get(owner or 0)) is not None:
            witness.acked(batch.keys, taken.ranges)
        self._acked += count
        self._longest_gap_s = max(self._longest_gap_s, now_s - self._last_ack_s)
        self._last_ack_s = now_s
        self._recent.append(_Latency(now_s, (now_s - turn.due_s) * 1000, count, acked=count))

    def _take_passed_over(self, turns: PassedOver) -> None:
        """They would have waited for longer than they had when they were given up: at least that counts."""
        now_s, events = trio.current_time(), turns.count * self._plan.batch
        parts = min(turns.count, PASSED_OVER_PARTS)
        for part in range(parts):
            share = part / max(1, parts - 1)
            waited_s = turns.newest_s + share * (turns.oldest_s - turns.newest_s)
            self._recent.append(_Latency(now_s, waited_s * 1000, events / parts, acked=0))

    async def _sample(self) -> None:
        while True:
            self._write(running=True)
            await trio.sleep(SAMPLE_S)

    def _write(self, *, running: bool) -> None:
        """One sample, and with it the ledger: neither is far behind the other."""
        now_s = trio.current_time()
        while self._recent and self._recent[0].at_s < now_s - RECENT_S:
            self._recent.popleft()
        latencies = sorted(self._recent, key=lambda one: one.latency_ms)
        span_s = min(RECENT_S, max(SAMPLE_S, now_s - self._begun_s))
        silence_s = now_s - self._last_ack_s
        sample: ledger.SampleData = {
            "at": round(time.time(), 3),
            "running": running,
            "sent": self._sent,
            "acked": self._acked,
            "failed": self._failed,
            "unknown": self._unknown,
            "waiting": self._sent - self._acked - self._failed - self._unknown,
            "rate_per_s": round(sum(one.acked for one in self._recent) / span_s, 1),
            "p50_ms": _percentile(latencies, 50),
            "p99_ms": _percentile(latencies, 99),
            "max_ms": _percentile(latencies, 100),
            "silence_ms": round(silence_s * 1000, 1),
            "longest_gap_ms": round(max(self._longest_gap_s, silence_s) * 1000, 1),
            "acked_lost": sum(witness.lost for witness in self.witnesses.values()),
            "checked": sum(witness.checked for witness in self.witnesses.values()),
        }
        self._samples.write(jsonlines.line_of(sample).decode())
        self._samples.flush()
        self._books.flush()


def _percentile(ordered: Sequence[_Latency], percent: int) -> float | None:
    """The smallest latency that no more than the rest of 100 percent of the events exceed; None of none."""
    rank, below = sum(one.events for one in ordered) * percent / 100, 0.0
    for one in ordered:
        below += one.events
        if below >= rank * (1 - 1e-9):  # the parts of what was passed over are fractions
            return round(one.latency_ms, 3)
    return None


async def follow(subscription: BatchSubscription, witness: Witness) -> None:
    """Show the witness the log as it grows; ends when retention has cut what comes next."""
    try:
        async for batch in subscription:
            witness.read(batch.offset, batch.keys())
    except EventStreamError:
        return  # it can be told no more; what was checked is in the samples


async def work(directory: Path, plan: LoadPlan) -> None:
    """All of it."""
    from esctl.query.barrier import confirmed_end
    from esctl.query.eachpartition import of_each

    backgroundloads.note_self(directory)
    cluster = state.load(plan.cluster)
    ends = await of_each(
        cluster, lambda partition: confirmed_end(cluster, APPEND_TIMEOUT_S, partition=partition)
    )
    opened = connect(cluster.addresses, cluster=cluster.identity, window=WINDOW, timeout_s=APPEND_TIMEOUT_S)
    with (
        (directory / ledger.LEDGER).open("a", encoding="ascii") as books,
        (directory / ledger.SAMPLES).open("a", encoding="ascii") as samples,
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals,
    ):
        async with opened as log, trio.open_nursery() as nursery:
            load = BackgroundLoad(log, plan, Ledger(books), samples)
            for number, witness in load.witnesses.items():
                partition = number if cluster.partitions > 1 else None
                batches = log.subscribe_batches(ends[number].next_offset, partition=partition)
                nursery.start_soon(follow, batches, witness)
            nursery.start_soon(_heed, signals, load.stopping)
            say_ready()
            await load.run()
            nursery.cancel_scope.cancel()


async def _heed(signals: Any, stopping: trio.Event) -> None:
    await anext(signals)
    stopping.set()


def main(arguments: Sequence[str]) -> int:
    """The program; its exit code. Why it ended at once goes to standard error."""
    directory = Path(arguments[0])
    try:
        trio.run(work, directory, ledger.read_plan(directory))
    except EventStreamError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
