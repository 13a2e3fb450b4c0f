"""How nodes are asked for their status, and who leads: the one place where the frame meets the client.

Never raises for a node that is down: that is an answer too. Called by the process backend and by the
commands that wait for a cluster.
"""

from typing import Any, Final

import trio

from esctl.state import Cluster, Node
from esnode.errors import EventStreamError, NoQuorum

ANSWER_TIMEOUT_S: Final = 2.0
KNOWN_AFTER_S: Final = 1.0


async def status_of(node: Node) -> dict[str, Any] | None:
    """The node's own status (see docs/protocol.md), or None when it does not answer in time."""
    from esnode.client import connect_node  # loaded late: backends are imported before any node is asked

    with trio.move_on_after(ANSWER_TIMEOUT_S):
        try:
            async with connect_node(node.client) as connection:
                return await connection.status()
        except (EventStreamError, OSError):
            return None
    return None


async def answers(node: Node) -> bool:
    """Does the node answer?"""
    return await status_of(node) is not None


async def leader_of(cluster: Cluster) -> int | None:
    """The number of the node that leads in the highest term any node knows of; None when nobody does."""
    statuses: list[dict[str, Any]] = []

    async def ask(node: Node) -> None:
        status = await status_of(node)
        if status is not None:
            statuses.append(status)

    async with trio.open_nursery() as nursery:
        for node in cluster.nodes:
            nursery.start_soon(ask, node)
    leaders = [status for status in statuses if status["role"] == "leader"]
    newest = max(leaders, key=lambda status: int(status["term"]), default=None)
    return int(newest["id"]) if newest is not None else None


async def wait_for_leader(cluster: Cluster, timeout_s: float, *, unless_known: bool = False) -> int:
    """The number of the leader as soon as there is one; raises `NoQuorum` when the time is over.

    `unless_known`: also once too few nodes have run for `KNOWN_AFTER_S`: somebody may be starting them.
    """
    with trio.move_on_after(timeout_s):
        pause_s, known_at = 0.01, trio.current_time() + KNOWN_AFTER_S
        while True:
            leader = await leader_of(cluster)
            if leader is not None:
                return leader
            if unless_known and trio.current_time() >= known_at:
                from esctl.inquiry import processes  # loaded late: the backends import this module

                known = processes.no_quorum(cluster)
                if known is not None:
                    raise known
            await trio.sleep(pause_s)  # an election takes some hundred milliseconds
            pause_s = min(2 * pause_s, 0.1)
    raise NoQuorum(
        f"cluster {cluster.name} has no leader after {timeout_s:g} s",
        next_step=f"esctl status --cluster {cluster.name}",
    )
