"""The end of the log as a majority confirms it: every event acked before the question is before it.

Asks all nodes at once for a linearizable read of nothing; only a leader whose majority still answers can
reply. Decides how long to go on asking. Called by `status health`, `consume`, `event` and what
reads all logs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from esctl.clusters.state import Cluster, Node
from esctl.query import processes
from esctl.ui.formatting import duration
from esnode import limits
from esnode.client import connect_node
from esnode.errors import EventStreamError, NoQuorum, NotLeader, OperationTimeout, Unreachable

ROUND_S: Final = 0.05
"""Between two questions to one node."""
DOWN_TIMEOUT_S: Final = 1.0
"""How long nodes that all refuse to be connected to are tried: a restart takes less."""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where the log ends, and who said so."""

    first_offset: int
    next_offset: int
    leader: int


async def confirmed_end(
    cluster: Cluster,
    timeout_s: float = limits.OPERATION_TIMEOUT_S,
    down_timeout_s: float = DOWN_TIMEOUT_S,
    partition: int | None = None,
) -> LogEnd:
    """Ask until a leader answers; where there are several partitions, that of one of them.

    Raises `Unreachable`, `NoQuorum`, `OperationTimeout`.
    """
    asking = _Asking(cluster, partition, timeout_s, trio.current_time() + down_timeout_s)
    with trio.move_on_after(timeout_s):
        async with trio.open_nursery() as nursery:
            for node in cluster.nodes:
                nursery.start_soon(asking.ask_until_answered, node, nursery.cancel_scope)
            nursery.start_soon(asking.watch_processes, nursery.cancel_scope)
    if asking.end is None:
        raise asking.known or _why_not(cluster, timeout_s, list(asking.refusals.values()))
    return asking.end


class _Asking:
    """The same question to every node, again and again: one that hangs holds up no other."""

    def __init__(self, cluster: Cluster, partition: int | None, timeout_s: float, give_up_at: float) -> None:
        self.end: LogEnd | None = None
        self.refusals: dict[int, EventStreamError] = {}
        """What each node said last."""
        self.known: NoQuorum | None = None
        """What need not be waited for."""
        self._cluster = cluster
        self._partition = partition
        self._timeout_s = timeout_s
        self._give_up_at = give_up_at

    async def ask_until_answered(self, node: Node, all_of_it: trio.CancelScope) -> None:
        """Ask one node; the first answer of any node ends it all."""
        while self.end is None and not self._nobody_listens():
            try:
                self.end = await self._ask(node)
            except EventStreamError as error:
                self.refusals[node.id] = error
                await trio.sleep(ROUND_S)  # an election takes some hundred milliseconds
        all_of_it.cancel()

    async def watch_processes(self, all_of_it: trio.CancelScope) -> None:
        """End it once it is known that no majority runs, and nobody is about to change that."""
        await trio.sleep(DOWN_TIMEOUT_S)
        answered = {number for number, why in self.refusals.items() if not isinstance(why, Unreachable)}
        self.known = processes.no_quorum(self._cluster, answered)
        if self.known is not None:
            all_of_it.cancel()

    async def _ask(self, node: Node) -> LogEnd:
        identity = self._cluster.identity
        link = connect_node(
            node.client, cluster=identity, partition=self._partition, timeout_s=self._timeout_s
        )
        async with link:
            answer = await link.read_records(limits.MAX_INDEX, 1, linearizable=True)
        return LogEnd(answer.first_offset, answer.next_offset, node.id)

    def _nobody_listens(self) -> bool:
        refused = [error for error in self.refusals.values() if isinstance(error, Unreachable)]
        return len(refused) == len(self._cluster.nodes) and trio.current_time() > self._give_up_at


def _why_not(cluster: Cluster, timeout_s: float, refusals: Sequence[EventStreamError]) -> EventStreamError:
    """The error that says most. A node that has not even refused has a connection and is silent."""
    helps = f"esctl status health --cluster {cluster.name}"
    silent = len(cluster.nodes) - len(refusals)
    if any(isinstance(error, NotLeader) for error in refusals):
        return NoQuorum(f"no leader of {cluster.name} answered within {duration(timeout_s)}", next_step=helps)
    if silent or any(isinstance(error, OperationTimeout) for error in refusals):
        return OperationTimeout(
            f"no majority of {cluster.name} answered within {duration(timeout_s)}", next_step=helps
        )
    reasons = "; ".join(sorted({reason_of(error) for error in refusals}))
    return Unreachable(
        f"no node of cluster {cluster.name} answers: {reasons}",
        next_step=f"esctl cluster start {cluster.name}",
    )


def reason_of(error: EventStreamError) -> str:
    """In a few words, for a row of a table: which node it is stands beside it."""
    return str(error).rpartition(": ")[2] if isinstance(error, Unreachable) else str(error)
