"""From the SIGKILL of the leader to the next ack, through the client, measured again and again.

python -m tests.torture.failover --times 20 [--rate 1000] [--aim-ms 150] [--storage ENGINE]

What counts is the first ack of a batch that was handed to the client after the kill: the dead leader
cannot have acked that one.
"""

import argparse
import secrets
import statistics
import sys
from dataclasses import dataclass, field

import trio

from esctl.exits import Exit
from esctl.load.generator import Generator
from esnode.client import Log, connect
from esnode.errors import EventStreamError
from tests.torture.arena import Arena, arena
from tests.torture.campaign import Settings, options, report, say, settings_of
from tests.torture.load import APPEND_TIMEOUT_S, EVENT_BYTES

WINDOW = 1024
SETTLE_S = 1.0


@dataclass
class Probe:
    """One event at a time, so many a second; says when the first one after `since_s` is acked."""

    rate: float
    since_s: float = float("inf")
    first_ack_s: float = float("nan")
    acked_since: trio.Event = field(default_factory=trio.Event)
    acked: int = 0
    failed: int = 0

    def begin(self) -> None:
        """The kill comes now."""
        self.since_s, self.acked_since = trio.current_time(), trio.Event()

    async def run(self, log: Log) -> None:
        generator = Generator(secrets.token_hex(8), EVENT_BYTES, 1)
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._append, log, generator)
                await trio.sleep(1 / self.rate)

    async def _append(self, log: Log, generator: Generator) -> None:
        sent_s = trio.current_time()
        try:
            await log.append_batch(generator.next_batch())
        except EventStreamError:
            self.failed += 1
            return
        self.acked += 1
        if sent_s > self.since_s and not self.acked_since.is_set():
            self.first_ack_s = trio.current_time()
            self.acked_since.set()


async def measure(ring: Arena, times: int, rate: float, found_ms: list[float]) -> Probe:
    """Kill the leader, take the time, start it again, and let the cluster settle."""
    await ring.start(ring.numbers)
    await ring.leader()
    cluster = ring.cluster
    probe = Probe(rate)
    opened = connect(cluster.addresses, cluster=cluster.identity, window=WINDOW, timeout_s=APPEND_TIMEOUT_S)
    async with opened as log, trio.open_nursery() as nursery:
        nursery.start_soon(probe.run, log)
        for turn in range(times):
            await ring.wait_caught_up()
            await trio.sleep(SETTLE_S)
            leader = await ring.leader()
            probe.begin()
            await ring.backend.kill(cluster, leader)  # nothing runs before the signal is sent
            await probe.acked_since.wait()
            found_ms.append((probe.first_ack_s - probe.since_s) * 1000)
            say(f"failover {turn + 1}: node {leader}, {found_ms[-1]:.0f} ms")
            await ring.start([leader])
        nursery.cancel_scope.cancel()
    return probe


def run(settings: Settings, aim_ms: float) -> Exit:
    """The whole run; prints its one line."""
    found_ms: list[float] = []
    with arena(settings.storage, settings.home) as ring:
        probe = trio.run(measure, ring, settings.times, settings.rate, found_ms)
    ordered = sorted(found_ms)
    worst_ms = ordered[-1] if ordered else float("nan")
    figures = {
        "storage": settings.storage,
        "times": len(ordered),
        "rate": settings.rate,
        "min_ms": round(ordered[0], 1) if ordered else None,
        "median_ms": round(statistics.median(ordered), 1) if ordered else None,
        # Of 20 values the 99th percentile is the largest.
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1) if ordered else None,
        "max_ms": round(worst_ms, 1),
        "aim_ms": aim_ms,
        "all_ms": [round(one, 1) for one in found_ms],
        "acked": probe.acked,
        "failed": probe.failed,
    }
    return report("failover", figures, clean=worst_ms <= aim_ms, conclusive=len(ordered) == settings.times)


def parser() -> argparse.ArgumentParser:
    parser = options(__doc__, times=20, rate=1_000)
    parser.add_argument("--aim-ms", type=float, default=150, help="what the slowest may take")
    return parser


if __name__ == "__main__":
    chosen = parser().parse_args()
    sys.exit(run(settings_of(chosen), chosen.aim_ms))
