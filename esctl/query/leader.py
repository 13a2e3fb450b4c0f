"""Who leads, and how a command waits until somebody does. Called by commands, drills and benches.

Each partition has a leader of its own; without a word of it, partition 0 is meant.
"""

from typing import Any, Final

import trio

from esctl.clusters.backends.nodestatus import status_of
from esctl.clusters.state import Cluster, Node
from esctl.query import processes
from esctl.ui.formatting import duration
from esnode.errors import NoQuorum

KNOWN_AFTER_S: Final = 1.0


async def leader_of(cluster: Cluster, partition: int = 0) -> int | None:
    """The number of the node that leads in the highest term any node knows of; None when nobody does."""
    statuses: list[dict[str, Any]] = []

    async def ask(node: Node) -> None:
        status = await status_of(node, partition)
        if status is not None:
            statuses.append(status)

    async with trio.open_nursery() as nursery:
        for node in cluster.nodes:
            nursery.start_soon(ask, node)
    leaders = [status for status in statuses if status["role"] == "leader"]
    newest = max(leaders, key=lambda status: int(status["term"]), default=None)
    return int(newest["id"]) if newest is not None else None


async def wait_for_leaders(cluster: Cluster, timeout_s: float, *, unless_known: bool = False) -> list[int]:
    """The leader of each partition, by its number, once all have one; raises `NoQuorum` as the next does."""
    deadline = trio.current_time() + timeout_s
    leaders: list[int] = []
    for partition in range(cluster.partitions):  # they are elected beside each other
        left_s = max(0.1, deadline - trio.current_time())
        leaders.append(await wait_for_leader(cluster, left_s, partition, unless_known=unless_known))
    if cluster.partitions > 1:
        await _wait_for_ring(cluster, max(0.1, deadline - trio.current_time()))
    return leaders


async def _wait_for_ring(cluster: Cluster, timeout_s: float) -> None:
    """Return once no plan for the ring is under way, nor the first one still due; raises `NoQuorum`."""
    with trio.move_on_after(timeout_s):
        while True:
            for node in cluster.nodes:
                status = await status_of(node, 0)
                if status is None or status["role"] != "leader":
                    continue
                plan = status.get("ring", {}).get("plan")
                if "ring" not in status or (plan is not None and plan["ended"]):
                    return
            await trio.sleep(0.02)  # a plan takes some tenths of a second
    raise NoQuorum(
        f"the ring of cluster {cluster.name} is still changing after {duration(timeout_s)}",
        next_step=f"esctl ring show --cluster {cluster.name}",
    )


async def wait_for_leader(
    cluster: Cluster, timeout_s: float, partition: int = 0, *, unless_known: bool = False
) -> int:
    """The number of the leader as soon as there is one; raises `NoQuorum` when the time is over.

    `unless_known`: also once too few nodes have run for `KNOWN_AFTER_S`: somebody may be starting them.
    """
    with trio.move_on_after(timeout_s):
        pause_s, known_at = 0.01, trio.current_time() + KNOWN_AFTER_S
        while True:
            leader = await leader_of(cluster, partition)
            if leader is not None:
                return leader
            if unless_known and trio.current_time() >= known_at:
                known = processes.no_quorum(cluster)
                if known is not None:
                    raise known
            await trio.sleep(pause_s)  # an election takes some hundred milliseconds
            pause_s = min(2 * pause_s, 0.1)
    which = f"partition {partition} of " if cluster.partitions > 1 else ""
    raise NoQuorum(
        f"{which}cluster {cluster.name} has no leader after {duration(timeout_s)}",
        next_step=f"esctl status --cluster {cluster.name}",
    )
