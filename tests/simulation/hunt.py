"""A hunt: whoever is elected is struck soon after, again and again, while clients still ask the victim.

Raft's hard cases (its figure 8, a long tail of an old term, answers that outlive a term) need several
leaders in a row, each of which leaves something behind. Single faults at random moments hardly ever line
up so. All of it follows from the salt of the fault. Started by `faults.py`.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .host import BOUNDARIES, Host
from .schedule import MS
from .tape import Fault, Operation

if TYPE_CHECKING:
    from .group import Group

LOOK_NS: Final = 3 * MS
"""It looks around this often; but only once the leader has changed, since it would see nothing else."""
LOOKS: Final = 2_000
"""How often in vain: then the hunt is given up."""
AFTER_MS: Final = (0, 1, 3, 10, 30, 200, 600)
"""How long a leader is left alone."""
EVENTS: Final = 1 << 58


class Hunt:
    """One hunt, from the first leader that is met to the last."""

    def __init__(self, world: "Group", fault: Fault) -> None:
        self._world = world
        self._random = random.Random(f"{fault.salt}:hunt")
        self._strikes = self._random.randint(3, 10)
        self._victim = 0
        self._since_ns = world.schedule.now_ns
        """The first look after the last victim was found."""
        self._looks_soon = False
        self._asked = 0
        self._first_event = EVENTS + (fault.salt << 20)

    def look(self) -> None:
        """Is somebody new leading?"""
        world = self._world
        self._looks_soon = False
        leader = world.leader()
        if world.is_calm or leader in (None, self._victim):
            return
        assert leader is not None
        self._victim, self._since_ns = leader, world.schedule.now_ns + LOOK_NS
        self._strikes -= 1
        after_ms = self._random.choice(AFTER_MS) * self._random.uniform(0.5, 1.5)
        world.schedule.after(int(after_ms * MS), self._strike, world.hosts[leader])

    def goes_on(self) -> bool:
        """Another leads, or nobody: look when it is time. False when the hunt is over."""
        waited_ns = self._world.schedule.now_ns - self._since_ns
        looks = waited_ns // LOOK_NS + 1
        if self._world.is_calm or not self._strikes or looks > LOOKS:
            return False
        if not self._looks_soon:
            self._looks_soon = True
            self._world.schedule.after(looks * LOOK_NS - waited_ns, self.look)
        return True

    def _strike(self, host: Host) -> None:
        world, source = self._world, self._random
        if world.is_calm:
            return
        world.counts["fault.struck"] += 1
        for_ns = int(world.weather.timers.election_ms * source.uniform(0.5, 4.0) * MS)
        if source.random() < 0.5:
            for _ in range(source.randint(3, 20)):
                world.schedule.after(source.randint(0, 600 * MS), self._ask, host)
        if source.random() < 0.3:
            world.schedule.after(source.randint(100 * MS, 900 * MS), self._cut_prefixes, host)
        if source.random() < 0.3:
            slow = source.choice(list(world.hosts.values()))
            slow.slow_until_ns = world.schedule.now_ns + for_ns
        strikes: tuple[Callable[[Host, int], None], ...]
        strikes = (self._sever, self._sever, self._hold, self._crash, self._arm, self._pause)
        source.choice(strikes)(host, for_ns)

    def _others(self, host: Host) -> list[tuple[int, int]]:
        others = [voter for voter in self._world.voters if voter != host.id]
        return [pair for each in others for pair in ((host.id, each), (each, host.id))]

    def _sever(self, host: Host, for_ns: int) -> None:
        self._world.network.sever(self._others(host), for_ns)

    def _hold(self, host: Host, for_ns: int) -> None:
        """A partition as TCP sees it: what was sent into it arrives when it is over."""
        pairs = [pair for pair in self._others(host) if self._random.random() < 0.9]
        self._world.network.hold(pairs, for_ns)

    def _crash(self, host: Host, for_ns: int) -> None:
        if host.up:
            torn = self._random if self._random.random() < 0.5 else None
            host.end(heard=torn is None, torn=torn)
            self._world.restart_later(host, for_ns)

    def _arm(self, host: Host, for_ns: int) -> None:
        host.armed = self._random.choice(BOUNDARIES)

    def _pause(self, host: Host, for_ns: int) -> None:
        if host.up and not host.paused:
            host.pause()
            self._world.schedule.after(for_ns, self._resume, host, host.life)

    def _resume(self, host: Host, life: int) -> None:
        if host.life == life and host.up and host.paused:
            host.resume()

    def _cut_prefixes(self, victim: Host) -> None:
        """The others' logs begin where they are now: the victim will need a snapshot."""
        for host in self._world.hosts.values():
            if host is not victim:
                host.cut_prefix(1.0)

    def _ask(self, victim: Host) -> None:
        """A client believes in this leader."""
        if self._world.is_calm:
            return
        client = self._random.choice(self._world.askers)
        client.leader = victim.id
        self._asked += 1
        events = () if self._random.random() < 0.4 else (self._first_event + self._asked,)
        client.begin(Operation(0, client.number, events, session=False, to=victim.id))
