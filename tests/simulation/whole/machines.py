"""A simulated machine with one node on it: its disk, its process, its ends and beginnings.

Decides what is left after each kind of end. The disk outlives the process. Called by `world.py` and
`faults.py`.
"""

import random
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import trio

from esnode.config import Config
from esnode.errors import StorageFailed
from esnode.node import Node
from esnode.server.status import Process
from esnode.storage.interface import Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage
from esnode.storage.place import MemoryPlace
from esnode.upkeep.repair import Repair, keep_running
from esnode.wallclock import WallClock

from .audit import Audit
from .clock import HOST, Freezer
from .disk import DiskSpeed, SimulatedPace
from .network import Network

CONFIRM_WITHIN_S = 2.0
"""`limits.PEER_SILENCE_MS`, as a node sets it on the connections that it dials."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all machines of a world share."""

    seed: int
    nursery: trio.Nursery
    network: Network
    freezer: Freezer
    audit: Audit
    speed: DiskSpeed
    counts: Counter[str]
    note: Callable[[str, str], None]


@dataclass(slots=True)
class Life:
    """One process, from its start to its end."""

    scope: trio.CancelScope
    storage: MemoryStorage
    pace: SimulatedPace
    node: Node


class Machine:
    """One machine."""

    def __init__(self, config: Config, ground: Ground) -> None:
        self.host = f"node-{config.node_id}"
        self.disk = MemoryDisk(f"{ground.seed}:{self.host}".encode())
        self.life: Life | None = None
        self.lives = 0
        self.config = config
        self._ground = ground
        self._up = False
        self._lost = False
        self._will_rejoin = False
        self._read_anew = False
        """A node has read all of the disk since it was lost."""
        self._losses = self._losses_before = 0
        self._nodes = 0
        self._begun = trio.lowlevel.ParkingLot()
        self._ended = trio.Event()
        self._ended.set()
        self._source = random.Random(f"{ground.seed}:disk:{self.host}")

    @property
    def node(self) -> Node | None:
        """The node that runs here."""
        return None if self.life is None else self.life.node

    @property
    def lost(self) -> bool:
        """What is on the disk is not to be believed, or was not yet fetched anew."""
        if self._lost and self._read_anew and self.node is not None:
            self._lost = self.node.view.rejoining  # else the damage was where nothing is read any more
        # A node that says it has rejoined does so again if it ends before its marker is gone.
        return self._lost or self.disk.rejoining

    def lose(self, change: Callable[[], object], *, noticed: bool) -> None:
        """Something happens to the disk that it was not made for: `change`.

        `noticed`: the node is sure to rejoin for it, once it has met the others.
        """
        change()
        self._losses += 1
        self._lost, self._read_anew, self._will_rejoin = True, False, noticed

    def rejoined(self) -> None:
        """Its node has said so."""
        self._lost = False

    def checked(self) -> None:
        """Its node has read what there was on the disk when it began."""
        self._read_anew = not self._will_rejoin and self._losses == self._losses_before

    def kill(self) -> None:
        """End the process at once, as kill -9 does: what it wrote stays in the cache of the system."""
        life = self._bury()
        if life is not None:
            self._ground.network.end_process(self.host)
            life.storage.end_process()
            life.scope.cancel()

    def power_off(self) -> None:
        """Cut the power: what was not synced is torn, and nobody is told."""
        life = self._bury()
        self._ground.network.power_off(self.host)
        self.disk.crash(self._source)
        if life is not None:
            life.scope.cancel()

    async def start(self) -> None:
        """Switch the machine on and start its node, unless it runs."""
        if self._up:
            return
        self._up = True
        await self._ended.wait()
        self._ended = trio.Event()
        self.disk.capacity_bytes = None
        self._ground.network.power_on(self.host)
        self._ground.nursery.start_soon(self._live, name=self.host)

    def heal(self) -> None:
        """Its disk is well again."""
        self.disk.capacity_bytes = None
        self.disk.fail_write(2**62)
        if self.life is not None:
            self.life.pace.slow_until = 0.0

    async def applied(self, last_index: Callable[[], int]) -> None:
        """Wait until its node, in whichever life, has applied everything."""
        while True:
            life = self.life
            if life is None:
                await self._begun.park()
            elif life.node.view.applied_index < last_index():
                with trio.move_on_after(0.1):
                    await life.node.view.wait_applied(last_index())
            else:
                return

    def place(self) -> str:
        """How far it is."""
        if self.node is None:
            return "down"
        state = self.node.view.soft_state
        return f"{state.role.value} in term {state.term} at {self.node.view.applied_index}"

    def _bury(self) -> Life | None:
        self._ground.freezer.thaw(self.host)
        life, self.life = self.life, None
        if life is not None:
            self._up = False
        return life

    async def _live(self) -> None:
        """One process: as `__main__`, with the repairs that it makes of itself."""
        HOST.set(self.host)
        self.lives += 1
        config = self.config
        scope = trio.CancelScope()
        repair = Repair(
            MemoryPlace(self.disk, Identity(config.cluster, config.node_id)), alone=not config.peers
        )
        try:
            with scope:
                await keep_running(repair, partial(self._run_node, repair, scope), inline=True)
        except* StorageFailed as group:
            if not scope.cancel_called:
                self._ground.counts["node.ended itself"] += 1
                self._ground.note(self.host, f"the node has ended: {group.exceptions[0]!r}")
        finally:
            if not scope.cancel_called:
                self._up = False
                self._ground.nursery.start_soon(self._start_later)
            self._ended.set()

    async def _run_node(self, repair: Repair, scope: trio.CancelScope) -> None:
        ground, config = self._ground, self.config
        self._nodes += 1
        seed = f"{ground.seed}:{self.host}:{self._nodes}"
        clients = ground.network.listen(self.host, config.me.client)
        peers = ground.network.listen(self.host, config.me.peer, CONFIRM_WITHIN_S)
        try:
            with closing(repair.open()) as storage:
                assert isinstance(storage, MemoryStorage)
                pace = SimulatedPace(storage, ground.speed, random.Random(f"{seed}:disk"))
                node = Node(
                    config,
                    storage,
                    random.Random(seed),
                    ground.network.dialer(self.host),
                    pace=pace,
                    process=lambda: Process(config.node_id, 0),
                    clock=WallClock(trio.current_time),
                )
                ground.audit.observe(self.host, node.machine)
                self.life = Life(scope, storage, pace, node)
                self._losses_before = self._losses
                self._begun.unpark_all()
                await node.run([clients], [peers])
        finally:
            if not scope.cancel_called:
                self.life = None
                ground.network.end_process(self.host)

    async def _start_later(self) -> None:
        """What supervises it starts it again."""
        await trio.sleep(self._source.uniform(0.1, 2.0))
        await self.start()
