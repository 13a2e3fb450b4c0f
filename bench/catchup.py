"""How fast a follower that has nothing gets level, and what clients feel meanwhile.

    python -m bench.catchup [--events 3000000] [--rate 20000] [--behind-prefix] [--keep-directory]

Fills the log of three nodes while one of them is down, removes that one's data directory, and starts it again
under an open-loop load, as an operator would: `esctl node stop`, `rm -r`, `esctl node start`. It rejoins, and
has to fetch everything. With --behind-prefix retention has cut half of the log before: it gets the snapshot,
then the rest. Events a second count from the start of its process until it lacks nothing.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Final

import trio

from bench import testcluster
from bench.testcluster import Answers, Ground, Stretch, note, ratio, say, written
from esctl.bench.latency import Percentiles
from esctl.bench.runner import Load
from esnode.config import Config, Retention

KEY_AND_HEAD_BYTES: Final = 18
"""What an event takes in the log besides itself, at least: its key, and the head of its byte string."""
CHECK_EVERY_MS: Final = 500
"""How often a node looks whether its log is over its bounds, with --behind-prefix."""
SETTLE_S: Final = 1.0
"""The load is left alone for so long before it is measured."""
BAR_EVENTS_PER_S: Final = 300_000
BAR_P99_RATIO: Final = 2.0


@dataclass(slots=True)
class Intake:
    """What the follower said of itself while it caught up."""

    begun_s: float
    """When its process was started, on trio's clock."""
    first_offset: int = 0
    next_offset: int = 0
    entries: int = 0
    first_came_s: float | None = None
    """When it was first seen to have something."""
    follower_cpu_s: float = 0.0
    leader_cpu_s: float = 0.0
    """Processor time since their processes began."""
    points: list[tuple[float, int, int]] = field(default_factory=list)
    """Seconds from its start, the offset it had then, and what was in flight to it, in bytes."""

    def saw(self, answers: Answers) -> None:
        """Both have answered."""
        mine, leader = answers.follower, answers.leader
        self.first_offset, self.next_offset = mine["first_offset"], mine["next_offset"]
        self.entries = mine["last_index"] - mine["prefix_index"]
        self.follower_cpu_s, self.leader_cpu_s = mine["cpu_s"], leader["cpu_s"]
        if self.first_came_s is None and self.next_offset:
            self.first_came_s = answers.at_s
        inflight_bytes = leader["peers"][str(mine["id"])]["inflight_bytes"]
        self.points.append((round(answers.at_s - self.begun_s, 3), self.next_offset, inflight_bytes))

    @property
    def events(self) -> int:
        """How many it has fetched; those that only its snapshot covers do not count."""
        return self.next_offset - self.first_offset

    @property
    def inflight_bytes(self) -> float:
        """What was on its way to it at a time, on average: little means that it waited for the leader."""
        return sum(inflight for _, _, inflight in self.points) / len(self.points)


@dataclass(frozen=True, slots=True)
class Found:
    """One catch-up."""

    events: int
    entries: int
    seconds: float
    """From the start of the process until it lacked nothing."""
    events_per_s: float
    from_first_events_per_s: float | None
    """The same from when it was first seen to have something."""
    first_offset: int
    inflight_bytes: float
    """On its way to the follower, on average."""
    follower_cpu_us_per_event: float
    """Of all that its process did, for each event that it fetched."""
    leader_cpu_s_per_s: tuple[float, float]
    """Processors that the leader used, before and meanwhile."""
    before: Percentiles
    during: Percentiles
    after: Percentiles
    kept_up: float
    """The share of what was to be sent meanwhile that was acked."""

    @property
    def p99_ratio(self) -> float | None:
        """By how much the 99th percentile rose meanwhile."""
        return ratio(self.during.p99, self.before.p99)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = testcluster.parser("catchup", "Measure how a follower that has nothing gets level")
    made.add_argument("--events", type=int, default=3_000_000, help="in the log before it is started")
    made.add_argument("--rate", type=float, default=20_000, help="events a second meanwhile")
    made.add_argument("--seconds", type=float, default=10.0, help="measure so long before and after")
    made.add_argument("--behind-prefix", action="store_true", help="retention has cut half of the log")
    made.add_argument("--keep-directory", action="store_true", help="it was only down: it need not rejoin")
    return made


def bounded(options: argparse.Namespace, config: Config) -> Config:
    """The configuration of a node whose log is cut to half of what is filled in, if that is asked for."""
    if not options.behind_prefix:
        return config
    kept_bytes = options.events * (options.size + KEY_AND_HEAD_BYTES) // 2
    return replace(config, retention=Retention(bytes=kept_bytes, check_every_ms=CHECK_EVERY_MS))


