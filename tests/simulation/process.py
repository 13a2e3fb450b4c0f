"""One life of a simulated node: everything that a crash takes away. Made by `Host` when it starts.

The core, the driver, the machine, the waiting requests and the recovery are those that ship.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from esnode.apply import Machine
from esnode.dedup.admission import Admission
from esnode.loop.clocks import Elapsed
from esnode.loop.driver import Driver
from esnode.loop.inbox import Inbox
from esnode.loop.view import View
from esnode.loop.waiting import WaitingRequests
from esnode.raft.core import Core
from esnode.raft.log import RaftLog
from esnode.raft.messages import Input
from esnode.storage.memory import MemoryStorage
from esnode.upkeep.checkpointer import Checkpointer
from esnode.upkeep.recovery import recover

from .diskqueue import DiskQueue
from .upkeep import Upkeep

if TYPE_CHECKING:
    from .host import Host


class Process:
    """What ends with a crash."""

    def __init__(self, host: "Host", storage: MemoryStorage) -> None:
        world = host.world
        dedup = world.weather.dedup
        self.host = host
        self.machine = Machine(dedup, seed=host.id, segment_chunks=1)
        found = recover(storage, self.machine)
        log = found.log
        self.log: RaftLog = log
        log._cache_limit = world.weather.cache_bytes
        self.core = Core(
            host.id,
            world.voters,
            hard_state=found.hard_state,
            log=log,
            admission=Admission(
                self.machine.keys, self.machine.producers, self.machine.ring, world.partition
            ),
            timers=world.weather.timers,
            random=random.Random(f"{world.seed}:core:{host.id}:{host.life}"),
            rejoining=storage.recover().rejoining,
        )
        self.view = View(
            host.id,
            term=found.hard_state.term,
            applied_index=self.machine.applied_index,
            first_offset=found.first_offset,
            next_offset=self.machine.next_offset,
        )
        self.view.show_ownership(self.machine.ring.now)
        self.inbox = WakingInbox(host.wake)
        self.waiting = WaitingRequests()
        self.disk = DiskQueue(host, storage)
        self.due_reads: list[tuple[int, Callable[[], None]]] = []
        checkpointer = Checkpointer(self.machine, storage, found.checkpoint)
        self.upkeep = Upkeep(host, self.disk, checkpointer, self.machine.keys)
        self.unread_to = 0 if found.checkpoint is None else found.checkpoint.index
        """The log up to here was not read at the start."""
        self.driver = Driver(self.core, self.machine, self.inbox, self.view, self.disk, host, host, Elapsed())


class WakingInbox(Inbox):
    """The inbox, with a bell instead of a waiting task."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Input) -> None:
        """As `Inbox.put`; no task waits here."""
        self._items.append(item)
        self._wake()

    def offer(self, item: Input) -> bool:
        """As `Inbox.offer`."""
        taken = super().offer(item)
        self._wake()
        return taken
