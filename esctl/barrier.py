"""The end of the log as a majority confirms it: every event acked before the question is before it.

Asks all nodes at once for a linearizable read of nothing; only a leader whose majority still answers can
reply. Decides how long to go on asking. Called by `health`, `consume`, `event` and the audit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from esctl.state import Cluster, Node
from esnode import limits
from esnode.client import connect_node
from esnode.errors import EventStreamError, NoQuorum, NotLeader, OperationTimeout, Unreachable

ROUND_S: Final = 0.05
"""Between two rounds of questions."""


@dataclass(frozen=True, slots=True)
class End:
    """Where the log ends, and who said so."""

    first_offset: int
    next_offset: int
    leader: int


async def confirmed_end(cluster: Cluster, timeout_s: float = limits.OPERATION_TIMEOUT_S) -> End:
    """Ask until a leader answers. Raises `Unreachable`, `NoQuorum`, `OperationTimeout`."""
    refusals: dict[int, EventStreamError] = {}
    with trio.move_on_after(timeout_s):
        while True:
            end = await _ask_all(cluster, timeout_s, refusals)
            if end is not None:
                return end
            await trio.sleep(ROUND_S)  # an election takes some hundred milliseconds
    raise _why_not(cluster, timeout_s, list(refusals.values()))


async def _ask_all(cluster: Cluster, timeout_s: float, refusals: dict[int, EventStreamError]) -> End | None:
    """The first answer of any node; None when all have refused."""
    found: list[End] = []
    async with trio.open_nursery() as nursery:

        async def ask(node: Node) -> None:
            try:
                async with connect_node(node.client, cluster=cluster.identity, timeout_s=timeout_s) as link:
                    answer = await link.read_records(limits.MAX_INDEX, 1, linearizable=True)
            except EventStreamError as error:
                refusals[node.id] = error
                return
            found.append(End(answer.first_offset, answer.next_offset, node.id))
            nursery.cancel_scope.cancel()

        for node in cluster.nodes:
            nursery.start_soon(ask, node)
    return found[0] if found else None


def _why_not(cluster: Cluster, timeout_s: float, refusals: Sequence[EventStreamError]) -> EventStreamError:
    """The error that says most. A node that has not even refused has a connection and is silent."""
    helps = f"esctl health --cluster {cluster.name}"
    silent = len(cluster.nodes) - len(refusals)
    if any(isinstance(error, NotLeader) for error in refusals):
        return NoQuorum(f"no leader of {cluster.name} answered within {timeout_s:g} s", next_step=helps)
    if silent or any(isinstance(error, OperationTimeout) for error in refusals):
        return OperationTimeout(
            f"no majority of {cluster.name} answered within {timeout_s:g} s", next_step=helps
        )
    reasons = "; ".join(str(error) for error in refusals)
    return Unreachable(
        f"no node of {cluster.name} answers: {reasons}", next_step=f"esctl cluster start {cluster.name}"
    )
