"""The events of one source as they come, over its moves from one partition to another.

Reads one partition at a time: the one that owns the source, up to where its log switches to another ring,
then the next owner. Whether a partition has switched, its nodes are asked once a second. Never prints.
Called by `partitionreading.py`.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import trio

from esctl.clusters.backends.nodestatus import status_of
from esctl.clusters.state import Cluster, Node
from esctl.query.tenures import RingTurn, next_owner, turn_after, turns_of
from esnode.client import BatchSubscription, StoredBatch, connect, connect_node

LOOK_EVERY_S: Final = 1.0
"""So long after a move, the events of the new partition come at the latest."""


LOOK_TIMEOUT_S: Final = 0.3
"""Nothing is read meanwhile: a node that hangs must not hold up those that answer."""


@dataclass(slots=True)
class ReadPosition:
    """How far a partition has been read, and the ring that it went by there."""

    offset: int
    turn: RingTurn


class SourceFollower:
    """All batches of the partition that owns the source, without end. To be closed."""

    def __init__(
        self, cluster: Cluster, node: Node | None, source: str, at: Mapping[int, tuple[int, RingTurn]]
    ) -> None:
        """`at` has for each partition where to begin, and the ring that it goes by there."""
        self._cluster = cluster
        self._nodes = cluster.nodes if node is None else [node]
        self._node = node
        self._source = source
        self._at = {partition: ReadPosition(*one) for partition, one in at.items()}
        self._open = AsyncExitStack()
        self._batches: BatchSubscription | None = None
        self._partition = self._owner()
        self._look_at = 0.0

    async def next_batch(self) -> StoredBatch:
        """The next one. Raises what a `BatchSubscription` raises."""
        while True:
            if trio.current_time() >= self._look_at:
                await self._look()
            if self._batches is None:
                self._batches = await self._subscribe()
            left_s = self._look_at - trio.current_time()
            batch = await self._batches.next_within(max(0.0, left_s))
            self._at[self._partition].offset = self._batches.next_offset
            if batch is not None:
                return batch

    async def aclose(self) -> None:
        """Close what is open."""
        self._batches = None
        await self._open.aclose()

    def _owner(self) -> int:
        owner = next_owner({partition: one.turn for partition, one in self._at.items()}, self._source)
        # All that a partition has which is new came after what has been read.
        self._at.setdefault(owner, ReadPosition(0, RingTurn(0, None, 0)))
        return owner

    async def _look(self) -> None:
        """Go on with the next owner where the log that is read has been read up to a switch."""
        turns = await self._turns_of(self._partition)
        place = self._at[self._partition]
        newest = max(one.turn.version for one in self._at.values())
        place.turn = turn_after(self._partition, self._source, place.turn, turns, place.offset, newest)
        self._look_at = trio.current_time() + LOOK_EVERY_S
        owner = self._owner()
        if owner != self._partition:
            await self.aclose()
            self._partition, self._look_at = owner, 0.0  # the source may have moved on from there, too

    async def _turns_of(self, partition: int) -> list[RingTurn]:
        """The longest story that a node tells; a node may be behind."""
        told: list[list[RingTurn]] = []

        async def ask(node: Node) -> None:
            if (status := await status_of(node, partition)) is not None:
                told.append(turns_of(status.get("ring", {})))

        with trio.move_on_after(LOOK_TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                for node in self._nodes:
                    nursery.start_soon(ask, node)
        return max(told, key=lambda turns: turns[-1].version, default=[])

    async def _subscribe(self) -> BatchSubscription:
        begin, identity = self._at[self._partition].offset, self._cluster.identity
        if self._node is None:
            opened = connect(self._cluster.addresses, cluster=identity, partition=self._partition)
            return (await self._open.enter_async_context(opened)).subscribe_batches(begin)
        link = connect_node(self._node.client, cluster=identity, partition=self._partition)
        return await self._open.enter_async_context(link.subscribe_batches(begin))
