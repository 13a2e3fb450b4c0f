"""What one follower behind a slow link costs the others: the client's latency, the leader's memory.

    python -m bench.slowlink [--rate 20000] [--bits 1000000] [--seconds 20] [--slow-seconds 60]

All that the other nodes say to one follower goes through `bench.throttle`. One load goes on all the time:
first over a link without a bound, then over the slow one, and without a bound again once the follower is
level. The log is filled before until the deduplication window is full, so that what grows later is not that.
"""

import argparse
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import trio

from bench import testcluster
from bench.floor.cluster import on_a_leash
from bench.floor.sockets import HOST
from bench.testcluster import Ground, note, ratio, say, written
from esctl.bench.latency import Percentiles, new_histogram, percentiles_of
from esctl.bench.runner import Load
from esnode.config import Address, Config

SLOW: Final = 3
"""The node behind the link."""
SETTLE_S: Final = 2.0
"""After each change, before it is measured."""
LOOK_EVERY_S: Final = 0.5
BAR_P99_RATIO: Final = 1.5
BAR_MEMORY_RATIO: Final = 2.0
"""The leader's largest memory with the slow link, by the largest without: more is called unbounded."""


class Link:
    """The way to the slow follower, and the process that makes it slow."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self._address = Address(HOST, port)
        self._process = process

    def set_rate(self, bits_per_s: float) -> None:
        """From now on; 0 is no bound."""
        self._order(f"rate {bits_per_s:g}")

    def leads_to(self, config: Config) -> Config:
        """The configuration of a node for which the follower is at the other end of the link."""
        if config.node_id == SLOW:
            self._order(f"to {config.me.peer}")
            return config
        members = tuple(
            replace(member, peer=self._address) if member.id == SLOW else member for member in config.members
        )
        return replace(config, members=members)

    def _order(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode("ascii") + b"\n")
        self._process.stdin.flush()


@contextmanager
def link() -> Iterator[Link]:
    """A link without a bound; gone at the end of the block."""
    with socket.create_server((HOST, 0)) as listener:
        port, descriptor = listener.getsockname()[1], listener.fileno()
        process = subprocess.Popen(  # noqa: S603 - our own command line
            on_a_leash("bench.throttle", str(descriptor)), stdin=subprocess.PIPE, pass_fds=[descriptor],
            start_new_session=True,
        )  # fmt: skip
    with process:
        try:
            yield Link(port, process)
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Look:
    """The leader at one moment."""

    at_s: float
    rss_bytes: int
    inflight_bytes: int
    """Sent to the follower and not confirmed."""
    outbox_bytes: int
    """Waiting for the connection to take it."""
    behind_entries: int


@dataclass(frozen=True, slots=True)
class Memory:
    """The leader's memory during a stretch."""

    largest_bytes: int
    slope_bytes_per_s: float
    """Of a straight line through it (least squares)."""
    inflight_bytes: int
    outbox_bytes: int
    """The largest of each."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured: without the slow link, before and after; and with it."""

    normal: Percentiles
    slow: Percentiles
    normal_parts: tuple[Percentiles, Percentiles]
    normal_memory: Memory
    slow_memory: Memory
    slow_kept_up: float
    behind_entries: int
    """How far the follower was behind at the end."""
    level_after_s: float
    """For how long it then caught up without a bound."""

    @property
    def p99_ratio(self) -> float | None:
        """By how much the 99th percentile rose."""
        return ratio(self.slow.p99, self.normal.p99)

    @property
    def memory_ratio(self) -> float:
        """The leader's largest memory, by what it was before."""
        return self.slow_memory.largest_bytes / self.normal_memory.largest_bytes


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = testcluster.parser("slowlink", "Measure what a follower behind a slow link costs the others")
    made.add_argument("--rate", type=float, default=20_000, help="events a second")
    made.add_argument("--bits", type=float, default=1_000_000, help="bits a second of the slow link")
    made.add_argument("--seconds", type=float, default=20.0, help="measure so long without it, twice")
    made.add_argument("--slow-seconds", type=float, default=60.0, help="and so long with it")
    made.add_argument("--fill", type=int, default=2_200_000, help="events in the log before")
    return made


async def measure(options: argparse.Namespace) -> tuple[Found, list[Look]]:
    """Make the cluster and the link, and measure without, with, and without it."""
    with link() as way:
        home = testcluster.home_of(options)
        async with (
            testcluster.ground(home, options.storage, way.leads_to) as cluster,
            cluster.client() as log,
        ):
            if await cluster.leader() == SLOW:
                await cluster.stop(SLOW)  # it hands over
                await cluster.start(SLOW)
            leader = await cluster.leader()
            note(f"node {leader} leads; filling {options.fill:,} events")
            await testcluster.fill(log, options.fill, options.batch, options.size)
            await cluster.wait_level(SLOW, leader)
            async with testcluster.loaded(log, options.rate, options.batch, options.size) as load:
                return await _phases(cluster, leader, way, load, options)


