"""One live node of three without sockets: core, machine and a disk in memory, driven as the driver does.

Everything is the real thing: recovery, admission, storage with its checks. What a step asks for is carried
out at once, but for the durability of writes, which waits to be told. Used by the target `core`.
"""

import random
from typing import Final

from esnode import limits
from esnode.apply import Machine
from esnode.config import Dedup
from esnode.config import Raft as Timers
from esnode.dedup.admission import Admission
from esnode.raft.core import Core
from esnode.raft.messages import (
    AppendReply,
    Fetched,
    HardState,
    Input,
    Persisted,
    PrefixCut,
    Ready,
    Received,
    Role,
    SnapshotSent,
    Tick,
    VoteReply,
    Write,
)
from esnode.storage.interface import Distrust, Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.upkeep.recovery import recover

from . import samples
from .target import Finding

ME: Final = 1
VOTERS: Final = (1, 2, 3)
US: Final = Identity(samples.CLUSTER, ME)
DEDUP: Final = Dedup.of_keys(1024, ttl_ms=640)
LOG: Final = tuple(samples.chain((1, 1, 1, 2, 2, 4)))
"""What every case begins with; the first four are committed."""
COMMITTED: Final = 4


_TERM: Final = 5
_FIRST_WRITE: Final = Write(1, None, HardState(_TERM, None), LOG, COMMITTED)


class LiveNode:
    """Node 1, as it is when it has just started."""

    def __init__(self, *, rejoining: bool = False) -> None:
        self.disk = MemoryDisk()
        self.storage = MemoryStorage(self.disk, US)
        self.storage.write([_FIRST_WRITE])
        if rejoining:
            self.storage.close()
            self.disk.begin_rejoin(Distrust.OPERATOR)
            self.storage = MemoryStorage(self.disk, US)
        self.machine = Machine(DEDUP)
        found = recover(self.storage, self.machine)
        self.core = Core(
            ME,
            VOTERS,
            hard_state=found.hard_state,
            log=found.log,
            admission=Admission(self.machine.keys, self.machine.producers),
            timers=Timers(),
            random=random.Random(0),
            rejoining=found.rejoining,
        )
        self.unsaid: list[int] = []
        """Writes that are on the disk; the core has not heard so."""

    def step(self, item: Input) -> None:
        """One turn of the driver."""
        self.core.step(item)
        self.carry_out(self.core.ready())

    def carry_out(self, ready: Ready) -> None:
        """Do what a `Ready` asks for, in the driver's order; raises what a node would end with."""
        write = ready.write
        if write is not None:
            if write.snapshot is not None:
                self.machine.restore(write.snapshot)
            self.storage.write([write])
            self.unsaid.append(write.write_id)
        for entry in ready.committed:
            self.machine.apply(entry)
        if ready.committed:
            self.core.applied_to(self.machine.applied_index)
        for wanted in ready.snapshots:
            if self.storage.load_snapshot() is None:
                raise Finding("a snapshot is to be sent, and there is none")
            self.step(SnapshotSent(wanted.peer, ok=wanted.peer == 2))
        for fetch in ready.fetches:
            entries = self.storage.read(fetch.first_index, fetch.last_index, limits.MAX_FETCH_BYTES)
            self.step(Fetched(fetch, tuple(entries)))

    def persist(self) -> None:
        """The core hears that its writes are durable."""
        unsaid, self.unsaid = self.unsaid, []
        for write_id in unsaid:
            self.step(Persisted(write_id))

    def cut_prefix(self) -> None:
        """Retention: all that is applied goes."""
        snapshot = self.machine.snapshot()
        if self.core.log.prefix_index < snapshot.index <= self.core.log.durable:
            self.storage.cut_prefix(snapshot)
            self.step(PrefixCut(snapshot.index))

    def become(self, role: Role) -> None:
        """By what honest peers say."""
        core = self.core
        if role is Role.FOLLOWER:
            return
        while core.role is Role.FOLLOWER:
            self.step(Tick(100))
        if role is Role.PRE_CANDIDATE:
            return
        self.step(Received(2, VoteReply(core.term + 1, granted=True, pre=True)))
        if role is Role.CANDIDATE:
            return
        self.persist()
        self.step(Received(2, VoteReply(core.term, granted=True, pre=False)))
        self.persist()
        self.step(Received(2, AppendReply(core.term, core.log.last_index)))
        assert core.role is Role.LEADER
        assert core.log.committed == core.log.last_index

    def starts_again(self) -> None:
        """Whatever has happened, the disk can be opened and leads to a machine."""
        self.storage.close()
        again = MemoryStorage(self.disk, US)
        machine = Machine(DEDUP)
        found = recover(again, machine)
        again.close()
        if found.hard_state.term < _TERM:
            raise Finding(f"the term fell to {found.hard_state.term}")
