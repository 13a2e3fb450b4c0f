"""What the operating system knows before any node is asked: whether a majority of the nodes runs at all.

A node that is down or paused stays so until somebody does something, unless a fault has struck it: then its
lease ends that. So what cannot come is told at once. Called by the commands that would wait for a cluster.
"""

from collections.abc import Collection
from typing import Final

import trio

from esctl.clusters.backends import backend_named, datadir
from esctl.clusters.backends.interface import RunState
from esctl.clusters.state import Cluster
from esctl.faults import leases
from esnode.config import parse_address
from esnode.errors import NoQuorum, Unreachable

LISTEN_S: Final = 0.5


def away(cluster: Cluster) -> set[int]:
    """The nodes that are down or paused beside others that run, with no lease to bring them back."""
    found = backend_named(cluster.backend).nodes(cluster)
    absent = {process.node.id for process in found if process.state is not RunState.RUNNING}
    return absent - {one.node for one in leases.active(cluster)} if len(absent) < len(found) else set()


def no_quorum(cluster: Cluster, answered: Collection[int] = ()) -> NoQuorum | None:
    """The error when some nodes run, fewer than a majority, and no lease will change that.

    Nodes that have `answered` count as well. Where none runs here, the processes say nothing of those.
    """
    found = backend_named(cluster.backend).nodes(cluster)
    running = {process.node.id for process in found if process.state is RunState.RUNNING}
    if not running or len(running | {*answered}) >= cluster.quorum or leases.active(cluster):
        return None
    away = ", ".join(f"node {p.node.id} is {p.state}" for p in found if p.state is not RunState.RUNNING)
    helps = "resume" if all(p.state is not RunState.DOWN for p in found) else "start"
    first = next(p for p in found if p.state is (RunState.PAUSED if helps == "resume" else RunState.DOWN))
    step = "why" if datadir.too_few_logs(cluster, running) else f"node {helps} {first.node.id}"
    return NoQuorum(
        f"{len(running)} of {len(found)} nodes of {cluster.name} run, {cluster.quorum} needed: {away}",
        next_step=f"esctl {step} --cluster {cluster.name}",
    )


async def refuse_if_stopped(cluster: Cluster) -> None:
    """Raises `Unreachable` when no node runs, and nothing listens where they would: it was not started."""
    if any(process.state is not RunState.DOWN for process in backend_named(cluster.backend).nodes(cluster)):
        return
    for node in cluster.nodes:
        address = parse_address(node.client)
        with trio.move_on_after(LISTEN_S):
            try:
                stream = await trio.open_tcp_stream(address.host, address.port)
            except OSError:
                continue
            await stream.aclose()
            return
    helps = f"esctl cluster start {cluster.name}"
    if datadir.too_few_logs(cluster):
        helps = f"esctl why --cluster {cluster.name}"
    raise Unreachable(f"no node of cluster {cluster.name} runs", next_step=helps)
