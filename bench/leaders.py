"""How soon leaders are spread again after a node is back, and what a transfer of a leadership costs a client.

    python -m bench.leaders [--rounds 10] [--transfers 20] [--calm 0]

Three nodes with four partitions. First, node 1 is killed with all its processes and started again, `--rounds`
times; counted is the time from the moment at which all its processes answer until each partition has its
preferred leader. Between two rounds, nothing happens for `--calm` seconds. Then a client sends 1,000 events
per second to one partition, one by one, while its leadership is moved back and forth; counted is the longest
time without an ack around each.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Final

import trio

from bench.restart import free_ports
from bench.testcluster import say
from esnode.client import Log, connect, connect_node
from esnode.config import Address, Config, Member, dump
from esnode.errors import EventStreamError
from esnode.ring import FIRST_VERSION, Ring
from esnode.upkeep.placement import spread

NODES: Final = 3
PARTITIONS: Final = 4
PREFERRED: Final = spread(PARTITIONS, range(1, NODES + 1))
RATE_PER_S: Final = 1_000
LOOK_S: Final = 0.02
PATIENCE_S: Final = 60.0
AROUND_S: Final = 0.2
"""So much before and after a transfer is looked at."""


class Node:
    """One node: its file, and the processes that run by it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.file = config.data_dir.parent / f"node-{config.node_id}.toml"
        self.file.write_text(dump(config), encoding="utf-8")
        self._log = config.data_dir.parent / f"node-{config.node_id}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the supervisor, which starts the rest."""
        command = [sys.executable, "-m", "esnode", "--config", str(self.file)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log)  # noqa: S603 - our own program

    async def kill(self) -> None:
        """The supervisor and all its processes, at once."""
        statuses = [await self.status(partition) for partition in range(PARTITIONS)]
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        for status in statuses:
            if status is not None:
                os.kill(status["pid"], signal.SIGKILL)
        self._process.wait()

    async def stop(self) -> None:
        """As on SIGTERM."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            await trio.to_thread.run_sync(self._process.wait)

    async def status(self, partition: int) -> dict[str, Any] | None:
        """Of its process for a partition; None where that does not answer."""
        try:
            async with connect_node(str(self.config.me.client), partition=partition) as link:
                return await link.status()
        except EventStreamError:
            return None


def configs(directory: Path) -> list[Config]:
    """Of all nodes."""
    ports = free_ports(2 * NODES)
    members = tuple(
        Member(n + 1, Address("127.0.0.1", ports[2 * n]), Address("127.0.0.1", ports[2 * n + 1]))
        for n in range(NODES)
    )
    return [
        Config("leaders", member.id, directory / f"data-{member.id}", members, partitions=PARTITIONS)
        for member in members
    ]


async def wait_answers(node: Node) -> None:
    """Until every process of it answers."""
    for partition in range(PARTITIONS):
        await wait_role(node, partition, None)


async def wait_spread(nodes: Sequence[Node]) -> None:
    """Until each partition is led by its preferred node."""
    for partition, preferred in enumerate(PREFERRED):
        await wait_role(nodes[preferred - 1], partition, "leader")


async def wait_role(node: Node, partition: int, role: str | None) -> None:
    """Until a process answers, and has this role if one is given."""
    while True:
        status = await node.status(partition)
        if status is not None and role in {None, status["role"]}:
            return
        await trio.sleep(LOOK_S)


async def rounds(nodes: Sequence[Node], number: int, calm_s: float) -> list[float]:
    """Seconds from the return of node 1 to spread leaders."""
    taken_s = []
    for _ in range(number):
        await trio.sleep(calm_s)
        await nodes[0].kill()
        nodes[0].start()
        await wait_answers(nodes[0])
        begun = trio.current_time()
        await wait_spread(nodes)
        taken_s.append(trio.current_time() - begun)
    return taken_s


class Sender:
    """One client that sends events one by one, each at its time, and notes when each was acked."""

    def __init__(self, log: Log, source: str) -> None:
        self._log = log
        self._source = source
        self.acked_at: list[float] = []

    async def run(self) -> None:
        """Send for ever."""
        async with trio.open_nursery() as nursery:
            begun = trio.current_time()
            for number in count():
                await trio.sleep_until(begun + number / RATE_PER_S)
                nursery.start_soon(self._send, number)

    async def _send(self, number: int) -> None:
        await self._log.append({"id": str(number), "source": self._source, "type": "t"})
        self.acked_at.append(trio.current_time())

    def longest_gap_s(self, begin: float, end: float) -> float:
        """Between two acks one after the other."""
        times = sorted(at for at in self.acked_at if begin <= at <= end)
        return max(later - earlier for earlier, later in pairwise(times))


async def transfers(nodes: Sequence[Node], number: int) -> tuple[list[float], list[float]]:
    """The longest gaps without an ack: around each transfer, and as long without one."""
    ring = Ring(FIRST_VERSION, range(PARTITIONS))
    source = next(name for n in count() if ring.owner_of(name := f"/s/{n}") == 0)
    addresses = [str(node.config.me.client) for node in nodes]
    with_one, without = [], []
    async with connect(addresses, partition=0, batch_ms=0) as log, trio.open_nursery() as nursery:
        sender = Sender(log, source)
        nursery.start_soon(sender.run)
        leader = PREFERRED[0]
        await trio.sleep(2)
        for _ in range(number):
            await trio.sleep(1)
            to = 2 if leader == 1 else 1
            async with connect_node(addresses[leader - 1], partition=0) as link:
                at = trio.current_time()
                await link.transfer_leadership(to)
                took_s = trio.current_time() - at
            leader = to
            await trio.sleep(1)
            with_one.append(sender.longest_gap_s(at - AROUND_S, at + took_s + AROUND_S))
            at -= 2 * AROUND_S + took_s
            without.append(sender.longest_gap_s(at - AROUND_S, at + took_s + AROUND_S))
        nursery.cancel_scope.cancel()
    return with_one, without


def told(name: str, values: Sequence[float], unit: str, scale: float = 1.0) -> str:
    """A line with the median, the least and the most."""
    least, middle, most = (scale * each for each in (min(values), statistics.median(values), max(values)))
    return f"{name}: median {middle:.1f} {unit}, {least:.1f} to {most:.1f} ({len(values)})"


async def main(options: argparse.Namespace) -> None:
    """All of it, and the figures on standard output."""
    with tempfile.TemporaryDirectory() as directory:
        nodes = [Node(config) for config in configs(Path(directory))]
        try:
            for node in nodes:
                node.start()
            for node in nodes:
                await wait_answers(node)
            with trio.fail_after(PATIENCE_S):
                await wait_spread(nodes)
            if options.rounds:
                say(told("back to spread", await rounds(nodes, options.rounds, options.calm), "s"))
            if options.transfers:
                with_one, without = await transfers(nodes, options.transfers)
                say(told("longest gap between acks, with a transfer", with_one, "ms", 1000))
                say(told("as long without one", without, "ms", 1000))
        finally:
            for node in nodes:
                await node.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--transfers", type=int, default=20)
    parser.add_argument("--calm", type=float, default=0.0)
    trio.run(main, parser.parse_args())
