"""What upkeep does to a cluster, verb by verb: look, confirm, hand over, stop, start.

Decides nothing; each verb returns when it is done or raises what the backend and the client raise. A cluster
of one partition is a ring of one. Tests have operations of their own, over a cluster in memory. Called by the
rest of this package.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from esctl.clusters.backends.interface import Backend
from esctl.clusters.state import Cluster
from esctl.query import eachpartition, ringsurvey
from esctl.query.barrier import confirmed_end
from esctl.query.ringsurvey import RingSurvey
from esnode.client import connect_node

STOP_TIMEOUT_S: Final = 5.0
"""A node that has not ended by then is killed: what it has acked is on its disk."""
CONFIRM_TIMEOUT_S: Final = 10.0


class NodeOperations(Protocol):
    """What can be done to the nodes of one cluster."""

    async def look(self) -> RingSurvey:
        """Ask every node how it is, for every partition."""

    async def confirm(self) -> Sequence[int]:
        """Read through each leader, so that a majority answers for it; the leaders, by partition."""

    async def hand_over(self, leader: int, to: int | None, partition: int | None) -> None:
        """Ask `leader` to hand the leadership of a partition to `to`, or to its best follower."""

    async def stop(self, number: int) -> bool:
        """Stop a node; whether it had to be killed."""

    async def start(self, number: int, options: Sequence[str] = ()) -> int:
        """Start a node and wait until it answers; its pid."""


class ClusterOperations:
    """See `NodeOperations`."""

    def __init__(self, cluster: Cluster, backend: Backend, start_timeout_s: float) -> None:
        self._cluster = cluster
        self._backend = backend
        self._start_timeout_s = start_timeout_s

    async def look(self) -> RingSurvey:
        """See `NodeOperations.look`."""
        return await ringsurvey.ask(self._cluster)

    async def confirm(self) -> Sequence[int]:
        """See `NodeOperations.confirm`."""

        async def confirm_one(partition: int | None) -> int:
            return (await confirmed_end(self._cluster, CONFIRM_TIMEOUT_S, partition=partition)).leader

        found = await eachpartition.of_each(self._cluster, confirm_one)
        return [found[partition] for partition in sorted(found)]

    async def hand_over(self, leader: int, to: int | None, partition: int | None) -> None:
        """See `NodeOperations.hand_over`."""
        node, identity = self._cluster.node(leader), self._cluster.identity
        async with connect_node(node.client, cluster=identity, partition=partition) as link:
            await link.transfer_leadership(to)

    async def stop(self, number: int) -> bool:
        """See `NodeOperations.stop`."""
        return bool(await self._backend.stop(self._cluster, [number], STOP_TIMEOUT_S))

    async def start(self, number: int, options: Sequence[str] = ()) -> int:
        """See `NodeOperations.start`."""
        (process,) = await self._backend.start(self._cluster, [number], self._start_timeout_s, options)
        assert process.pid is not None
        return process.pid
