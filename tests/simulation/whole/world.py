"""Tier B: one cluster of whole nodes and its clients, from the first start to rest after all faults.

`run` is the whole of it: a seed in, an `Outcome` out. Everything that ships is real but the sockets, the
disks, the clock and the scheduler. Decides what is demanded in the end: a healed cluster takes events
within `HEALED_S`, all nodes are equal within as much again, and the history holds.
"""

import random
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Final
from unittest.mock import patch

import trio

from esctl.verify.operations import Operations
from esnode import limits
from esnode.client import connect, connect_node
from esnode.config import Address, Config, Member
from esnode.dedup.batch import OffsetRange
from esnode.dedup.ownership import RingSwitch
from esnode.errors import EventStreamError, WindowFull
from esnode.events import key_of
from esnode.ring import FIRST_VERSION
from esnode.storage.interface import pages

from ..outcome import Outcome, Violation
from ..trace import Listener, Trace
from .audit import Audit
from .clients import Application, Client, Share
from .clock import HOST, Freezer, run_deterministically
from .faults import Faults
from .journal import told
from .machines import Ground, Machine
from .network import Network
from .numbered import Numbered
from .smallchunks import has_small_chunks, small_chunks
from .swarm import Swarm, draw

HEALED_S: Final = 10.0
"""A healed cluster takes new events within this: the longest pauses that anybody makes, and elections."""
LEVEL_S: Final = 20.0
OVER_S: Final = 300.0
"""No run takes longer."""


LED_S: Final = 10.0
"""A healed cluster with several partitions is led by the node that is to lead within this."""
CALM_S: Final = 30.0
"""So long nothing changes then."""
ALONE: Final = Share()


