"""What the rest of the node may see of the driver's state, and wait for.

Written by the driver after each step, and by retention and replication where they alone know; read by
ingest, the clocks and the status. Never decides. Positions only grow; `soft_state` changes at will.
"""

from collections.abc import Mapping

import trio

from esnode.dedup.ownership import Ownership
from esnode.raft.messages import NodeId, Role, SoftState


class View:
    """Role, term, leader, and how far the log is applied."""

    def __init__(
        self,
        me: NodeId,
        *,
        term: int,
        applied_index: int,
        first_offset: int,
        next_offset: int,
        rejoining: bool = False,
        ownership: Ownership | None = None,
    ) -> None:
        self.me = me
        self.soft_state = SoftState(Role.FOLLOWER, term, None, rejoining)
        self.applied_index = applied_index
        self.first_offset = first_offset
        """The first event that retention has kept."""
        self.next_offset = next_offset
        self.last_heard: float | None = None
        """When the leader was last heard from (trio's clock); None: never."""
        self.leader_in_doubt = False
        """Whether the leader is silent for so long that it may soon be replaced."""
        self.ownership = Ownership() if ownership is None else ownership
        """What the log says of the ring, as far as it is applied."""
        self.last_move: Mapping[str, int | None] = {}
        """What the last plan for the ring that this process carried out has moved, and how long that took."""
        self.work = 0
        """Turns in which something was to be written or applied."""
        self._applied = trio.lowlevel.ParkingLot()
        self._changed = trio.lowlevel.ParkingLot()
        self._working = trio.lowlevel.ParkingLot()

    @property
    def rejoining(self) -> bool:
        """Whether this node does not trust its own disk, and fetches its log from the others."""
        return self.soft_state.rejoining

    @property
    def ring(self) -> tuple[int, int]:
        """The ring that the partition goes by: its version, and how many partitions it has."""
        return self.ownership.version, self.ownership.partitions

    @property
    def leads(self) -> bool:
        """Whether this node is the leader."""
        return self.soft_state.role is Role.LEADER

    @property
    def leading_term(self) -> int | None:
        """The term in which this node leads; None when it does not."""
        return self.soft_state.term if self.leads else None

    def silence_ms(self) -> int:
        """How long ago the leader was heard from: 0 on the leader, -1 when it never was."""
        if self.leads:
            return 0
        if self.last_heard is None:
            return -1
        return int((trio.current_time() - self.last_heard) * 1000)

    def show_state(self, soft_state: SoftState) -> None:
        """Role, term or leader have changed."""
        self.soft_state = soft_state
        self._changed.unpark_all()
        self._working.unpark_all()

    def show_work(self) -> None:
        """Something was to be written or applied."""
        self.work += 1
        self._working.unpark_all()

    def show_applied(self, index: int, next_offset: int) -> None:
        """The log is applied up to `index`."""
        self.applied_index = index
        self.next_offset = next_offset
        self._applied.unpark_all()

    def show_ownership(self, ownership: Ownership) -> bool:
        """The log says so of the ring; whether the partition goes by another one since."""
        before, self.ownership = self.ring, ownership
        self._changed.unpark_all()
        return before != self.ring

    def show_first_offset(self, offset: int) -> None:
        """Events before `offset` are gone: cut here, or not in the snapshot that the leader sent."""
        self.first_offset = max(self.first_offset, offset)

    async def wait_applied(self, index: int) -> None:
        """Wait until the entry at `index` is applied."""
        while self.applied_index < index:
            await self._applied.park()

    async def wait_offset(self, offset: int) -> None:
        """Wait until the event at `offset` is applied."""
        while self.next_offset <= offset:
            await self._applied.park()

    async def wait_changed(self) -> SoftState:
        """Wait for the next change of role, term or leader, or of what the log says of the ring."""
        await self._changed.park()
        return self.soft_state

    async def wait_work(self) -> None:
        """Wait until something is to be written or applied, or role, term or leader change."""
        await self._working.park()

    async def wait_other_leader(self) -> NodeId:
        """Wait until another node is known to lead; returns it."""
        while self.soft_state.leader in (None, self.me):
            await self._changed.park()
        assert self.soft_state.leader is not None
        return self.soft_state.leader