async def measure(options: argparse.Namespace) -> tuple[Found, Intake]:
    """Make the cluster, fill it, let the follower catch up."""
    async with testcluster.ground(
        testcluster.home_of(options), options.storage, partial(bounded, options)
    ) as cluster:
        leader = await cluster.leader()
        empty = 1 + leader % len(cluster.cluster.nodes)
        await cluster.wait_level(empty, leader)  # the others know its directory
        await cluster.stop(empty)
        async with cluster.client() as log:
            note(f"node {leader} leads; filling {options.events:,} events while node {empty} is down")
            await testcluster.fill(log, options.events, options.batch, options.size)
        if not options.keep_directory:
            shutil.rmtree(cluster.cluster.node(empty).data_dir)
        if options.behind_prefix:
            await _until_cut(cluster, leader)
        return await _catch_up(cluster, leader, empty, options)


async def _until_cut(cluster: Ground, leader: int) -> None:
    while True:
        if (await cluster.status(leader))["prefix_index"]:
            return
        await trio.sleep(testcluster.STEP_S)  # nothing tells when retention has cut


async def _catch_up(
    cluster: Ground, leader: int, empty: int, options: argparse.Namespace
) -> tuple[Found, Intake]:
    async with (
        cluster.client() as log,
        testcluster.loaded(log, options.rate, options.batch, options.size) as load,
    ):
        await trio.sleep(SETTLE_S)
        used_s = [(await cluster.status(leader))["cpu_s"]]
        before = await testcluster.stretch(options.seconds)
        used_s.append((await cluster.status(leader))["cpu_s"])
        note(f"starting node {empty}")
        intake = Intake(trio.current_time())
        await cluster.start(empty)
        await cluster.wait_level(empty, leader, intake.saw)
        during = Stretch(intake.begun_s, trio.current_time())
        after = await testcluster.stretch(options.seconds)
        await trio.sleep(SETTLE_S)
    return found_of(load, intake, (before, during, after), (used_s[0], used_s[1]), options.rate), intake


def found_of(
    load: Load,
    intake: Intake,
    stretches: tuple[Stretch, Stretch, Stretch],
    leader_cpu_s: tuple[float, float],
    rate: float,
) -> Found:
    """The figures of a catch-up that has ended: what was before, meanwhile, after.

    `leader_cpu_s`: the processor time that the leader had used when the first began, and when it ended.
    """
    before, during, after = stretches
    since_first_s = None if intake.first_came_s is None else during.end_s - intake.first_came_s
    begun_cpu_s, ended_cpu_s = leader_cpu_s
    return Found(
        intake.events,
        intake.entries,
        during.seconds,
        intake.events / during.seconds,
        ratio(intake.events, since_first_s),
        intake.first_offset,
        intake.inflight_bytes,
        1e6 * intake.follower_cpu_s / max(1, intake.events),
        (
            (ended_cpu_s - begun_cpu_s) / before.seconds,
            (intake.leader_cpu_s - ended_cpu_s) / during.seconds,
        ),
        before.latencies(load),
        during.latencies(load),
        after.latencies(load),
        during.kept_up(load, rate),
    )


def as_text(found: Found) -> list[str]:
    """For people."""
    calm, busy = found.leader_cpu_s_per_s
    rate = f"{found.events_per_s:,.0f} events/s ({found.from_first_events_per_s or 0:,.0f} from the first on)"
    lines = [
        f"level after {found.seconds:.2f} s: {found.events:,} events in {found.entries:,} entries, {rate}",
        f"{found.inflight_bytes / 1e6:.1f} MB in flight; processor time: the follower"
        f" {found.follower_cpu_us_per_event:.2f} us an event, the leader {calm:.2f} then {busy:.2f} s/s",
        f"{'client, ms':12}{'p50':>10}{'p99':>10}{'p99.9':>10}",
    ]
    for name, value in (("before", found.before), ("during", found.during), ("after", found.after)):
        lines.append(f"{name:12}" + "".join(f"{written(x):>10}" for x in (value.p50, value.p99, value.p999)))
    fast = "met" if found.events_per_s >= BAR_EVENTS_PER_S else "missed"
    bearable = "met" if (found.p99_ratio or BAR_P99_RATIO + 1) <= BAR_P99_RATIO else "missed"
    lines.append(
        f"p99 x {written(found.p99_ratio, 2)}, {found.kept_up:.1%} acked;"
        f" bars: {BAR_EVENTS_PER_S:,} events/s {fast}, p99 x {BAR_P99_RATIO:g} {bearable}"
    )
    return lines


def main(words: Sequence[str] | None = None) -> int:
    """Measure and tell; the exit code."""
    made = parser()
    options = made.parse_args(words)
    testcluster.refuse_below(made, options, events=1, rate=1, seconds=0.1, batch=1)

    async def go() -> None:
        with testcluster.document(options) as figures:
            found, intake = await measure(options)
            figures |= {**asdict(found), "p99_ratio": found.p99_ratio, "points": intake.points}
            say("\n".join(as_text(found)))

    return testcluster.run("catchup", go)


if __name__ == "__main__":
    sys.exit(main())