class World:
    """One cluster, its clients, and what happens to them."""

    def __init__(self, seed: int, listener: Listener | None, share: Share) -> None:
        self.seed = seed
        self.share = share
        self.swarm: Swarm = draw(seed)
        self.trace = Trace(listener)
        self.counts: Counter[str] = Counter()
        self.audit = Audit()
        self.history = Operations()
        self.ended_s = 0.0
        self._network = Network(random.Random(f"{seed}:net"), self.swarm.network)
        self._application = Application(self.swarm.load, self.history, random.Random(f"{seed}:load"), share)
        self._freezer = Freezer()
        self._machines: dict[str, Machine] = {}
        self._numbered: list[Numbered] = []

    async def play(self) -> None:
        """Everything, in order; raises `Violation`."""
        try:
            with trio.fail_after(OVER_S):
                async with trio.open_nursery() as nursery:
                    ground = Ground(
                        self.seed,
                        nursery,
                        self._network,
                        self._freezer,
                        self.audit,
                        self.swarm.disk,
                        self.counts,
                        self.note,
                    )
                    await self._play(ground)
                    nursery.cancel_scope.cancel()
        finally:
            self.ended_s = trio.current_time()
            self.counts.update(self._application.counts)
            self.counts["net.dials"] = self._network.dials

    def note(self, who: str, what: str) -> None:
        """A line of the story."""
        self.trace.note(round(trio.current_time() * 1e9), who, what)

    def tell(self, event: str, fields: dict[str, object]) -> None:
        """A line of a node's own log."""
        host = HOST.get()
        self.note(host, " ".join([event, *(f"{name}={value}" for name, value in fields.items())]))
        self.counts[f"log.{event}"] += 1
        term = fields.get("new_term")
        if event == "state_changed" and fields["role"] == "leader" and isinstance(term, int):
            self.audit.leads(host, term)
        if event == "rejoin_done":
            self._machines[host].rejoined()
        if event == "log_checked":
            self._machines[host].checked()
        if event == "rejoin_begun" and not self._machines[host].lost:
            raise Violation("durability", f"{host} finds a damage that nobody did: {fields['reason']}")

    async def _play(self, ground: Ground) -> None:
        machines = [Machine(config, ground) for config in _configs(self.swarm, self.share)]
        self._machines = {machine.host: machine for machine in machines}
        for machine in machines:
            for address in (machine.config.me.peer, machine.config.me.client):
                self._network.place(machine.host, address)
        for machine in machines:
            await machine.start()
        hosts = [f"client-{number}" for number in range(1, self.swarm.load.clients + 1)]
        addresses = [str(machine.config.me.client) for machine in machines]
        if self.share.partitions > 1:
            await self._take_sources(addresses)
        async with trio.open_nursery() as users:
            clients: list[Client | Numbered] = []
            for host in hosts:
                client = Client(
                    self._application, addresses, self._network.dialer(host), f"{self.seed}:{host}"
                )
                clients.append(client)
                users.start_soon(_on, host, client)
            for number in range(random.Random(f"{self.seed}:numbered").choice((0, 1, 2))):
                host = f"producer-{number + 1}"
                hosts.append(host)
                numbered = Numbered(
                    host,
                    addresses,
                    self._network.dialer(host),
                    self._application,
                    f"{self.seed}:{host}",
                )
                self._numbered.append(numbered)
                clients.append(numbered)
                users.start_soon(_on, host, numbered)
            await self._break(machines, hosts)
            for one in clients:
                one.stop()
            self.note("world", "healed")
            for machine in machines:
                if machine.lost:
                    machine.kill()  # the next process meets a damage that this one has not met
                machine.heal()
                await machine.start()
            healed_at = trio.current_time()
            await self._demand_an_ack(addresses)
            await self._demand_the_preferred_leader(machines, healed_at + LED_S)
        await self._demand_rest(machines)
        self._judge(machines)

    async def _break(self, machines: list[Machine], clients: list[str]) -> None:
        """Load and faults, until it is enough; then all faults are over."""
        source = random.Random(f"{self.seed}:faults")
        faults = Faults(machines, clients, self._network, self._freezer, self.counts, source, self.note)
        faults.transfer = partial(self._transfer, [str(machine.config.me.client) for machine in machines])
        with trio.move_on_after(self.swarm.load_s):
            await faults.run(self.swarm.faults, self.swarm.fault_every_s)

    async def _take_sources(self, addresses: list[str]) -> None:
        """The partition goes by the ring of all: no other one is there whose keys it would adopt."""
        HOST.set("operator")
        switch = RingSwitch(FIRST_VERSION + 1, self.share.partitions)
        for address in cycle(addresses):
            node = connect_node(address, partition=self.share.asked, dial=self._network.dialer("operator"))
            try:
                async with node as link:
                    await link.change_ring(switch)
                    return
            except EventStreamError:
                await trio.sleep(0.1)  # until one of them leads

    async def _transfer(self, addresses: list[str]) -> None:
        """The operator asks for another leader."""
        HOST.set("operator")
        source = random.Random(f"{self.seed}:operator:{self.counts['fault.transfer']}")
        try:
            async with connect(
                addresses,
                window=1,
                dial=self._network.dialer("operator"),
                rng=source,
                partition=self.share.asked,
            ) as log:
                old_leader, new_leader = await log.transfer_leadership()
        except EventStreamError as error:
            self.note("operator", f"no transfer: {error.code}")
        else:
            self.note("operator", f"from {old_leader} to {new_leader}")
            self.counts["op.transferred"] += 1

    async def _demand_an_ack(self, addresses: list[str]) -> None:
        """Somebody who comes now can append."""
        HOST.set("probe")
        event = {"id": "healed", "source": self.share.source("/probe"), "type": "t"}
        rng = random.Random(f"{self.seed}:probe")
        attempt = self.history.append_begins(key_of(event), trio.current_time())
        try:
            async with connect(
                addresses,
                timeout_s=HEALED_S,
                window=1,
                dial=self._network.dialer("probe"),
                rng=rng,
                partition=self.share.asked,
            ) as log:
                ack = await log.append(event)
            self.history.acked(attempt, (OffsetRange(ack.offset, 1),), trio.current_time())
        except WindowFull:
            self.note("probe", "refused")  # an answer: this world's window is meant to be full
        except EventStreamError as error:
            raise Violation("healed", f"no new event is taken within {HEALED_S:g} s: {error!r}") from error
        self.note("probe", "acked")

    async def _demand_the_preferred_leader(self, machines: list[Machine], deadline: float) -> None:
        """With several partitions: the node that is to lead does, and then nothing changes any more."""
        if self.share.partitions == 1:
            return
        while not any(self._leads_in_its_place(machine) for machine in machines):
            if trio.current_time() > deadline:
                told = ", ".join(f"{machine.host} {machine.place()}" for machine in machines)
                raise Violation("spread", f"after {LED_S:g} s the leader is not the preferred one: {told}")
            await trio.sleep(0.1)
        before = self.counts["log.transfer_asked"]
        await trio.sleep(CALM_S)
        if self.counts["log.transfer_asked"] != before:
            raise Violation("spread", "a leader in its place has handed over")

    def _leads_in_its_place(self, machine: Machine) -> bool:
        """Whether its node leads, and is to, or an operator has chosen it."""
        if machine.node is None or not machine.node.view.leads:
            return False
        placement = machine.node.placement()
        assert placement is not None
        self.counts[f"placement.{placement['why']}"] += 1
        return placement["why"] in {"asked", "placed"}

    async def _demand_rest(self, machines: list[Machine]) -> None:
        """Without load all nodes come to the same end."""
        with trio.move_on_after(LEVEL_S):
            for machine in machines:
                await machine.applied(lambda: self.audit.last_index)
            return
        places = ", ".join(f"{machine.host} {machine.place()}" for machine in machines)
        raise Violation("level", f"after {LEVEL_S:g} s of calm: {places} of {self.audit.last_index}")

    def _judge(self, machines: list[Machine]) -> None:
        for machine in machines:
            self._compare_log(machine)
        for numbered in self._numbered:
            numbered.check(bytes(self.audit.keys))
        findings = self.history.check(self.audit.keys, may_repeat=self.audit.may_repeat)
        for finding in findings.examples:
            raise Violation(finding.flaw.value, finding.text)
        self.counts["op.in order"] = self._application.order.judge(self.audit.keys)
        self.counts["op.events"] = self.audit.next_offset

    def _compare_log(self, machine: Machine) -> None:
        """What a node has on its disk is what was applied."""
        node = machine.node
        assert node is not None, "it has just applied everything"
        self.audit.same_state(machine.host, node.machine)
        storage = node.worker.storage
        found = storage.recover()
        for page in pages(storage, found.prefix_index + 1, self.audit.last_index, limits.MAX_FETCH_BYTES):
            for entry in page:
                self.audit.same_entry(machine.host, entry)


