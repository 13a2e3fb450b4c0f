"""What goes wrong, when, and for how long: one task that breaks things, and others that mend them.

Each fault chooses its victims itself, from a stream of random numbers of its own, and counts only when it
has hit. Never breaks a promise that the cluster relies on: a disk keeps what it has synced. Run by
`world.py` while there is load.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import trio

from .clock import Freezer
from .machines import Machine
from .network import Network
from .streams import End

Ways = list[tuple[str, str]]


class Faults:
    """Breaks one world."""

    def __init__(
        self,
        machines: Sequence[Machine],
        clients: Sequence[str],
        network: Network,
        freezer: Freezer,
        counts: Counter[str],
        source: random.Random,
        note: Callable[[str, str], None],
    ) -> None:
        self.transfer: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Asks for another leader."""
        self._machines = machines
        self._clients = clients
        self._network = network
        self._freezer = freezer
        self._counts = counts
        self._source = source
        self._note = note

    async def run(self, shares: Mapping[str, float], every_s: float) -> None:
        """Break something now and then, for ever; when it is cancelled, everything is mended."""
        if not shares:
            await trio.sleep_forever()
        kinds, weights = list(shares), list(shares.values())
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._source.expovariate(1 / every_s))
                (kind,) = self._source.choices(kinds, weights)
                nursery.start_soon(getattr(self, f"_{kind}"))

    def _hit(self, kind: str, what: str) -> None:
        self._counts[f"fault.{kind}"] += 1
        self._note("world", f"{kind}: {what}")

    def _while_s(self) -> float:
        return self._source.choice((0.05, 0.3, 1.0, 2.5, 5.0)) * self._source.uniform(0.5, 1.5)

    def _victim(self) -> Machine:
        """Any machine, and the leader's more often than by chance."""
        leaders = [machine for machine in self._machines if machine.node and machine.node.view.leads]
        aimed = leaders and self._source.random() < 0.3
        return self._source.choice(leaders if aimed else self._machines)

    def _running(self) -> Machine | None:
        running = [machine for machine in self._machines if machine.life is not None]
        return self._source.choice(running) if running else None

    # --- processes and machines ------------------------------------------------------------------

    async def _kill(self) -> None:
        await self._end("kill", self._victim(), Machine.kill)

    async def _power(self) -> None:
        await self._end("power", self._victim(), Machine.power_off)

    async def _relapse(self) -> None:
        """It ends, begins again on what is in the cache, and then the power goes."""
        machine = self._running()
        if machine is None:
            return
        self._hit("relapse", machine.host)
        machine.kill()
        await self._start_again(machine, self._source.uniform(0.0, 0.1))
        await trio.sleep(self._source.uniform(0.01, 0.5))
        await self._end("power", machine, Machine.power_off)

    async def _kill_all(self) -> None:
        await self._end_all("kill_all", Machine.kill)

    async def _power_all(self) -> None:
        await self._end_all("power_all", Machine.power_off)

    async def _end_all(self, kind: str, end: Callable[[Machine], None]) -> None:
        async with trio.open_nursery() as nursery:
            for machine in self._machines:
                nursery.start_soon(self._end, kind, machine, end)

    async def _end(self, kind: str, machine: Machine, end: Callable[[Machine], None]) -> None:
        if machine.life is None:
            return
        self._hit(kind, machine.host)
        end(machine)
        await self._start_again(machine)

    async def _pause(self) -> None:
        machine = self._running()
        if machine is None or self._freezer.is_frozen(machine.host):
            return
        self._hit("pause", machine.host)
        life = machine.life
        self._freezer.freeze(machine.host)
        try:
            await trio.sleep(self._while_s())
        finally:
            if machine.life is life:
                self._note("world", f"{machine.host} goes on")
                self._freezer.thaw(machine.host)

    async def _transfer(self) -> None:
        self._hit("transfer", "to the best follower")
        await self.transfer()

    # --- the network -------------------------------------------------------------------------------

    async def _isolate(self) -> None:
        victim = self._victim().host
        await self._cut("isolate", victim, _both(victim, self._others(victim)))

    async def _one_way(self) -> None:
        victim = self._victim().host
        ways = [(victim, other) for other in self._others(victim)]
        if self._source.random() < 0.5:
            await self._cut("one_way", f"{victim} is not heard", ways)
        else:
            await self._cut("one_way", f"{victim} hears nothing", [(there, here) for here, there in ways])

    async def _split(self) -> None:
        everybody = [*(machine.host for machine in self._machines), *self._clients]
        self._source.shuffle(everybody)
        cut = self._source.randrange(1, len(everybody))
        left, right = everybody[:cut], everybody[cut:]
        ways = [way for host in left for way in _both(host, right)]
        await self._cut("split", f"{' '.join(left)} from {' '.join(right)}", ways)

    async def _island(self) -> None:
        """One node, often the leader, alone with clients that go on asking it."""
        victim = self._victim().host
        island = [victim, *(client for client in self._clients if self._source.random() < 0.7)]
        others = [machine.host for machine in self._machines if machine.host != victim]
        ways = [way for host in island for way in _both(host, others)]
        await self._cut("island", " ".join(island), ways)

    async def _bridge(self) -> None:
        """Two nodes do not see each other; everybody else sees both."""
        if len(self._machines) > 2:
            left, right = (machine.host for machine in self._source.sample(self._machines, 2))
            await self._cut("bridge", f"{left} and {right}", _both(left, [right]))

    async def _flap(self) -> None:
        victim = self._victim().host
        ways = _both(victim, self._others(victim))
        for _ in range(self._source.randrange(3, 12)):
            await self._cut("flap", victim, ways, self._source.uniform(0.01, 0.4))
            await trio.sleep(self._source.uniform(0.01, 0.4))

    async def _cut(self, kind: str, what: str, ways: Ways, for_s: float | None = None) -> None:
        for_s = self._while_s() if for_s is None else for_s
        self._hit(kind, f"{what} for {for_s:.3f} s")
        self._network.cut(ways)
        try:
            await trio.sleep(for_s)
        finally:
            self._network.mend(ways)

    def _others(self, victim: str) -> list[str]:
        """The other nodes, and in half of all cases the clients too."""
        nodes = [machine.host for machine in self._machines if machine.host != victim]
        return [*nodes, *self._clients] if self._source.random() < 0.5 else nodes

    async def _stall(self) -> None:
        end = self._any_end()
        if end is None:
            return
        self._hit("stall", f"{end.host} to {end.other.host}")
        self._network.stall(end, True)
        try:
            await trio.sleep(self._while_s())
        finally:
            self._network.stall(end, False)

    async def _reset(self) -> None:
        end = self._any_end()
        if end is not None:
            self._hit("reset", f"{end.host} and {end.other.host}")
            self._network.reset(end)

    async def _half_open(self) -> None:
        end = self._any_end()
        if end is not None:
            self._hit("half_open", f"{end.host} has lost {end.other.host}")
            self._network.half_open(end)

    def _any_end(self) -> End | None:
        ends = [one for end in self._network.connections for one in (end, end.other) if not one.closed]
        return self._source.choice(ends) if ends else None

    # --- disks ---------------------------------------------------------------------------------------

    async def _slow_disk(self) -> None:
        machine = self._running()
        if machine is not None and machine.life is not None:
            for_s = self._while_s()
            self._hit("slow_disk", f"{machine.host} for {for_s:.3f} s")
            machine.life.pace.slow_until = trio.current_time() + for_s

    async def _failed_sync(self) -> None:
        machine = self._running()
        if machine is not None:
            self._hit("failed_sync", machine.host)
            machine.disk.fail_write(self._source.randrange(5))

    async def _full_disk(self) -> None:
        machine = self._running()
        if machine is not None:
            self._hit("full_disk", machine.host)
            machine.disk.capacity_bytes = len(machine.disk.cache) + self._source.randrange(20_000)

    # --- disks that are not to be believed any more ------------------------------------------------

    async def _wipe(self) -> None:
        """An empty disk in place of the old one."""
        machine = self._victim()
        if self._may_lose(machine):
            self._hit("wipe", machine.host)
            machine.kill()
            machine.lose(machine.disk.wipe, noticed=True)
            await self._start_again(machine)

    async def _old_copy(self) -> None:
        """A copy is made now, and put in place of the disk some time later; or back over its very files."""
        machine = self._victim()
        image = machine.disk.image()
        await trio.sleep(self._while_s())
        if self._may_lose(machine):
            in_place = self._source.random() < 0.5
            self._hit("old_copy", f"{machine.host}{', in place' if in_place else ''}")
            machine.kill()
            noticed = not in_place or image.mark < machine.disk.witnessed
            machine.lose(partial(machine.disk.restore, image, in_place=in_place), noticed=noticed)
            await self._start_again(machine)

    async def _bit_flip(self) -> None:
        """A bit turns over; the process ends soon, and the next one reads everything, sooner or later."""
        machine = self._victim()
        if machine.disk.checkpoints.size_bytes and self._source.random() < 0.3:
            self._hit("bit_flip", f"{machine.host}, in its checkpoint")
            machine.disk.checkpoints.flip_bit(self._source)  # it costs time, and nothing else
            await trio.sleep(self._while_s())
            machine.kill()
            await self._start_again(machine)
            return
        if not machine.disk.synced or not self._may_lose(machine):
            return
        if machine.disk.checkpoints.chunks and self._source.random() < 0.3:
            self._hit("bit_flip", f"{machine.host}, in its keys")
            # The snapshot may need them, or only the checkpoint, or nobody any more.
            machine.lose(partial(machine.disk.checkpoints.flip_bit_of_keys, self._source), noticed=False)
        elif machine.disk.has_snapshot and self._source.random() < 0.3:
            self._hit("bit_flip", f"{machine.host}, in its snapshot")
            machine.lose(partial(machine.disk.flip_bit_of_snapshot, self._source), noticed=False)
        else:
            self._hit("bit_flip", f"{machine.host}, in its log")
            machine.lose(partial(machine.disk.flip_bit, self._source), noticed=False)
        await trio.sleep(self._while_s())
        machine.kill()
        await self._start_again(machine)

    def _may_lose(self, machine: Machine) -> bool:
        """Whether one more disk may be lost: a majority stays sound, and this one was."""
        lost = sum(each.lost for each in self._machines)
        return not machine.lost and 2 * (lost + 1) < len(self._machines)

    async def _start_again(self, machine: Machine, after_s: float | None = None) -> None:
        try:
            await trio.sleep(self._while_s() if after_s is None else after_s)
        finally:
            with trio.CancelScope(shield=True):
                await machine.start()


def _both(host: str, others: Sequence[str]) -> Ways:
    return [way for other in others for way in ((host, other), (other, host))]
