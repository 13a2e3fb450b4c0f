"""A throw-away cluster of real processes, and hands that kill, stop and start its nodes.

Decides where the cluster lies: on which disk, on loopback or in namespaces of its own. Leaves nothing
behind, unless it is told to keep the files of a run that failed. Called by the campaigns.
"""

import enum
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import trio

from esctl.clusters import nodelog, state
from esctl.clusters.backends import layout, pidfile
from esctl.clusters.backends.interface import NodeOptions, RunState
from esctl.clusters.backends.netns import NetnsBackend
from esctl.clusters.backends.network import Network
from esctl.clusters.backends.nodestatus import status_of
from esctl.clusters.backends.process import ProcessBackend
from esctl.clusters.state import Cluster
from esctl.errors import NodeFailedToStart
from esctl.query.leader import wait_for_leader
from esnode.config import Retention, dump, load
from tests.torture.disks import Plug, plugged, small_disk

NODES: Final = 3
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 10.0
CATCH_UP_TIMEOUT_S: Final = 120.0
ROUND_S: Final = 0.02
MOMENT_S: Final = 0.003
CUT_EVERY_MS: Final = 1_000


class Trouble(Exception):
    """What no fault may bring about: the run ends, and has failed."""


class Role(enum.StrEnum):
    """Whom a fault is meant for."""

    LEADER = "leader"
    FOLLOWER = "follower"


@dataclass(frozen=True, slots=True)
class Target:
    """A node, and whether it leads right now."""

    number: int
    leads: bool

    def __str__(self) -> str:
        return f"node {self.number}, {'the leader' if self.leads else 'a follower'}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the nodes live."""

    small_disks: bool = False
    """Is each data directory a small file system?"""
    plugs: bool = False
    """Is each data directory a small file system whose power can be cut?"""
    apart: bool = False
    """Has each node a network namespace of its own?"""
    retention_bytes: int = 0


@dataclass
class Arena:
    """A running cluster and what can be done to its processes."""

    cluster: Cluster
    backend: ProcessBackend
    directory: Path
    """For what a run writes beside the cluster."""
    network: Network | None = None
    plugs: dict[int, Plug] = field(default_factory=dict)
    keep: bool = False
    log_ends: dict[int, int] = field(default_factory=dict)

    @property
    def numbers(self) -> list[int]:
        return [node.id for node in self.cluster.nodes]

    async def start(self, numbers: list[int]) -> None:
        """Start them and wait until they answer; raises `NodeFailedToStart`, `NodeNotReady`."""
        for number in numbers:
            self.log_ends[number] = nodelog.size(self.cluster.node(number).log)
        await self.backend.start(self.cluster, numbers, START_TIMEOUT_S)

    async def kill(self, numbers: list[int]) -> None:
        """SIGKILL, all at the same time."""
        async with trio.open_nursery() as nursery:
            for number in numbers:
                nursery.start_soon(self.backend.kill, self.cluster, number)

    async def start_and_kill(self, number: int, moment: Callable[[], bool], after_s: float) -> None:
        """Start it, and SIGKILL it so long after `moment` has come, or when it answers before that."""
        answers = trio.Event()

        async def start() -> None:
            with suppress(NodeFailedToStart):
                await self.start([number])
            answers.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            while True:
                if moment() or answers.is_set():
                    break
                await trio.sleep(MOMENT_S)  # a file is looked at, it does not tell
            await trio.sleep(after_s)
            if self.runs(number):
                await self.backend.kill(self.cluster, number)

    async def stop(self, numbers: list[int]) -> None:
        """SIGTERM, and wait for the end."""
        forced = await self.backend.stop(self.cluster, numbers, STOP_TIMEOUT_S)
        if forced:
            raise Trouble(f"nodes {forced} did not stop within {STOP_TIMEOUT_S:g} s")

    def pid(self, number: int) -> int:
        """Its process; raises `Trouble` when there is none."""
        for process in self.backend.nodes(self.cluster):
            if process.node.id == number and process.pid is not None:
                return process.pid
        raise Trouble(f"node {number} has ended by itself: {self.last_words(number)}")

    def runs(self, number: int) -> bool:
        """Is its process there?"""
        states = {process.node.id: process.state for process in self.backend.nodes(self.cluster)}
        return states[number] is not RunState.DOWN

    async def wait_end(self, number: int, timeout_s: float) -> int | None:
        """The exit code of a node that ends by itself; None when it goes on living."""
        pid = self.pid(number)
        descriptor = os.pidfd_open(pid)
        try:
            with trio.move_on_after(timeout_s):
                await trio.lowlevel.wait_readable(descriptor)
                while True:
                    code = pidfile.reap(pid)
                    if code is not None:
                        return code
                    await trio.sleep(ROUND_S)  # a tracer hears of the end first, and then we do
        finally:
            os.close(descriptor)
        return None

    def check_all_run(self) -> None:
        """Raises `Trouble` when a node that nobody has hurt is not there."""
        for number in self.numbers:
            self.pid(number)

    def last_words(self, number: int) -> str:
        """Why its process says that it ended, since its last start; its code and its reason."""
        node = self.cluster.node(number)
        ends = [
            line.fields
            for line in nodelog.read(node.log, number, self.log_ends.get(number, 0))
            if line.event == "node_failed"
        ]
        return f"{ends[-1].get('code')} {ends[-1].get('reason')}" if ends else "its log does not say why"

    async def status(self, number: int) -> dict[str, Any] | None:
        """What the node says of itself, None when it does not answer."""
        return await status_of(self.cluster.node(number))

    async def leader(self) -> int:
        return await wait_for_leader(self.cluster, START_TIMEOUT_S)

    async def aim(self, role: Role, source: random.Random) -> Target:
        """The node that a fault for `role` hits now."""
        leader = await self.leader()
        follower = source.choice([number for number in self.numbers if number != leader])
        return Target(leader, True) if role is Role.LEADER else Target(follower, False)

    async def wait_caught_up(self) -> None:
        """Return when every node says that it has what the leader has acked by now."""
        with trio.move_on_after(CATCH_UP_TIMEOUT_S) as patience:
            status = await self.status(await self.leader())
            target = int(status["next_offset"]) if status is not None else 0
            for number in self.numbers:
                await self._wait_at(number, target)
        if patience.cancelled_caught:
            raise Trouble(f"not all nodes have caught up within {CATCH_UP_TIMEOUT_S:g} s")

    async def _wait_at(self, number: int, target: int) -> None:
        while True:
            status = await self.status(number)
            if status is not None and int(status["next_offset"]) >= target and not status.get("rejoining"):
                return
            self.pid(number)
            await trio.sleep(ROUND_S)  # a status is an answer, nothing that one could wait for


