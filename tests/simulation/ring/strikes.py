"""Strikes whoever says something of the ring, right then, and lets clients ask the next leader at once.

Faults at random moments hardly ever meet the milliseconds in which an entry about the ring is in a leader's
log and not yet applied. Here each such entry may bring a crash, a cut, a pause or a lost prefix upon its
leader; and as soon as another leads there, clients with an old ring send it events of the sources that move.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from esnode.dedup.batch import event_key
from esnode.dedup.ownership import Adoption, RingChange, RingPlan, ring_of
from esnode.raft.messages import Transfer
from tests.simulation.host import Host
from tests.simulation.schedule import MS, SECOND

from .clients import Sending, nothing
from .invariants import Known, source_name, token_of_source

if TYPE_CHECKING:
    from .world import RingWorld

AFTER_MS: Final = (0, 0, 1, 3, 10, 50)
FOR_MS: Final = (100, 600, 2_000)
REMEMBERED_NS: Final = 6 * SECOND
"""So long after a strike the next leader is asked."""
RARELY: Final = 0.1
"""There are many adoptions for one switch."""
ASKED: Final = 4
MISSED: Final = 6
MISSED_NS: Final = SECOND
STRAY: Final = 1 << 44
"""Events of those who ask have numbers from here on."""


class Strikes:
    """Over all groups."""

    def __init__(self, world: "RingWorld") -> None:
        self._world = world
        self._random = random.Random(f"{world.seed}:strikes")
        self._until_ns: dict[int, int] = {}
        self._asked = 0

    def appended(self, partition: int, host: Host, change: RingChange) -> None:
        """A leader has this in its log, and hands it to its disk."""
        world, source = self._world, self._random
        chance = world.weather.struck * (RARELY if isinstance(change, Adoption) else 1.0)
        if world.is_calm or source.random() >= chance:
            return
        if not isinstance(change, RingPlan):
            self._until_ns[partition] = world.schedule.now_ns + REMEMBERED_NS
        after_ns = int(source.choice(AFTER_MS) * source.uniform(0.3, 1.0) * MS)
        world.counts[f"struck.{type(change).__name__}"] += 1
        kinds: tuple[Callable[[Host, int], None], ...]
        kinds = (self._end, self._sever, self._pause, self._transfer, self._cut_prefix)
        for_ns = source.choice(FOR_MS) * MS
        world.schedule.after(after_ns, source.choice(kinds), host, for_ns)

    def leads(self, partition: int, node: int) -> None:
        """Another node leads a group."""
        world = self._world
        plans = world.over_all.plans
        if world.schedule.now_ns > self._until_ns.get(partition, -1) or world.is_calm or not plans:
            return
        moving = [
            source
            for source, old_owner, new_owner in self._moving(plans[-1])
            if partition in (old_owner, new_owner)
        ]
        for source in self._random.sample(moving, min(ASKED, len(moving))):
            client = self._random.choice(world.clients)
            Sending(client, (self._new_event(source),), partition, nothing, node=node).try_again()
            world.counts["struck.asked"] += 1

    def planned(self, plan: RingPlan) -> None:
        """Clients send events of sources that are to move, and miss the ack: they come back later."""
        world = self._world
        moving = [source for source, _, _ in self._moving(plan)]
        for source in self._random.sample(moving, min(MISSED, len(moving))):
            client = self._random.choice(world.clients)
            event = self._new_event(source)
            after_ns = self._random.randint(0, MISSED_NS)
            world.schedule.after(after_ns, partial(client.send, (event,), nothing, deaf=True))

    def _moving(self, plan: RingPlan) -> list[tuple[int, int, int]]:
        """The sources that move, with their old and new owners."""
        old, new = ring_of(plan.version - 1, plan.old_partitions), ring_of(plan.version, plan.partitions)
        sources = range(self._world.weather.sources)
        owners = [
            (each, old.owner(token_of_source(each)), new.owner(token_of_source(each))) for each in sources
        ]
        return [each for each in owners if each[1] != each[2]]

    def _new_event(self, source: int) -> tuple[int, int]:
        self._asked += 1
        number = STRAY + self._asked
        key = event_key(source_name(source), str(number))
        self._world.over_all.known[key] = Known(number, source, alone=True, ordered=False)
        return number, source

    # --- what befalls the leader -----------------------------------------------------------------

    def _end(self, host: Host, for_ns: int) -> None:
        if host.up:
            torn = self._random if self._random.random() < 0.5 else None
            host.end(heard=torn is None, torn=torn)
            host.world.restart_later(host, for_ns)

    def _sever(self, host: Host, for_ns: int) -> None:
        if not host.world.is_calm:
            others = [voter for voter in host.world.voters if voter != host.id]
            ways = [pair for each in others for pair in ((host.id, each), (each, host.id))]
            host.world.network.sever(ways, for_ns)

    def _pause(self, host: Host, for_ns: int) -> None:
        if host.up and not host.paused:
            host.pause()
            self._world.schedule.after(for_ns, self._resume, host, host.life)

    def _resume(self, host: Host, life: int) -> None:
        if host.life == life and host.up and host.paused:
            host.resume()

    def _transfer(self, host: Host, for_ns: int) -> None:
        host.hear(Transfer(None))

    def _cut_prefix(self, host: Host, for_ns: int) -> None:
        """Two of three begin with a snapshot from now on; one of them starts anew soon."""
        for other in self._random.sample(list(host.world.hosts.values()), 2):
            other.cut_prefix(self._random.choice((0.5, 1.0)))
        self._world.schedule.after(100 * MS, self._end, other, for_ns)
