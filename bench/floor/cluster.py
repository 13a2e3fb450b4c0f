"""What is measured: the floor's three processes, or three of `esnode`, each fresh and gone afterwards.

Decides how they start and end. Every process is on a leash: it ends with this one, however that ends.
Called by `runs.py`.
"""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

import esnode
from bench.floor.client import FloorClient
from bench.floor.sockets import HOST
from bench.floor.sockets import connect as connect_node
from esctl.clusters.backends import layout
from esctl.clusters.backends.interface import NodeOptions
from esctl.clusters.backends.process import ProcessBackend
from esctl.errors import NodeNotRunning
from esctl.events.producer import Appender
from esctl.query.leader import wait_for_leader
from esnode.client import connect
from esnode.errors import ConnectionLost, LeadershipLost

NODES: Final = 3
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A running cluster: its log, and the process of each node by what it does, the leader first."""

    log: Appender
    pids: dict[str, int]


Opener = Callable[[Path, int], AbstractAsyncContextManager[Subject]]
"""Starts a cluster in an empty directory for a client with so many batches under way."""


@asynccontextmanager
async def floor(directory: Path, window: int) -> AsyncIterator[Subject]:
    """The floor. Ends in order when the block does: then all three databases hold the same."""
    with ExitStack() as opened:
        followers = [opened.enter_context(_node(directory / f"follower-{n}", [])) for n in (1, 2)]
        ports = [port for _, port in followers]
        leader, port = opened.enter_context(_node(directory / "leader", ports))
        with await connect_node(port) as client:
            roles = {"leader": leader.pid}
            roles |= {f"follower_{n}": process.pid for n, (process, _) in enumerate(followers, 1)}
            async with trio.open_nursery() as nursery:
                log = FloorClient(client)
                nursery.start_soon(log.run)
                yield Subject(log, roles)
                nursery.cancel_scope.cancel()
        for process in (leader, *(follower for follower, _ in followers)):
            await _ended(process)


@contextmanager
def _node(directory: Path, followers: list[int]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process of the floor, and its port; killed at the end if it has not ended by itself."""
    directory.mkdir()
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        descriptor = listener.fileno()
        arguments = [str(directory), str(descriptor), *map(str, followers)]
        process = subprocess.Popen(  # noqa: S603 - our own command line
            on_a_leash("bench.floor.node", *arguments),
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
            start_new_session=True,  # as `esnode` has it; Ctrl-C is this process's business
            env={**os.environ, "PYTHONPATH": search_path()},
        )
    with process:
        try:
            yield process, port
        finally:
            process.kill()


async def _ended(process: subprocess.Popen[bytes]) -> None:
    code: int | None = None
    with trio.move_on_after(STOP_TIMEOUT_S) as patience:
        code = await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
    if patience.cancelled_caught:
        raise ConnectionLost(f"a node of the floor did not end within {STOP_TIMEOUT_S:g} s")
    if code:
        raise ConnectionLost(f"a node of the floor ended with exit code {code}")


@asynccontextmanager
async def esnode_cluster(directory: Path, window: int) -> AsyncIterator[Subject]:
    """A cluster of `esnode` with its default settings, as `esctl cluster up` makes it."""
    with state_in(directory):
        cluster = layout.plan("beside", NODES)
        backend = ProcessBackend(command=lambda node: on_a_leash("esnode", "--config", str(node.config)))
        backend.create(cluster, NodeOptions())
        numbers = [node.id for node in cluster.nodes]
        try:
            processes = await backend.start(cluster, numbers, START_TIMEOUT_S)
            leader = await wait_for_leader(cluster, START_TIMEOUT_S)
            pids = {process.node.id: process.pid for process in processes if process.pid is not None}
            if len(pids) < NODES:
                raise NodeNotRunning("a node of esnode ended as soon as it had started")
            followers = [number for number in numbers if number != leader]
            roles = {"leader": pids[leader]}
            roles |= {f"follower_{n}": pids[number] for n, number in enumerate(followers, 1)}
            async with connect(cluster.addresses, cluster=cluster.identity, window=window) as log:
                yield Subject(log, roles)
                if log.leader_id != leader:
                    raise LeadershipLost("another node leads now: nobody can say whose figures these are")
        finally:
            with trio.CancelScope(shield=True):
                await backend.stop(cluster, numbers, STOP_TIMEOUT_S)


@contextmanager
def state_in(directory: Path) -> Iterator[None]:
    """Let `esctl` keep its notes in `directory` and look at no others."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(directory)
    try:
        yield
    finally:
        del os.environ["XDG_STATE_HOME"]
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before


def on_a_leash(module: str, *arguments: str) -> list[str]:
    """The command line of a process that ends with this one."""
    return [sys.executable, "-m", "bench.floor.endswithparent", str(os.getpid()), module, *arguments]


def search_path() -> str:
    """Where a child process finds what this one has found."""
    root = str(Path(esnode.__file__).resolve().parent.parent)
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