@contextmanager
def arena(
    storage: str = "sqlite",
    home: Path | None = None,
    place: Place = Place(),
) -> Iterator[Arena]:
    """A cluster of three that exists only here; nothing of it is left afterwards."""
    before = os.environ.get("XDG_STATE_HOME")
    directory = Path(tempfile.mkdtemp(prefix="torture-", dir=home))
    os.environ["XDG_STATE_HOME"] = str(directory)
    ring: Arena | None = None
    try:
        with ExitStack() as stack:
            backend = NetnsBackend() if place.apart else ProcessBackend()
            cluster = layout.plan("torture", NODES, storage=storage, backend=backend.name)
            backend.create(cluster, NodeOptions(storage))
            state.add(cluster)
            if place.retention_bytes:
                bound_log(cluster, place.retention_bytes)
            ring = Arena(cluster, backend, directory, Network.of(cluster) if place.apart else None)
            for node in cluster.nodes:
                if place.plugs:
                    plug = plugged(node.data_dir, directory / f"disk-{node.id}")
                    ring.plugs[node.id] = stack.enter_context(plug)
                elif place.small_disks:
                    stack.enter_context(small_disk(node.data_dir))
            stack.callback(end, ring)
            yield ring
    finally:
        if ring is not None and ring.keep:
            print(f"the files of the cluster are kept in {directory}", file=sys.stderr, flush=True)
        else:
            shutil.rmtree(directory)
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before


def bound_log(cluster: Cluster, size_bytes: int) -> None:
    """Let each node cut its log, often."""
    for node in cluster.nodes:
        bounds = Retention(bytes=size_bytes, check_every_ms=CUT_EVERY_MS)
        node.config.write_text(dump(replace(load(node.config), retention=bounds)), encoding="utf-8")


def end(ring: Arena) -> None:
    """Kill what still runs."""
    live = [p.node.id for p in ring.backend.nodes(ring.cluster) if p.state is not RunState.DOWN]
    trio.run(ring.backend.stop, ring.cluster, live, 0.0)
