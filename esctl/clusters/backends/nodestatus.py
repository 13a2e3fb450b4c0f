"""How one node is asked for its status. Never raises for a node that is down: that is also an answer.

Called by the process backend, which waits for nodes that it has started, by `esctl/query/leader.py` and by
`esctl/chaos`.
"""

from typing import Any

import trio

from esctl.clusters.backends.interface import ANSWER_TIMEOUT_S
from esctl.clusters.state import Node
from esnode.errors import EventStreamError


async def status_of(node: Node, partition: int = 0) -> dict[str, Any] | None:
    """The node's own status (see docs/protocol.md), or None when it does not answer in time.

    With several partitions, that of its process for `partition`.
    """
    from esnode.client import connect_node  # loaded late: backends are imported before any node is asked

    with trio.move_on_after(ANSWER_TIMEOUT_S):
        try:
            async with connect_node(node.client, partition=partition) as connection:
                return await connection.status()
        except (EventStreamError, OSError):
            return None
    return None


async def answers(node: Node, partitions: int = 1) -> bool:
    """Does the node answer, for each of its partitions?"""
    for partition in range(partitions):
        if await status_of(node, partition) is None:
            return False
    return True
