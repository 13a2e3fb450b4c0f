"""A full log beside an empty one: throughput, processor time, memory, and a restart to the node's vote.

    python -m bench.filled [--events 20000000] [--live-keys 10000000] [--rounds 5] [--seconds 4]

Builds the long log as `bench.restart` does and gives it to three nodes. Then rounds of a closed loop, in
turns: three nodes that have just been made, then the full ones, so that both meet the same minute of the
machine. The ratio is the median of the turns. Then one of the full nodes is killed and started, some times.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import trio

from bench import restart, testcluster
from bench.floor import runs
from bench.floor.cluster import Opener, Subject
from bench.restart import Process, Started
from bench.testcluster import note, say, written
from esctl.bench.result import Figures
from esctl.bench.runner import TrialPlan
from esctl.clusters import state
from esnode import config as node_config
from esnode.client import connect, connect_node
from esnode.config import Config
from esnode.errors import EventStreamError, NoQuorum

WINDOW: Final = 64
LEADER_TIMEOUT_S: Final = 30.0
RESTARTED: Final = 0
"""Which of the nodes is started anew, counted from 0."""
BAR_RATIO: Final = 0.9
BAR_MEMORY_BYTES: Final = 400_000_000
BAR_RESTART_S: Final = 3.0
SHOWN: Final = (
    ("events_per_s", "events/s", 0),
    ("p50_ms", "p50 ms", 1),
    ("p99_ms", "p99 ms", 1),
    ("leader_us_per_event", "leader us", 2),
    ("all_us_per_event", "all us", 2),
)
"""A figure, its column, its digits; the last two are processor time an event."""


@dataclass(slots=True)
class Found:
    """What was measured so far."""

    empty: list[Figures] = field(default_factory=list)
    filled: list[Figures] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    """The most that each of the full nodes has had in memory."""
    starts: list[Started] = field(default_factory=list)

    def ratios(self) -> Figures:
        """The full log by the empty one."""
        return runs.ratios(self.filled, self.empty)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = testcluster.parser("filled", "Measure a full log beside an empty one")
    made.add_argument("--events", type=int, default=20_000_000, help="in the full log")
    made.add_argument("--live-keys", type=int, default=10_000_000, help="that the window remembers")
    made.add_argument("--rounds", type=int, default=5, help="of each, in turns")
    made.add_argument("--seconds", type=float, default=4.0, help="of each round")
    made.add_argument("--warmup", type=float, default=1.0, help="seconds of load before that")
    made.add_argument("--times", type=int, default=3, help="starts of one of the full nodes")
    return made


# --- the two clusters -------------------------------------------------------------------------------


def empty_cluster(model: Config) -> Opener:
    """Three nodes that have just been made, with the settings of `model`."""

    def as_model(config: Config) -> Config:
        return replace(config, dedup=model.dedup)

    @asynccontextmanager
    async def opened(directory: Path, window: int) -> AsyncIterator[Subject]:
        async with (
            testcluster.ground(directory, model.storage, as_model) as cluster,
            cluster.client(window) as log,
        ):
            pids = {node.node.id: node.pid for node in cluster.backend.nodes(cluster.cluster) if node.pid}
            yield Subject(log, roles_of(pids, await cluster.leader()))

    return opened


def filled_cluster(configs: Sequence[Config], nodes: Sequence[Process]) -> Opener:
    """The full nodes, which run already."""
    addresses = [str(config.me.client) for config in configs]
    pids = {config.node_id: node.pid for config, node in zip(configs, nodes, strict=True)}

    @asynccontextmanager
    async def opened(_directory: Path, window: int) -> AsyncIterator[Subject]:
        leader = await wait_for_leader(addresses)
        async with connect(addresses, cluster=restart.CLUSTER, window=window) as log:
            yield Subject(log, roles_of(pids, leader))

    return opened


async def wait_for_leader(addresses: Sequence[str]) -> int:
    """The number of the node that leads; raises `NoQuorum` when none does for long."""
    with trio.move_on_after(LEADER_TIMEOUT_S):
        while True:
            for address in addresses:
                async with connect_node(address) as link:
                    status = await link.status()
                if status["role"] == "leader":
                    return int(status["id"])
            await trio.sleep(testcluster.STEP_S)  # an election takes some hundred milliseconds
    raise NoQuorum(f"nobody leads after {LEADER_TIMEOUT_S:g} s")


def roles_of(pids: Mapping[int, int], leader: int) -> dict[str, int]:
    """The process of each node by what it does, the leader first."""
    followers = [pid for number, pid in pids.items() if number != leader]
    return {"leader": pids[leader]} | {f"follower_{n}": pid for n, pid in enumerate(followers, 1)}


def peak_bytes(pid: int) -> int:
    """The most that a process has had in memory (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no VmHWM")


# --- the measurement --------------------------------------------------------------------------------


def measure(options: argparse.Namespace, directory: Path, found: Found) -> int:
    """All of it; the exit code."""
    files = restart.prepare(directory, options.storage, options.events, options.live_keys)
    configs = [node_config.load(file) for file in files]
    plan = TrialPlan(options.seconds, options.warmup, 0.0, options.batch, WINDOW)

    with restart.running(files) as nodes:
        for node in nodes:
            node.until_it_votes()

        async def take_turns() -> None:
            every = (
                ("empty", empty_cluster(configs[0]), found.empty),
                ("full", filled_cluster(configs, nodes), found.filled),
            )
            for number in range(1, options.rounds + 1):
                for name, opener, figures in every:
                    figures.append(await runs.measure(opener, plan, options.size, directory))
                    note(f"{name}, round {number}: {figures[-1]['events_per_s']:,.0f} events/s")

        if code := testcluster.run("filled", take_turns):
            return code
        found.peak_bytes = [peak_bytes(node.pid) for node in nodes]
        nodes[RESTARTED].kill()
        for _ in range(options.times):
            with restart.running(files[RESTARTED : RESTARTED + 1]) as (node,):
                found.starts.append(node.until_it_votes())
    return 0


def as_text(found: Found) -> list[str]:
    """For people."""
    lines = ["".join([f"{'':10}", *(f"{head:>12}" for _, head, _ in SHOWN)])]
    for name, figures in (("empty", runs.medians(found.empty)), ("full", runs.medians(found.filled))):
        cells = [f"{written(figures[figure], digits):>12}" for figure, _, digits in SHOWN]
        lines.append("".join([f"{name:10}", *cells]))
    ratios = found.ratios()
    lines.append("".join([f"{'ratio':10}", *(f"{written(ratios[figure], 2):>12}" for figure, _, _ in SHOWN)]))
    votes = [start.at_s["votes"] for start in found.starts]
    largest = max(found.peak_bytes)
    lines.append(
        f"largest node {largest / 1e6:,.0f} MB; a vote after {', '.join(f'{each:.2f}' for each in votes)} s"
    )
    met = {
        f"{BAR_RATIO:g} of the throughput": (ratios["events_per_s"] or 0.0) >= BAR_RATIO,
        f"{BAR_MEMORY_BYTES / 1e6:g} MB": largest < BAR_MEMORY_BYTES,
        f"{BAR_RESTART_S:g} s": max(votes) < BAR_RESTART_S,
    }
    lines.append("bars: " + ", ".join(f"{what} {'met' if well else 'missed'}" for what, well in met.items()))
    return lines


def main(words: Sequence[str] | None = None) -> int:
    """Measure and tell; the exit code."""
    made = parser()
    options = made.parse_args(words)
    testcluster.refuse_below(
        made, options, events=1, live_keys=1024, rounds=1, seconds=0.1, warmup=0, times=1
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # whatever ends it, its nodes go
    found, home = Found(), testcluster.home_of(options)
    try:
        with testcluster.document(options) as figures, ExitStack() as opened:
            state.make_directory(home)
            directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="filled-", dir=home)))
            if code := measure(options, directory, found):
                sys.exit(code)
            say("\n".join(as_text(found)))
            figures |= {**asdict(found), "ratio": found.ratios()}
    except KeyboardInterrupt:
        return 130
    except EventStreamError as error:
        note(f"bench.filled: {error.code}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
