"""A cluster inside one test: whole nodes on loopback, in the test's own trio run.

Nodes are started, stopped as if killed (every task cancelled at once, nothing handed over) and started
again on the same disk and ports. Waiting is always for an event of the nodes' own state.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from esnode.config import Address, Config, Member
from esnode.loop.view import View
from esnode.node import Node, listen, unsound_peers
from esnode.raft.messages import Role, SoftState
from esnode.storage.place import place_of
from esnode.upkeep.repair import Repair, keep_running


@dataclass(slots=True)
class RunningNode:
    """A started node and the scope that ends it."""

    node: Node
    run: int
    """Which of its runs this is; a node that repairs itself runs again."""
    scope: trio.CancelScope
    ended: trio.Event


class LocalCluster:
    """Nodes that share a nursery and nothing else."""

    def __init__(self, configs: Sequence[Config], nursery: trio.Nursery) -> None:
        self.configs = {config.node_id: config for config in configs}
        self.places = {config.node_id: place_of(config) for config in configs}
        self.running: dict[int, RunningNode] = {}
        self.runs: Counter[int] = Counter()
        """How often each node has begun to run."""
        self._nursery = nursery
        self._started = trio.Event()

    @property
    def addresses(self) -> list[str]:
        """Where clients connect."""
        return [str(config.me.client) for config in self.configs.values()]

    async def start(self, node_id: int, **options: bool) -> None:
        """Start a node on its own disk and ports; returns when it serves. `options` are those of `Repair`."""
        alone = len(self.configs) == 1
        await self._nursery.start(self._run, node_id, Repair(self.places[node_id], alone=alone, **options))

    async def wait_run(self, node_id: int, run: int) -> Node:
        """Wait until a node that repairs itself serves in that run of its, or a later one.

        Counted and not compared: whoever looks after a start may see the second run already.
        """
        while node_id not in self.running or self.running[node_id].run < run:
            await self._started.wait()
        return self.running[node_id].node

    async def kill(self, node_id: int) -> None:
        """End a node at once; returns when its ports are closed."""
        running = self.running.pop(node_id)
        running.scope.cancel()
        await running.ended.wait()

    async def leader(self) -> int:
        """Wait until the running nodes agree on a leader among them; returns it."""
        while True:
            seen = {node_id: running.node.view.soft_state for node_id, running in self.running.items()}
            leaders = {state.leader for state in seen.values()}
            leader = leaders.pop() if len(leaders) == 1 else None
            if leader in seen and seen[leader].role is Role.LEADER:
                return leader
            await self._any_change(seen)

    async def applied(self, next_offset: int) -> None:
        """Wait until every running node has applied all events before `next_offset`."""
        for running in self.running.values():
            await running.node.view.wait_offset(next_offset - 1)

    async def _any_change(self, seen: Mapping[int, SoftState]) -> None:
        """Wait until a running node's state is not the one that was seen."""
        async with trio.open_nursery() as nursery:

            async def watch(view: View, state: SoftState) -> None:
                if view.soft_state == state:
                    await view.wait_changed()
                nursery.cancel_scope.cancel()

            for node_id, state in seen.items():
                nursery.start_soon(watch, self.running[node_id].node.view, state)

    async def _run(
        self, node_id: int, repair: Repair, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """As `esnode/__main__.py` does."""
        config, scope, ended = self.configs[node_id], trio.CancelScope(), trio.Event()
        waiting = [task_status]

        async def run() -> None:
            self.runs[node_id] += 1
            with ExitStack() as opened:
                clients = await listen(config.me.client, opened)
                peers = await listen(config.me.peer, opened)
                storage = repair.open()
                opened.callback(storage.close)
                node = Node(config, storage, random.Random(node_id))
                async with trio.open_nursery() as nursery:
                    await nursery.start(node.run, clients, peers)
                    self.running[node_id] = RunningNode(node, self.runs[node_id], scope, ended)
                    self._started.set()
                    self._started = trio.Event()
                    while waiting:
                        waiting.pop().started()

        try:
            with scope:
                unsound = partial(unsound_peers, config)
                await keep_running(repair, run, inline=True, unsound=unsound)
        finally:
            ended.set()


async def three_configs(tmp_path: Path, count: int = 3) -> list[Config]:
    """Configurations with ports that were free a moment ago."""
    ports = []
    for _ in range(2 * count):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        ports.append((listeners[0].socket.getsockname()[1], listeners[0]))
    for _, listener in ports:
        await listener.aclose()
    numbers = iter([port for port, _ in ports])
    members = tuple(
        Member(n, Address("127.0.0.1", next(numbers)), Address("127.0.0.1", next(numbers)))
        for n in range(1, count + 1)
    )
    return [Config("test", n, tmp_path / f"node-{n}", members) for n in range(1, count + 1)]


@asynccontextmanager
async def local_cluster(tmp_path: Path, count: int = 3, **settings: object) -> AsyncIterator[LocalCluster]:
    """A started cluster; everything ends with the block."""
    configs = [replace(config, **settings) for config in await three_configs(tmp_path, count)]  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        cluster = LocalCluster(configs, nursery)
        for node_id in cluster.configs:
            await cluster.start(node_id)
        yield cluster
        nursery.cancel_scope.cancel()