async def _on(host: str, client: Client | Numbered) -> None:
    HOST.set(host)
    await client.run()


def _configs(swarm: Swarm, share: Share) -> list[Config]:
    members = tuple(
        Member(n, Address(f"10.0.0.{n}", 7200), Address(f"10.0.0.{n}", 7100))
        for n in range(1, swarm.nodes + 1)
    )
    return [
        Config(
            "simulated",
            member.id,
            Path("nowhere"),
            members,
            storage="memory",
            raft=swarm.timers,
            dedup=swarm.dedup,
            retention=swarm.retention,
            partitions=share.partitions,
            partition=share.partition,
        )
        for member in members
    ]


def run(seed: int, *, listener: Listener | None = None, share: Share = ALONE) -> Outcome:
    """One world, from its seed; `share`: which of several partitions it is."""
    world = World(seed, listener, share)
    violation: Violation | None = None
    try:
        with told(world.tell), _lowered(seed, world.swarm):
            run_deterministically(world.play, random.Random(f"{seed}:scheduler"))
    except* Violation as group:
        violation = _first(group)
    except* (
        EventStreamError,
        AssertionError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as group:
        text = "".join(traceback.format_exception(group))
        violation = Violation("no node fails", f"{group.exceptions[0]!r}\n{text}")
    return Outcome(seed, "B", world.ended_s, world.trace.digest, world.counts, violation)


@contextmanager
def _lowered(seed: int, swarm: Swarm) -> Iterator[None]:
    """The bounds of this world, in place of those that ship."""
    with ExitStack() as stack:
        for name, value in swarm.limits.items():
            stack.enter_context(patch.object(limits, name, value))
        if has_small_chunks(seed):
            stack.enter_context(small_chunks())
        yield


def _first(group: BaseExceptionGroup[Violation]) -> Violation:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
