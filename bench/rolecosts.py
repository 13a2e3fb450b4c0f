"""What an event costs each role, in processor time, and what that allows on machines with more cores.

    python -m bench.rolecosts [--partitions 1 2 4] [--times 3] [--seconds 6] [--rate 10000] [--batch 1024]
                              [--cores 16] [--network-gbit 10]

Three nodes take events at a fixed rate per partition, one ring size after the other. The processes that lead
are pinned to the first core, and all others and the client, which is this process, to the second one. The
processor time of each process is that of /proc, in the measured time. From the medians it says where the next
limit of three machines with `--cores` would be. That is a model: it counts processor time and bytes, and does
not know memory bandwidth or what a disk can do.
"""

import argparse
import os
import secrets
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Final

import trio

from bench.floor.cluster import NODES, state_in
from bench.partitioncost import SIZE_BYTES, cpu_s, running
from bench.testcluster import WholeBatches, note, say
from esctl.bench.generator import Generator, sources_of
from esctl.bench.runner import Load
from esctl.bench.trial import connecting
from esctl.clusters.backends import nodeprocess
from esctl.clusters.state import Cluster
from esctl.query import ringsurvey
from esctl.query.ringsurvey import ring_of

LEADERS_CORE: Final = 0
OTHERS_CORE: Final = 1
OVERHEAD_BYTES: Final = 20
"""Of an event in a frame: its key of 16 bytes, and its share of the heads of batch and frame."""


@dataclass(frozen=True, slots=True)
class RoleCosts:
    """Of one run, in microseconds of processor time an event: of its leader, of one follower, of its client.

    `supervisors_us` is that of all supervisors together.
    """

    leader_us: float
    follower_us: float
    client_us: float
    supervisors_us: float


@dataclass(frozen=True, slots=True)
class Roles:
    """The processes of a cluster, by what they do."""

    leaders: Sequence[int]
    followers: Sequence[int]
    supervisors: Sequence[int]

    def pin(self) -> None:
        """Each to its core, with all its threads."""
        for pid in (*self.leaders, *self.followers, *self.supervisors):
            core = LEADERS_CORE if pid in self.leaders else OTHERS_CORE
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})
        os.sched_setaffinity(0, {OTHERS_CORE})


async def roles_of(cluster: Cluster) -> Roles:
    """Ask who leads each partition, and find the processes."""
    leads = {one["id"]: one["leader"] for one in (await ringsurvey.ask(cluster)).leaders()}
    assert None not in leads.values(), leads
    found = nodeprocess.holders(cluster.nodes, cluster.partitions)
    replicas = {
        (number, each.partition or 0): each.pid
        for number, holder in found.items()
        for each in (holder.partitions if cluster.partitions > 1 else (holder,))
    }
    leaders = [pid for (number, partition), pid in replicas.items() if leads[partition] == number]
    followers = [pid for pid in replicas.values() if pid not in leaders]
    supervisors = [holder.pid for holder in found.values()] if cluster.partitions > 1 else []
    assert len(leaders) == cluster.partitions
    assert len(followers) == (NODES - 1) * cluster.partitions
    return Roles(leaders, followers, supervisors)


async def settled(cluster: Cluster) -> None:
    """Return once each partition is led by its preferred node: later its leadership would move."""
    preferred = {partition: cluster.nodes[partition % NODES].id for partition in range(cluster.partitions)}
    while cluster.partitions > 1:
        found = {one["id"]: one["leader"] for one in (await ringsurvey.ask(cluster)).leaders()}
        if found == preferred:
            return
        await trio.sleep(0.2)  # nothing tells


async def measure(cluster: Cluster, plan: WholeBatches) -> RoleCosts:
    """One run."""
    roles = await roles_of(cluster)
    roles.pin()
    sources = sources_of(await ring_of(cluster))
    generator = Generator(secrets.token_hex(8), SIZE_BYTES, plan.batch, sources)
    async with connecting(cluster, plan) as log, trio.open_nursery() as nursery:
        load = Load(log, generator, plan)
        await nursery.start(load.run)
        await trio.sleep_until(load.begun_s)
        groups = (roles.leaders, roles.followers, roles.supervisors)
        before, client_s, begun_s = [cpu_s(group) for group in groups], process_time(), trio.current_time()
        await trio.sleep_until(load.ended_s)
        used = [cpu_s(group) - was for group, was in zip(groups, before, strict=True)]
        client_s, ended_s = process_time() - client_s, trio.current_time()
    assert load.acked == load.sent, load.errors
    assert await roles_of(cluster) == roles, "a leadership moved"
    events = load.recorder.acked_between(begun_s, ended_s)
    leaders_s, followers_s, supervisors_s = used
    each = [leaders_s, followers_s / (NODES - 1), client_s, supervisors_s]
    return RoleCosts(*(seconds / events * 1e6 for seconds in each))


def limits_of(costs: RoleCosts, partitions: int, cores: int, network_gbit: float) -> dict[str, float]:
    """Events a second that each limit allows to three machines, by its name.

    A process of Python uses one core at most; each machine leads a third of the partitions and follows the
    rest. A leader sends each event twice and gets it once; the clients run elsewhere.
    """
    machine_us = (costs.leader_us + (NODES - 1) * costs.follower_us + costs.supervisors_us) / NODES
    size_bytes = SIZE_BYTES + OVERHEAD_BYTES
    sent_bytes = (NODES - 1) * size_bytes / NODES
    return {
        "a leader's core": partitions * 1e6 / costs.leader_us,
        "the cores of a machine": cores * 1e6 / machine_us,
        "the network of a machine": network_gbit * 1e9 / 8 / sent_bytes,
    }


async def measure_all(home: Path, arguments: argparse.Namespace) -> None:
    """All runs, and the model."""
    all_cores = os.sched_getaffinity(0)
    for partitions in arguments.partitions:
        plan = WholeBatches(
            arguments.seconds,
            arguments.warmup,
            partitions * arguments.rate,
            arguments.batch,
            arguments.window,
        )
        with tempfile.TemporaryDirectory(prefix="bench-", dir=home) as directory, state_in(Path(directory)):
            os.sched_setaffinity(0, all_cores)  # what starts inherits them
            async with running("roles", partitions, arguments.storage) as cluster:
                await settled(cluster)
                costs = [await measure(cluster, plan) for _ in range(arguments.times)]
        names = ("leader_us", "follower_us", "client_us", "supervisors_us")
        found = {name: [getattr(cost, name) for cost in costs] for name in names}
        medians = RoleCosts(*(statistics.median(values) for values in found.values()))
        for name, values in found.items():
            note(f"{partitions} partitions, {name}: {', '.join(f'{value:.2f}' for value in values)}")
        say(
            f"{partitions} partitions: leader {medians.leader_us:.2f}, each follower"
            f" {medians.follower_us:.2f}, client {medians.client_us:.2f}, supervisors"
            f" {medians.supervisors_us:.2f} us an event"
        )
        for count in sorted({partitions, 4, 8, 16, 32}):
            limits = limits_of(medians, count, arguments.cores, arguments.network_gbit)
            name = min(limits, key=lambda each: limits[each])
            say(
                f"  model: {count} partitions, {arguments.cores} cores: {limits[name]:,.0f} events/s ({name})"
            )


def main(words: Sequence[str]) -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m bench.rolecosts")
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--warmup", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=10_000.0)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--storage", default="sqlite")
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--network-gbit", type=float, default=10.0)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args(words)
    trio.run(measure_all, arguments.home, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
