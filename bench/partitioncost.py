"""What an event costs with several partitions, in processor time of all nodes and of the client.

    python -m bench.partitioncost [--partitions 4] [--times 5] [--seconds 8] [--batch 1024] [--window 64]
                                   [--rate 0]

Two clusters of three nodes run beside each other, one with one partition, the other with several. A closed
loop loads one and then the other, and which comes first alternates. The processor time of each process of a
node is that of /proc, of the measured time only; the client is this process. Both clusters run all the time,
so what the idle one takes is in no figure. Each run also tells how large its entries were. With a rate, both
clusters do the same work in the same time.
"""

import argparse
import os
import secrets
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Final

import trio

from bench.floor.cluster import NODES, START_TIMEOUT_S, STOP_TIMEOUT_S, state_in
from bench.testcluster import WholeBatches, note, say
from esctl.bench.generator import Generator, sources_of
from esctl.bench.runner import Load, TrialPlan
from esctl.bench.trial import connecting
from esctl.clusters.backends import layout, nodeprocess
from esctl.clusters.backends.interface import NodeOptions
from esctl.clusters.backends.process import ProcessBackend
from esctl.clusters.state import Cluster
from esctl.query import ringsurvey
from esctl.query.leader import wait_for_leaders
from esctl.query.ringsurvey import ring_of

BAR_RATIO: Final = 1.1
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
SIZE_BYTES: Final = 100


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run, in microseconds of processor time an event."""

    nodes_us: float
    client_us: float
    events_per_s: float
    events_an_entry: float

    @property
    def all_us(self) -> float:
        """Everybody's."""
        return self.nodes_us + self.client_us


@asynccontextmanager
async def running(name: str, partitions: int, storage: str) -> AsyncIterator[Cluster]:
    """A cluster that is gone with its files at the end of the block."""
    cluster = replace(layout.plan(name, NODES, storage=storage), partitions=partitions)
    backend = ProcessBackend()
    backend.create(cluster, NodeOptions(storage))
    numbers = [node.id for node in cluster.nodes]
    try:
        await backend.start(cluster, numbers, START_TIMEOUT_S)
        await wait_for_leaders(cluster, START_TIMEOUT_S)
        yield cluster
    finally:
        with trio.CancelScope(shield=True):
            await backend.stop(cluster, numbers, STOP_TIMEOUT_S)


def processes_of(cluster: Cluster) -> list[int]:
    """The numbers of all processes of its nodes, supervisors included."""
    found = nodeprocess.holders(cluster.nodes, cluster.partitions).values()
    return [pid for holder in found for pid in (holder.pid, *(each.pid for each in holder.partitions))]


def cpu_s(pids: Sequence[int]) -> float:
    """What these processes have used since they began."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


async def entries_of(cluster: Cluster) -> int:
    """How many entries all its logs have."""
    found = await ringsurvey.ask(cluster)
    return sum(survey.leader.number("last_index") or 0 for survey in found.partitions if survey.leader)


async def measure(cluster: Cluster, plan: TrialPlan) -> Cost:
    """One run."""
    pids = processes_of(cluster)
    assert len(pids) == NODES * (cluster.partitions + 1 if cluster.partitions > 1 else 1)
    sources = sources_of(await ring_of(cluster))
    generator = Generator(secrets.token_hex(8), SIZE_BYTES, plan.batch, sources)
    entries = await entries_of(cluster)
    async with connecting(cluster, plan) as log, trio.open_nursery() as nursery:
        load = Load(log, generator, plan)
        await nursery.start(load.run)
        await trio.sleep_until(load.begun_s)
        nodes_s, client_s, begun_s = cpu_s(pids), process_time(), trio.current_time()
        await trio.sleep_until(load.ended_s)
        nodes_s, client_s = cpu_s(pids) - nodes_s, process_time() - client_s
        ended_s = trio.current_time()
    events = load.recorder.acked_between(begun_s, ended_s)
    assert load.acked == load.sent, load.errors
    made = await entries_of(cluster) - entries
    return Cost(
        nodes_s / events * 1e6, client_s / events * 1e6, events / (ended_s - begun_s), load.acked / made
    )


async def compare(home: Path, arguments: argparse.Namespace) -> int:
    """All runs; 1 if the bar is missed."""
    plan = WholeBatches(
        arguments.seconds, arguments.warmup, arguments.rate, arguments.batch, arguments.window
    )
    costs: dict[int, list[Cost]] = {1: [], arguments.partitions: []}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=home) as directory, state_in(Path(directory)):
        async with (
            running("one", 1, arguments.storage) as one,
            running("several", arguments.partitions, arguments.storage) as several,
        ):
            for time in range(arguments.times):
                for cluster in (one, several) if time % 2 == 0 else (several, one):
                    cost = await measure(cluster, plan)
                    costs[cluster.partitions].append(cost)
                    note(
                        f"{cluster.partitions} partitions: nodes {cost.nodes_us:.2f}, client"
                        f" {cost.client_us:.2f} us an event; {cost.events_per_s:,.0f} events/s,"
                        f" {cost.events_an_entry:,.0f} events an entry"
                    )
    for partitions, found in costs.items():
        nodes, client, each = (
            statistics.median(getattr(cost, name) for cost in found)
            for name in ("nodes_us", "client_us", "all_us")
        )
        say(f"{partitions} partitions: nodes {nodes:.2f} us, client {client:.2f} us, together {each:.2f} us")
    ratios = [
        after.all_us / before.all_us for before, after in zip(*costs.values(), strict=True)
    ]  # each pair ran side by side
    ratio = statistics.median(ratios)
    say(f"ratio {ratio:.3f} (median of pairs, {min(ratios):.3f} to {max(ratios):.3f}), at most {BAR_RATIO}")
    return int(ratio > BAR_RATIO)


def main(words: Sequence[str]) -> int:
    """The program; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.partitioncost")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--warmup", type=float, default=2.0)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--storage", default="sqlite")
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args(words)
    return trio.run(compare, arguments.home, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
