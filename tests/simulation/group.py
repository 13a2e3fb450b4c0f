"""One Raft group: its hosts, the network between them, what holds over them, and what befalls them.

A world of tier A is one of these, with clients (`world.py`). A world of tier R has several, which share time
and trace and nothing else (`ring/world.py`).
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from .faults import Faults
from .host import Host
from .hunt import Hunt
from .invariants import Invariants, demand
from .network import Network
from .schedule import MS, SECOND, Schedule
from .tape import Operation
from .trace import Trace
from .weather import Weather

if TYPE_CHECKING:
    from collections.abc import Mapping

    from esnode.config import Dedup

    MakeInvariants = Callable[[Mapping[int, Host], Dedup, Counter[str]], Invariants]


class Asker(Protocol):
    """Whom a hunt lets ask its victim."""

    number: int
    leader: int

    def begin(self, operation: Operation) -> None:
        """Do it; nobody waits for it."""
        ...


class Group:
    """Hosts, numbered from 1, that are one partition."""

    def __init__(
        self,
        seed: int,
        weather: Weather,
        schedule: Schedule,
        trace: Trace,
        counts: Counter[str],
        *,
        partition: int = 0,
        invariants: "MakeInvariants" = Invariants,
    ) -> None:
        self.seed = seed
        self.weather = weather
        self.partition = partition
        self.voters = tuple(range(1, weather.voters + 1))
        self.schedule = schedule
        self.trace = trace
        self.counts = counts
        self.is_calm = False
        self.hunts: list[Hunt] = []
        self.askers: Sequence[Asker] = ()
        self._leader: int | None = None
        self.hosts = {node_id: Host(node_id, self) for node_id in self.voters}
        self.invariants = invariants(self.hosts, weather.dedup, counts)
        source = random.Random(f"{seed}:net")
        self.network = Network(schedule, trace, self.hosts, weather.link, counts, source)
        self.faults = Faults(self)
        self.random = random.Random(f"{seed}:world")

    def boot(self) -> None:
        """Start all, not at once."""
        for host in self.hosts.values():
            self.schedule.after(self.random.randint(0, 500 * MS), self._start, host)

    def restart_later(self, host: Host, after_ns: int | None = None) -> None:
        """Somebody will start it again."""
        if after_ns is None:
            after_ns = int(self.random.expovariate(0.5) * SECOND)
        self.schedule.after(after_ns, self._start, host)

    def _start(self, host: Host) -> None:
        if not host.up:
            host.guard(host.start)

    def heal(self) -> None:
        """Every fault that still lasts ends; what clients have begun goes on."""
        self.is_calm = True
        self.network.calm()
        for host in self.hosts.values():
            self.faults.heal(host)
            self._start(host)

    # --- where it stands -------------------------------------------------------------------------

    def end_of_patience(self, elections: int, grace_ns: int) -> int:
        """When what needs so many elections at most, and so much more time, should be done."""
        timers = self.weather.timers
        return self.schedule.now_ns + elections * (timers.election_ms + timers.jitter_ms) * MS + grace_ns

    def demand_level(self, when: str, elections: int, grace_ns: int) -> None:
        """Let time pass until all are level; a `Violation` where that takes too long."""
        begun_ns = self.schedule.now_ns
        self.schedule.run_until(self.end_of_patience(elections, grace_ns), self.is_level)
        after_s = (self.schedule.now_ns - begun_ns) / SECOND
        demand(self.is_level(), "liveness", f"not level {after_s:.1f} s {when}: {self.describe()}")

    def describe(self) -> list[str]:
        """Where each host stands, for a failure's text."""
        return [host.describe() for host in self.hosts.values()]

    def is_level(self) -> bool:
        """One leads, all others are sound and have applied what it has."""
        leader = self.leader()
        processes = [host.process for host in self.hosts.values()]
        if leader is None or None in processes:
            return False
        newest = self.hosts[leader].process
        assert newest is not None
        last_index, term = newest.core.log.last_index, newest.core.term
        return not any(host.distrusted for host in self.hosts.values()) and all(
            process.machine.applied_index == last_index
            and process.core.term == term
            and not process.core.rejoining
            for process in processes
            if process is not None
        )

    def leader(self) -> int | None:
        """Who leads in the highest term."""
        return self._leader

    def leader_may_have_changed(self) -> None:
        """A node shows another role or term, or has ended: nothing else makes or unmakes a leader."""
        leading = [
            (host.process.core.term, host.id)
            for host in self.hosts.values()
            if host.process is not None and host.process.view.leads
        ]
        leader = max(leading)[1] if leading else None
        if leader != self._leader:
            self._leader = leader
            self.hunts = [hunt for hunt in self.hunts if hunt.goes_on()]