async def _phases(
    cluster: Ground, leader: int, way: Link, load: Load, options: argparse.Namespace
) -> tuple[Found, list[Look]]:
    looks: list[Look] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, cluster, leader, looks)
        await trio.sleep(SETTLE_S)
        before = await testcluster.stretch(options.seconds)
        note(f"the link to node {SLOW} carries {options.bits:,.0f} bits/s now")
        way.set_rate(options.bits)
        await trio.sleep(SETTLE_S)
        slow = await testcluster.stretch(options.slow_seconds)
        behind = looks[-1].behind_entries
        way.set_rate(0)
        begun = trio.current_time()
        await cluster.wait_level(SLOW, leader)
        level_after_s = trio.current_time() - begun
        await trio.sleep(SETTLE_S)
        after = await testcluster.stretch(options.seconds)
        await trio.sleep(SETTLE_S)
        nursery.cancel_scope.cancel()
    both = new_histogram()
    for part in (before, after):
        both.add(load.recorder.histogram(part.begin_s, part.end_s, intended=True))
    found = Found(
        percentiles_of(both),
        slow.latencies(load),
        (before.latencies(load), after.latencies(load)),
        memory_of([look for look in looks if before.begin_s <= look.at_s < before.end_s]),
        memory_of([look for look in looks if slow.begin_s <= look.at_s < slow.end_s]),
        slow.kept_up(load, options.rate),
        behind,
        level_after_s,
    )
    return found, looks


async def _watch(cluster: Ground, leader: int, looks: list[Look]) -> None:
    while True:
        looks.append(look_of(await cluster.status(leader), trio.current_time()))
        await trio.sleep(LOOK_EVERY_S)


def look_of(status: dict[str, Any], at_s: float) -> Look:
    """What a leader says of itself."""
    peer = status["peers"][str(SLOW)]
    return Look(
        at_s,
        status["rss_bytes"],
        peer["inflight_bytes"],
        peer["outbox_bytes"],
        status["last_index"] - peer["match_index"],
    )


def memory_of(looks: Sequence[Look]) -> Memory:
    """The largest of each, and the slope."""
    line = statistics.linear_regression([look.at_s for look in looks], [look.rss_bytes for look in looks])
    return Memory(
        max(look.rss_bytes for look in looks),
        line.slope,
        max(look.inflight_bytes for look in looks),
        max(look.outbox_bytes for look in looks),
    )


def as_text(found: Found) -> list[str]:
    """For people."""
    first, last = found.normal_parts
    lines = [f"{'client, ms':14}{'p50':>10}{'p99':>10}{'p99.9':>10}"]
    for name, value in (("before", first), ("slow link", found.slow), ("after", last)):
        lines.append(f"{name:14}" + "".join(f"{written(x):>10}" for x in (value.p50, value.p99, value.p999)))
    lines.append(f"{'leader, MB':14}{'largest':>10}{'a minute':>10}{'in flight':>10}{'waiting':>10}")
    for name, memory in (("before", found.normal_memory), ("slow link", found.slow_memory)):
        of_it = (
            memory.largest_bytes,
            60 * memory.slope_bytes_per_s,
            memory.inflight_bytes,
            memory.outbox_bytes,
        )
        lines.append(f"{name:14}" + "".join(f"{written(x / 1e6):>10}" for x in of_it))
    lines.append(
        f"{found.behind_entries:,} entries behind at the end, level {found.level_after_s:.2f} s later;"
        f" {found.slow_kept_up:.1%} acked"
    )
    calm = "met" if (found.p99_ratio or BAR_P99_RATIO + 1) <= BAR_P99_RATIO else "missed"
    bounded = "met" if found.memory_ratio <= BAR_MEMORY_RATIO else "missed"
    lines.append(
        f"p99 x {written(found.p99_ratio, 2)}, memory x {found.memory_ratio:.2f};"
        f" bars: p99 x {BAR_P99_RATIO:g} {calm}, memory x {BAR_MEMORY_RATIO:g} {bounded}"
    )
    return lines


def main(words: Sequence[str] | None = None) -> int:
    """Measure and tell; the exit code."""
    made = parser()
    options = made.parse_args(words)
    testcluster.refuse_below(made, options, rate=1, bits=1000, seconds=2, slow_seconds=2, fill=0, batch=1)

    async def go() -> None:
        with testcluster.document(options) as figures:
            found, looks = await measure(options)
            figures |= {**asdict(found), "p99_ratio": found.p99_ratio, "memory_ratio": found.memory_ratio}
            figures["leader"] = [asdict(look) for look in looks]
            say("\n".join(as_text(found)))

    return testcluster.run("slowlink", go)


if __name__ == "__main__":
    sys.exit(main())
