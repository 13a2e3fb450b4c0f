"""Tier A: one cluster under one tape, from its first boot until it has come to rest after all faults.

`run` is the whole of it: a seed in, an `Outcome` out. The core, the driver, the deduplication, the machine
and the log's storage are those that ship; there is no trio, no clock and no thread.
"""

import random
from collections import Counter
from typing import Final

from esctl.proof.operations import Operations

from .clients import Client
from .faults import Faults
from .host import Host
from .invariants import Invariants, demand
from .network import Network
from .outcome import Outcome, Violation
from .schedule import MS, SECOND, Schedule
from .tape import Operation, Tape, record
from .trace import Listener, Trace
from .weather import Weather, draw

MINUTES: Final = 1.5
SETTLE_ELECTIONS: Final = 12
"""How many of the longest election time-outs a healed cluster may take to be level again, and a bit."""

LAST_EVENTS: Final = 1 << 40


class World:
    """Hosts, network, clients, and what holds over all of them."""

    def __init__(self, seed: int, weather: Weather, listener: Listener | None) -> None:
        self.seed = seed
        self.weather = weather
        self.voters = tuple(range(1, weather.voters + 1))
        self.schedule = Schedule()
        self.trace = Trace(listener)
        self.counts: Counter[str] = Counter()
        self.history = Operations()
        self.is_calm = False
        self._last_event = LAST_EVENTS
        self.hosts = {node_id: Host(node_id, self) for node_id in self.voters}
        self.invariants = Invariants(self.hosts, weather.dedup, self.counts)
        source = random.Random(f"{seed}:net")
        self.network = Network(self.schedule, self.trace, self.hosts, weather.link, self.counts, source)
        self.clients = [Client(number, self) for number in range(weather.load.clients)]
        self.faults = Faults(self)
        self._random = random.Random(f"{seed}:world")

    def play(self, tape: Tape) -> None:
        """Boot, let everything on the tape happen, heal, and look at what is there."""
        for host in self.hosts.values():
            self.schedule.after(self._random.randint(0, 500 * MS), self._start, host)
        for fault in tape.faults:
            self.schedule.after(fault.at_ns, self.faults.befall, fault)
        for operation in tape.operations:
            self.schedule.after(operation.at_ns, self.clients[operation.client].begin, operation)
        self.schedule.run_until(self.weather.duration_ms * MS)
        self._settle()
        self._judge()

    def restart_later(self, host: Host, after_ns: int | None = None) -> None:
        """Somebody will start it again."""
        if after_ns is None:
            after_ns = int(self._random.expovariate(0.5) * SECOND)
        self.schedule.after(after_ns, self._start, host)

    def _start(self, host: Host) -> None:
        if not host.up:
            host.guard(host.start)

    # --- the end ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Healthy, a cluster is level and acks within a bounded number of time-outs; and with any one node
        in trouble it acks all the same, for as long as the trouble lasts (liveness)."""
        self._heal()
        self._demand_level("after the faults")
        if len(self.voters) > 1:
            self._trouble_one()
            self._demand_answer("while one node is in trouble")
            self._heal()
            self._demand_level("after the last fault")
        self._demand_answer("with all nodes well")
        self._demand_level("after the last event")

    def _heal(self) -> None:
        """Every fault that still lasts ends; what clients have begun goes on."""
        self.is_calm = True
        self.network.calm()
        for host in self.hosts.values():
            self.faults.heal(host)
            self._start(host)

    def _trouble_one(self) -> None:
        """One node, the leader for choice, is down, cut off, deaf or mute, or does not see one other."""
        leader = next(
            (host.id for host in self.hosts.values() if host.process and host.process.view.leads), 1
        )
        node = self._random.choice((leader, leader, self._random.choice(self.voters)))
        other = self._random.choice([voter for voter in self.voters if voter != node])
        kind = self._random.choice(("down", "isolate", "deaf", "mute", "bridge"))
        self.counts[f"lasting.{kind}"] += 1
        self.trace.note(self.schedule.now_ns, "!", f"from now on {kind} {node} {other}")
        self.faults.trouble(kind, self.hosts[node], other)

    def _patience_ns(self) -> int:
        timers, load = self.weather.timers, self.weather.load
        return (
            SETTLE_ELECTIONS * (timers.election_ms + timers.jitter_ms) + 5 * load.attempt_ms
        ) * MS + 15 * SECOND

    def _demand_level(self, when: str) -> None:
        begun_ns = self.schedule.now_ns
        self.schedule.run_until(begun_ns + self._patience_ns(), self._is_level)
        state = [host.describe() for host in self.hosts.values()]
        after_s = (self.schedule.now_ns - begun_ns) / SECOND
        demand(self._is_level(), "liveness", f"not level {after_s:.1f} s {when}: {state}")

    def _demand_answer(self, when: str) -> None:
        """An event is acked; or refused, because the window is full."""
        answered, end_ns = self._answers(), self.schedule.now_ns + self._patience_ns()
        while self._answers() == answered and self.schedule.now_ns < end_ns:
            self._last_event += 1
            self.clients[0].begin(Operation(0, 0, (self._last_event,), session=False, to=1))
            give_up_ns = self.schedule.now_ns + self.weather.load.give_up_ms * MS
            self.schedule.run_until(give_up_ns, lambda: self._answers() > answered)
        state = [host.describe() for host in self.hosts.values()]
        demand(self._answers() > answered, "liveness", f"nothing is acked {when}: {state}")

    def _answers(self) -> int:
        return self.counts["op.append"] + self.counts["refused.WINDOW_FULL"]

    def _is_level(self) -> bool:
        """One leads, all others are sound and have applied what it has."""
        leader = self.leader()
        processes = [host.process for host in self.hosts.values()]
        if leader is None or None in processes:
            return False
        newest = self.hosts[leader].process
        assert newest is not None
        last_index, term = newest.core.log.last_index, newest.core.term
        return all(
            process.machine.applied_index == last_index
            and process.core.term == term
            and not process.core.rejoining
            for process in processes
            if process is not None
        )

    def leader(self) -> int | None:
        """Who leads in the highest term."""
        leading = [
            (host.process.core.term, host.id)
            for host in self.hosts.values()
            if host.process is not None and host.process.view.leads
        ]
        return max(leading)[1] if leading else None

    def _judge(self) -> None:
        """Clients' history against the log."""
        invariants = self.invariants
        log = b"".join(invariants.key_at)
        findings = self.history.check(log, may_repeat=invariants.may_repeat)
        for finding in findings.examples:
            raise Violation(f"history: {finding.flaw.value}", finding.text)


def run(
    seed: int, *, minutes: float = MINUTES, tape: Tape | None = None, listener: Listener | None = None
) -> Outcome:
    """Play the world of `seed`, with its own tape or a shortened one."""
    weather = draw(seed, minutes)
    world = World(seed, weather, listener)
    violation = None
    try:
        world.play(tape if tape is not None else record(seed, weather))
    except Violation as error:
        violation = error
        world.trace.note(world.schedule.now_ns, "!", str(error))
    return Outcome(seed, "A", world.schedule.now_ns / SECOND, world.trace.digest, world.counts, violation)
