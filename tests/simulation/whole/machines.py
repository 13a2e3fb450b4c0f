"""A simulated machine with one node on it: its disk, its process, its ends and beginnings.

Decides what is left after each kind of end. The disk outlives the process. Called by `world.py` and
`faults.py`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import trio

from esnode.config import Config
from esnode.errors import StorageFailed
from esnode.node import Node
from esnode.status import Process
from esnode.storage.interface import Identity
from esnode.storage.memory import MemoryDisk, MemoryStorage

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
    note: Callable[[str, str], None]


@dataclass(slots=True)
class Life:
    """One process, from its start to its end."""

    scope: trio.CancelScope
    storage: MemoryStorage
    pace: SimulatedPace
    node: Node
    killed: bool = False


class Machine:
    """One machine."""

    def __init__(self, config: Config, ground: Ground) -> None:
        self.host = f"node-{config.node_id}"
        self.disk = MemoryDisk()
        self.life: Life | None = None
        self.lives = 0
        self.config = config
        self._ground = ground
        self._up = False
        self._begun = trio.lowlevel.ParkingLot()
        self._ended = trio.Event()
        self._ended.set()
        self._source = random.Random(f"{ground.seed}:disk:{self.host}")

    @property
    def node(self) -> Node | None:
        """The node that runs here."""
        return None if self.life is None else self.life.node

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
            life.killed, self._up = True, False
        return life

    async def _live(self) -> None:
        HOST.set(self.host)
        self.lives += 1
        ground, config = self._ground, self.config
        seed = f"{ground.seed}:{self.host}:{self.lives}"
        storage = MemoryStorage(self.disk, Identity(config.cluster, config.node_id))
        pace = SimulatedPace(storage, ground.speed, random.Random(f"{seed}:disk"))
        node = Node(
            config,
            storage,
            random.Random(seed),
            ground.network.dialer(self.host),
            pace=pace,
            process=lambda: Process(config.node_id, 0),
        )
        ground.audit.observe(self.host, node.machine)
        life = self.life = Life(trio.CancelScope(), storage, pace, node)
        self._begun.unpark_all()
        clients = ground.network.listen(self.host, config.me.client)
        peers = ground.network.listen(self.host, config.me.peer, CONFIRM_WITHIN_S)
        try:
            with life.scope:
                await node.run([clients], [peers])
        except* StorageFailed as group:
            if not life.killed:
                ground.note(self.host, f"the node has ended: {group.exceptions[0]!r}")
        finally:
            if not life.killed:
                self.life, self._up = None, False
                ground.network.end_process(self.host)
                ground.nursery.start_soon(self._start_later)
            storage.close()
            self._ended.set()

    async def _start_later(self) -> None:
        """What supervises it starts it again."""
        await trio.sleep(self._source.uniform(0.1, 2.0))
        await self.start()
