"""The cluster that is struck, as the drill sees it: what its nodes say, and what can be done to them.

Decides nothing. `LiveCluster` is a cluster of this machine through its backend; tests have one in memory.
Called by `drill.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import trio

from esctl.clusters import nodelog
from esctl.clusters.backends.interface import Backend, RunState
from esctl.clusters.backends.nodestatus import status_of
from esctl.clusters.nodelog import LogLine
from esctl.clusters.state import Cluster
from esctl.faults import linkcuts
from esctl.faults.partitionshapes import Cut, between
from esnode.client import NodeLink, connect_node

Mark = Callable[[], None]
"""Called in the instant before a strike, when all is ready for it."""
Status = Mapping[str, Any]
CUT: Final = "bench-failover"
"""The id of the fault."""
CUT_LEASE_S: Final = 60.0
"""Longer than a strike is waited for. It ends by itself should nobody mend it."""


class Subject(Protocol):
    """A cluster, its nodes by number."""

    @property
    def numbers(self) -> Sequence[int]:
        """Every configured node."""

    async def statuses(self) -> Mapping[int, Status | None]:
        """What each node says of itself; None for one that does not answer."""

    async def state(self, number: int) -> RunState:
        """What the operating system says of a node's process."""

    def new_lines(self) -> Iterator[LogLine]:
        """What the nodes have logged since the last call, in the order of time."""

    async def kill(self, number: int, mark: Mark) -> None:
        """SIGKILL; returns when the process is gone."""

    async def pause(self, number: int, mark: Mark) -> None:
        """SIGSTOP."""

    async def cut(self, number: int, mark: Mark) -> None:
        """Let no message pass between the node and the others, `CUT_LEASE_S` at most."""

    async def cut_hits(self, number: int) -> int:
        """How many messages the cut has stopped."""

    async def mend(self, number: int) -> None:
        """End the cut."""

    async def transfer(self, number: int, mark: Mark) -> None:
        """Ask the leader to hand over to whom it likes; returns when it says that it has."""

    def resume(self, number: int) -> None:
        """SIGCONT."""

    async def start(self, number: int, timeout_s: float) -> None:
        """Start the process if it is down, and wait until it answers."""


class LiveCluster:
    """See `Subject`; each method raises what the backend and the client raise.

    With several partitions, its leader is that of `partition`, and what nodes say is about that one; a node
    is killed or paused with all its processes.
    """

    def __init__(self, cluster: Cluster, backend: Backend, partition: int | None = None) -> None:
        self._cluster = cluster
        self._partition = partition
        self._backend = backend
        paths = {node.id: backend.log_path(cluster, node.id) for node in cluster.nodes}
        self._logs = [nodelog.Follower(path, number, nodelog.size(path)) for number, path in paths.items()]

    @property
    def numbers(self) -> Sequence[int]:
        """See `Subject.numbers`."""
        return [node.id for node in self._cluster.nodes]

    async def statuses(self) -> Mapping[int, Status | None]:
        """See `Subject.statuses`."""
        answers: dict[int, Status | None] = {}

        async def ask(number: int) -> None:
            answers[number] = await status_of(self._cluster.node(number), self._partition or 0)

        async with trio.open_nursery() as nursery:
            for number in self.numbers:
                nursery.start_soon(ask, number)
        return answers

    async def state(self, number: int) -> RunState:
        """See `Subject.state`."""
        # In a thread: the look at all processes takes 10 ms, and this event loop is the load's, too.
        nodes = await trio.to_thread.run_sync(self._backend.nodes, self._cluster)
        return next(p.state for p in nodes if p.node.id == number)

    def new_lines(self) -> Iterator[LogLine]:
        """See `Subject.new_lines`."""
        lines = nodelog.merge([iter(log.new_lines()) for log in self._logs])
        return (line for line in lines if line.partition == self._partition)

    async def kill(self, number: int, mark: Mark) -> None:
        """See `Subject.kill`."""
        mark()
        # Nothing else runs before the signal is sent. It is seen through to the end, which the backend
        # bounds: a process that still goes away could not be started again.
        with trio.CancelScope(shield=True):
            await self._backend.kill(self._cluster, number)

    async def pause(self, number: int, mark: Mark) -> None:
        """See `Subject.pause`."""
        mark()
        self._backend.pause(self._cluster, number)

    async def cut(self, number: int, mark: Mark) -> None:
        """See `Subject.cut`."""
        others = [other for other in self.numbers if other != number]
        if self._backend.links is not None:
            await self._cut_links(between([number], others), mark)
            return
        async with self._link(number) as link:
            mark()
            await link.set_fault(CUT, "block", round(CUT_LEASE_S * 1000), peers=others)

    async def cut_hits(self, number: int) -> int:
        """See `Subject.cut_hits`."""
        if self._backend.links is not None:
            cuts = await trio.to_thread.run_sync(linkcuts.active, self._cluster)
            return sum(one.lost for one in cuts if one.id == CUT)
        async with self._link(number) as link:
            return sum(int(fault["hits"]) for fault in await link.faults() if fault["id"] == CUT)

    async def mend(self, number: int) -> None:
        """See `Subject.mend`."""
        if self._backend.links is not None:
            await trio.to_thread.run_sync(linkcuts.heal, self._cluster, [CUT])
            return
        async with self._link(number) as link:
            await link.heal_fault(CUT)

    async def transfer(self, number: int, mark: Mark) -> None:
        """See `Subject.transfer`."""
        async with self._link(number) as link:
            mark()
            await link.transfer_leadership()

    def resume(self, number: int) -> None:
        """See `Subject.resume`."""
        self._backend.resume(self._cluster, number)

    async def start(self, number: int, timeout_s: float) -> None:
        """See `Subject.start`."""
        await self._backend.start(self._cluster, [number], timeout_s)

    async def _cut_links(self, cuts: list[Cut], mark: Mark) -> None:
        """Cut the real links. In a thread, since this one's clients are under load."""
        lease_ms = round(CUT_LEASE_S * 1000)
        # Seen through to the end, which is near: what is cut must be known to be cut.
        with trio.CancelScope(shield=True):
            links = await trio.to_thread.run_sync(linkcuts.begin, self._cluster, CUT, cuts, lease_ms)
            mark()
            await trio.to_thread.run_sync(linkcuts.strike, self._cluster, links)
            await trio.to_thread.run_sync(linkcuts.prove, self._cluster, links)

    def _link(self, number: int) -> NodeLink:
        address, identity = self._cluster.node(number).client, self._cluster.identity
        return connect_node(address, cluster=identity, partition=self._partition)
